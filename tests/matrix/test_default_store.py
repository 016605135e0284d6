"""A fresh installation: however a connection was added, the quick start keeps its tokens in it, and nothing is set."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_oauth_provider.connection.fields import FIELDS
from airflow_oauth_provider.oauth2.redaction import MASK
from scripts.environments import ROOT
from scripts.scene import Scene, example_dag
from tests.integration._web_form import Fields
from tests.servers.airflow import AirflowInstance


def by_form(airflow: AirflowInstance, conn_id: str, fields: dict[str, Any]) -> None:
    """As the page sends it: each field of ours, null where nobody entered anything, and ``***`` for what is hidden.

    All minor versions of Airflow 3 do so, by ``/api/v2/connections``: an empty column is left out, and ``extra`` is
    text with an indent of two. The form of Airflow 2 is a page of Flask's.
    """
    if airflow.version == "2.11":
        _send_classic_form(airflow, conn_id, fields)
        return
    shown = {field.key: MASK if field.kept else None for field in FIELDS if field.in_form}
    extra = json.dumps(shown | fields["extra"], indent=2)
    airflow.api("POST", "/connections", {**fields, "connection_id": conn_id, "extra": extra})


def _send_classic_form(airflow: AirflowInstance, conn_id: str, fields: dict[str, Any]) -> None:
    with requests.Session() as session:
        login = Fields(session.get(f"{airflow.url}/login/", timeout=60).text).values
        login |= {"username": airflow.username, "password": airflow.password}
        session.post(f"{airflow.url}/login/", data=login, timeout=60).raise_for_status()
        page = f"{airflow.url}/connection/add"
        sent = Fields(session.get(page, timeout=60).text).values
        sent |= {name: value for name, value in fields.items() if name != "extra"}
        sent |= {f"extra__oauth2__{key}": value for key, value in fields["extra"].items()}
        answer = session.post(page, data=sent | {"conn_id": conn_id}, timeout=60, allow_redirects=False)
    assert answer.status_code == 302, f"the form came back: {answer.text[-2000:]}"


def by_api(airflow: AirflowInstance, conn_id: str, fields: dict[str, Any]) -> None:
    airflow.add_connection(conn_id, fields)


def by_command(airflow: AirflowInstance, conn_id: str, fields: dict[str, Any]) -> None:
    airflow.cli("connections", "add", conn_id, "--conn-json", json.dumps(fields))


def by_import(airflow: AirflowInstance, conn_id: str, fields: dict[str, Any]) -> None:
    file = airflow.folder / f"{conn_id}.json"
    file.write_text(json.dumps({conn_id: fields}))
    airflow.cli("connections", "import", str(file))
    file.unlink()  # it holds the client secret, which another test looks for in what Airflow has written


WAYS: dict[str, Callable[[AirflowInstance, str, dict[str, Any]], None]] = {
    "by_form": by_form,
    "by_api": by_api,
    "by_command": by_command,
    "by_import": by_import,
}


@pytest.fixture(scope="module")
def runs(scene: Scene) -> dict[str, str]:
    """The quick start has run once on each connection: conn id to run id."""
    airflow = scene.airflow
    for conn_id, way in WAYS.items():
        scene.connect(conn_id, "connection", lambda name, fields, way=way: way(airflow, name, fields))
        dag_id, source = example_dag("quickstart", conn_id)
        airflow.add_dag(f"{dag_id}.py", source)
    started = {conn_id: airflow.trigger(f"quickstart_{conn_id}") for conn_id in WAYS}
    for conn_id, run_id in started.items():
        airflow.wait(f"quickstart_{conn_id}", run_id)
    return started


@pytest.mark.parametrize("conn_id", WAYS)
def test_it_refreshes_and_keeps_the_tokens_in_the_connection(scene, runs, conn_id, version):
    airflow, dag_id, run_id = scene.airflow, f"quickstart_{conn_id}", runs[conn_id]
    assert airflow.run_state(dag_id, run_id) == "success", airflow.explain(dag_id, run_id)
    status = airflow.xcom(dag_id, run_id, "refresh")
    assert (status["store"], status["generation"]) == ("connection", 1)
    extra = airflow.connection(conn_id)["extra"]
    assert json.loads(extra["token_record"])["generation"] >= 1
    if version == "2.11":
        assert "token_record_key" not in extra
        return
    assert next(iter(extra.items())) == ("use_oauth2_hook", {})
    assert len(extra["token_record_key"]) == 43
    assert airflow.variable(f"oauth2_token_record__{conn_id}") is None


def test_none_of_them_was_spent_twice(scene, runs):
    del runs
    counts = scene.server.stats()
    assert (counts["reuses"], counts["grants_revoked"]) == (0, 0)


def test_the_grants_as_json(scene, runs, version):
    """For scripts, with a bearer token; the pages need a session that opens a plugin's routes, so 3.1."""
    del runs
    airflow, pages = scene.airflow, f"{scene.airflow.url}/oauth2-grants"
    if version == "2.11":
        assert airflow.request("GET", f"{pages}/json/grants").status_code == 404
        return
    assert requests.get(f"{pages}/json/grants", timeout=60).status_code == 401
    listed = {grant["connection"]: grant for grant in airflow.request("GET", f"{pages}/json/grants").json()["grants"]}
    for conn_id in WAYS:
        one = airflow.request("GET", f"{pages}/json/grant?connection={conn_id}").json()
        assert (listed[conn_id]["refreshes"], listed[conn_id]["store"]) == (one["refreshes"], "connection")
        assert one["events"][-1]["actor"] == f"quickstart_{conn_id}/refresh"
    answer = airflow.request("POST", f"{pages}/json/refresh?connection=by_api")
    assert (answer.status_code, answer.json()["rotated"]) == (200, True)
    assert airflow.request("GET", f"{pages}/json/grant?connection=none").status_code == 404
    assert airflow.request("GET", f"{pages}/").status_code == (404 if version == "3.0" else 200)


def test_nothing_but_these_connections_was_set_up(scene, runs):
    del runs
    found = {connection["connection_id"] for connection in scene.airflow.api("GET", "/connections")["connections"]}
    assert "airflow_api" not in found


def test_a_task_that_is_only_tested_needs_no_server(scene, version):
    scene.connect("by_test", "connection")
    dag_id, source = example_dag("quickstart", "by_test")
    scene.airflow.add_dag(f"{dag_id}.py", source)
    scene.airflow.wait_for_dag(dag_id)
    command = [scene.airflow.python, "-m", "airflow", "tasks", "test", dag_id, "refresh", "2026-01-01"]
    environ = {**scene.airflow.environ, "AIRFLOW__OAUTH2__API_URL": "http://127.0.0.1:1"}
    done = subprocess.run(command, env=environ, cwd=scene.airflow.folder, capture_output=True, text=True, timeout=300)
    said = done.stdout[-6000:] + done.stderr[-3000:]  # the command ends well though the task has failed
    if version == "3.2" and "'State' object has no attribute 'svcs_registry'" in said:
        return  # Airflow 3.2.2 runs no task in this way: its own in-process Execution API does not start
    extra = scene.airflow.connection("by_test")["extra"]
    assert json.loads(extra.get("token_record", "{}")).get("generation") == 1, said


TEAMS = """
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.exceptions import StoreNotWritable
try:
    ConnectionLoader("shared").load()
except StoreNotWritable as error:
    print("REFUSED", error)
"""


def test_teams_are_refused_a_variable_that_one_of_them_does_not_see(instance, version):
    """From 3.2 on there are teams; before, the setting means nothing and sets nothing free."""
    shared = {"conn_type": "oauth2", "host": "https://api", "extra": {"oauth_url": "https://as", "refresh_token": "r"}}
    environ = {
        **instance.environ,
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW_CONN_SHARED": json.dumps(shared),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [instance.python, "-c", TEAMS], env=environ, cwd=instance.folder, capture_output=True, text=True, timeout=120
    )
    assert "REFUSED Connection 'shared'" in done.stdout or "REFUSED The connection 'shared'" in done.stdout, done.stderr
    assert "'vault'" in done.stdout
