"""The example DAGs run on this Airflow, against a real authorization server and a real Vault."""

from __future__ import annotations

import pytest
import requests

from airflow_oauth_provider.connection.fields import FIELDS
from scripts.environments import ROOT, airflow_version_of
from tests.e2e.leaks import Secrets, in_files
from tests.matrix.conftest import STORES
from tests.matrix.test_provider import probe

EXAMPLES = sorted(path.stem for path in (ROOT / "example_dags").glob("*.py"))
DAGS = [*EXAMPLES, *(f"quickstart_{store}" for store in STORES)]
IN_FORM = {field.key: field for field in FIELDS if field.in_form}
STANDARD_LABELS = {"host": "API base URL", "login": "Client ID", "password": "Client secret"}


def test_the_running_airflow_is_the_one_that_was_asked_for(instance, cell):
    assert instance.api("GET", "/version")["version"] == airflow_version_of(cell)


def test_no_example_dag_has_an_import_error_or_a_warning(instance):
    for name in EXAMPLES:
        instance.wait_for_dag(name)

    assert instance.import_errors() == []
    assert instance.api("GET", "/dagWarnings")["dag_warnings"] == []


def test_the_connection_form_shows_every_field(instance, version, tmp_path):
    if version == "2.11":
        widgets = probe(tmp_path, "provider")["widgets"]
        assert {name.removeprefix("extra__oauth2__") for name in widgets} == set(IN_FORM)
        return
    # What the UI itself reads.
    hooks = instance.request("GET", f"{instance.url}/ui/connections/hook_meta").json()
    (form,) = [hook for hook in hooks if hook["connection_type"] == "oauth2"]
    labels = {name: form["standard_fields"][name]["title"] for name in STANDARD_LABELS}

    assert form["hook_name"] == "OAuth 2.0"
    assert labels == STANDARD_LABELS
    assert set(form["extra_fields"]) == set(IN_FORM)


@pytest.fixture(scope="module")
def runs(scene):
    """Every example DAG has run once, the quick start on each store: DAG id to run id."""
    airflow = scene.airflow
    started = {dag_id: airflow.trigger(dag_id) for dag_id in DAGS}
    for dag_id, run_id in started.items():
        airflow.wait(dag_id, run_id)
    return started


@pytest.mark.parametrize("dag_id", DAGS)
def test_the_dag_runs(scene, runs, dag_id):
    airflow, run_id = scene.airflow, runs[dag_id]

    assert airflow.run_state(dag_id, run_id) == "success", airflow.explain(dag_id, run_id)


@pytest.mark.parametrize("conn_id", ["demo", *STORES])
def test_the_tokens_were_rotated_and_kept(scene, runs, conn_id):
    dag_id = "quickstart" if conn_id == "demo" else f"quickstart_{conn_id}"
    status = scene.airflow.xcom(dag_id, runs[dag_id], "refresh")
    kept = scene.kept(conn_id)

    assert status["store"] == ("connection" if conn_id == "demo" else conn_id)
    assert status["generation"] >= 1
    assert kept.generation >= status["generation"]
    assert kept.refresh_token != scene.first_refresh_token(conn_id)
    assert len(scene.fetched(dag_id, runs[dag_id])) == 10


def test_all_of_them_together_spent_no_refresh_token_twice(scene, runs):
    del runs
    counts = scene.server.stats()

    assert counts["spends"] >= 3
    assert (counts["reuses"], counts["grants_revoked"]) == (0, 0)


def test_no_log_holds_a_token_of_a_variable(scene, runs, version):
    """Airflow 3 logs, unmasked, what a task writes into a variable: there it is sealed."""
    del runs
    airflow, kept = scene.airflow, scene.kept("variable")
    secrets = {*kept.tokens, scene.first_refresh_token("variable"), scene.client.client_secret}
    assert len(secrets) == 4

    assert in_files(airflow.folder, Secrets(secrets)) == []
    logged = "".join(path.read_text(errors="replace") for path in airflow.log_files())
    assert ('PutVariable(key=\'oauth2_token_record__variable\', value=\'{"format":"sealed-1"' in logged) == (
        version != "2.11"
    )


def test_the_api_server_has_the_route_of_the_plugin(instance, version):
    url = f"{instance.url}/oauth2-token-store/connections/demo/token-record"
    if version == "2.11":  # its tasks write the database themselves
        assert instance.request("PUT", url, json={}).status_code == 404
        return
    assert "oauth2_token_store" in [plugin["name"] for plugin in instance.api("GET", "/plugins")["plugins"]]
    # The key of the connection opens it, and no user.
    assert requests.put(url, json={}, timeout=60).status_code == 403
    assert instance.request("PUT", url, json={}).status_code == 403
