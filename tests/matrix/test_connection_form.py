"""Each Airflow version shows the fields of the connection, from the one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from airflow_oauth_provider.compat.extra_json import RECORD_MEMBER
from airflow_oauth_provider.connection.fields import FIELDS
from airflow_oauth_provider.oauth2.redaction import MASK
from scripts.environments import ROOT, clean_environ, minor_of
from tests.matrix import form_probe

CELL = os.environ.get("TEST_AIRFLOW", "")
VERSION = minor_of(CELL)
SHOWN = [field for field in FIELDS if field.in_form]
classic = pytest.mark.skipif(VERSION != "2.11", reason="only on Airflow 2")
modern = pytest.mark.skipif(VERSION == "2.11", reason="only on Airflow 3")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-m", "tests.matrix.form_probe"],
        env=clean_environ(AIRFLOW_HOME=str(tmp_path_factory.mktemp("home")), AIRFLOW__CORE__LOAD_EXAMPLES="False"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "oauth" not in done.stderr.lower(), done.stderr[-4000:]
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("PROBE ")]
    return json.loads(answer.removeprefix("PROBE "))


@modern
def test_airflow_3_describes_every_field(found):
    assert found["hook_name"] == "OAuth 2.0"
    # 3.0 makes no form for any provider without wtforms.
    assert list(found["extra_fields"]) == [field.key for field in SHOWN]
    for field in SHOWN:
        described = found["extra_fields"][field.key]
        schema = described["schema"]
        assert schema["title"] == field.title
        assert described["description"] == field.description
        assert "null" in schema["type"]
        assert (schema.get("format") == "password") == field.secret
        if choices := ("true", "false") if field.kind == "boolean" else field.choices:
            assert [choice for choice in schema["enum"] if choice] == list(choices)
        assert described["value"] == (MASK if field.kept else None)


@modern
def test_airflow_3_relabels_the_standard_fields(found):
    standard = found["standard_fields"]

    assert standard["host"]["title"] == "API base URL"
    assert standard["login"]["title"] == "Client ID"
    assert standard["password"]["title"] == "Client secret"
    assert standard["url_schema"]["hidden"]
    assert standard["port"]["hidden"]


@classic
def test_airflow_2_renders_every_field(found):
    assert found["fields"] == [field.key for field in SHOWN]
    for field in SHOWN:
        tag = "select" if field.choices or field.kind == "boolean" else "input"
        assert f'<{tag} id="extra__oauth2__{field.key}"' in found["page"]


@classic
def test_airflow_2_shows_no_secret(found):
    assert "a-refresh-token" not in found["page"]
    assert "kept-record" not in found["page"]


@classic
def test_airflow_2_saves_what_nobody_touched_as_it_was(found):
    assert found["errors"] == {}
    assert found["saved"] == form_probe.STORED
    assert found["saved"][RECORD_MEMBER] == "kept-record"
