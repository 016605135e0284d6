"""The provider is discovered, and its example DAGs are imported, without a word of complaint."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest

from scripts.environments import REQUIREMENTS, ROOT, airflow_version_of, clean_environ, minor_of

CELL = os.environ.get("TEST_AIRFLOW", "")
VERSION = minor_of(CELL)
EXAMPLES = sorted((ROOT / "example_dags").rglob("*.py"))
# What Airflow's own parts say about each other in any DAG file is not about us.
STOCK_DAG = """
from airflow import DAG
from airflow.providers.http.operators.http import HttpOperator

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

@dag(schedule=None)
def stock():
    @task
    def nothing(): pass

    nothing() >> HttpOperator(task_id="get")

stock()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An Airflow that has been started once: the first start makes airflow.cfg, which some versions remark on."""
    folder = tmp_path_factory.mktemp("home")
    probe(folder, "dag_files", os.devnull)
    return folder


def probe(home, *arguments):
    done = run(home, sys.executable, "-m", "tests.matrix.probes", *arguments)
    answers = [line for line in done.stdout.splitlines() if line.startswith("PROBE ")]
    return json.loads(answers[-1].removeprefix("PROBE "))


def run(home, *command):
    environ = clean_environ(AIRFLOW_HOME=str(home), AIRFLOW__CORE__LOAD_EXAMPLES="False")
    done = subprocess.run(
        list(map(str, command)), env=environ, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def test_this_is_the_airflow_that_was_asked_for():
    assert CELL, "TEST_AIRFLOW says which version is under test: run `make test-matrix`"
    assert importlib.metadata.version("apache-airflow") == airflow_version_of(CELL)
    assert importlib.metadata.version("apache-airflow").startswith(f"{VERSION}.")


def test_the_versions_of_a_release_are_those_of_its_official_constraint_file():
    """The lines stand in requirements/official: all that the package and its extras import."""
    if VERSION == CELL:
        return  # the newest of everything
    lines = (REQUIREMENTS / "official" / f"airflow-{CELL}.txt").read_text().split()
    official = dict(line.split("==") for line in lines)
    assert {name: importlib.metadata.version(name) for name in official} == official
    needed = {re.split(r"[<>=;\[ ]", line)[0].lower() for line in importlib.metadata.requires("airflow-oauth-provider")}
    assert needed - {"google-re2"} <= official.keys(), "google-re2 is in the file of 2.11.0 only"


def test_the_providers_manager_finds_it_without_a_warning(home):
    found = probe(home, "provider")

    assert found["version"] == importlib.metadata.version("airflow-oauth-provider")
    assert found["hook"] == "airflow_oauth_provider.hooks.oauth2.OAuth2Hook"
    assert [line for line in found["noise"] if "oauth" in line.lower()] == []


def test_the_plugin_is_loaded_without_any_configuration(home):
    found = probe(home, "plugins")

    assert found["names"] == ["oauth2_token_store"]
    assert found["errors"] == {}
    assert set(found["prefixes"]) == (set() if VERSION == "2.11" else {"/oauth2-grants", "/oauth2-token-store"})
    # There is no database here, and the server that is being started says what it could not do there.
    said = [line for line in found["noise"] if "could not be given their record keys now" not in line]
    assert [line for line in said if "oauth" in line.lower()] == []


def test_the_providers_list_has_it_without_a_warning(home):
    done = run(home, sys.executable, "-W", "always", "-m", "airflow", "providers", "list", "-o", "json")

    assert "airflow-oauth-provider" in done.stdout
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if "oauth" in line.lower()]
    assert [line for line in about_us if "warn" in line.lower() or "error" in line.lower()] == []


def test_the_example_dags_import_without_a_warning(home):
    stock = home / "stock.py"
    stock.write_text(STOCK_DAG)

    heard = probe(home, "dag_files", stock, *EXAMPLES)["heard"]

    said_anyway = set(heard.pop(str(stock)))
    assert len(heard) == len(EXAMPLES) >= 3
    assert {path: set(lines) - said_anyway for path, lines in heard.items()} == {path: set() for path in heard}


def test_output_and_fallback_may_be_in_an_object_store(home):
    program = (
        "from airflow_oauth_provider.stores.fallback import PathFallback\n"
        "print('PATH', PathFallback('s3://aws@bucket/folder')._path('key'))\n"
    )
    assert "PATH s3://aws@bucket/folder/key" in run(home, sys.executable, "-c", program).stdout


# Airflow takes commands from providers from 3.2 on; the module's own work everywhere.
PROGRAMS = [["airflow_oauth_provider"], *([["airflow", "oauth2"]] if CELL in ("3.2", "3.3") else [])]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda words: words[0])
def test_the_commands_are_there(home, program):
    connection = {"conn_type": "oauth2", "extra": {"oauth_url": "https://login.example.com", "leeway": "soon"}}
    environ = clean_environ(AIRFLOW_HOME=str(home), AIRFLOW_CONN_MINE=json.dumps(connection))
    command = [sys.executable, "-m", *program, "doctor", "mine"]
    done = subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the environment variable AIRFLOW_CONN_MINE" in done.stdout
    assert "the key 'leeway' of its extra is \"soon\"" in done.stdout
