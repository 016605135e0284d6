"""After the runs no secret of theirs stands anywhere in the clear: not in a log, not in the database."""

from __future__ import annotations

import pytest

from scripts.scene import example_dag
from tests.e2e.leaks import Secrets, every_value, in_database, in_files, mark

# Airflow's own list of passwords: the place where the administrator's password belongs.
PASSWORDS = "passwords.json"


@pytest.fixture(scope="module")
def ran(scene, runs):
    """A good run on each store, and a run that ends in an error: errors are where secrets get out."""
    scene.connect("dead", "variable")
    scene.revoke("dead")
    dag_id, source = example_dag("quickstart", "dead")
    scene.airflow.add_dag(f"{dag_id}.py", source)
    run_id = scene.airflow.trigger(dag_id)
    assert scene.airflow.wait(dag_id, run_id) == "failed"
    return {**runs, "dead": (dag_id, run_id)}


@pytest.fixture(scope="module")
def secrets(scene, ran):
    """Every secret that was issued, entered or sent until now."""
    del ran
    airflow = scene.airflow
    ours = {airflow.token(), airflow.secrets.fernet_key, airflow.secrets.jwt, airflow.secrets.web}
    found = scene.server.secrets() | scene.secrets() | ours
    # One grant for each connection, each refreshed at least once: tokens, codes and the client's secret.
    assert len(found) > 30
    assert {scene.kept(store).refresh_token for store in ("connection", "variable", "vault")} <= found
    return found


def test_no_file_holds_a_secret(scene, secrets):
    files = [path for path in scene.airflow.folder.rglob("*") if path.is_file()]

    assert len([path for path in files if path.match("*/task_id=*/*.log")]) >= 10
    assert {"api-server.log", "scheduler.log", "dag-processor.log", "triggerer.log"} <= {path.name for path in files}
    assert in_files(scene.airflow.folder, Secrets(secrets), leave_out=[PASSWORDS]) == []


def test_airflow_has_logged_what_tasks_wrote_into_variables(scene, ran):
    """It does so unmasked, at the level DEBUG: what was searched has the records in it, sealed."""
    del ran
    log = (scene.airflow.folder / "scheduler.log").read_text(errors="replace")
    written = [line for line in log.splitlines() if "PutVariable(key='oauth2_token_record__variable'" in line]

    assert len(written) >= 2
    assert all('"format":"sealed-1"' in line for line in written)


def test_no_column_of_the_database_holds_a_secret(scene, secrets):
    assert in_database(scene.airflow.db_url, Secrets(secrets)) == []


def test_what_was_searched_holds_what_is_to_be_searched(scene, ran):
    """Every place that the issue names has rows of these runs."""
    rows = {}
    for table, column, value in every_value(scene.airflow.db_url):
        rows.setdefault((table, column), []).append(value)

    for dag_id, _ in ran.values():
        assert dag_id.encode() in rows["task_instance", "dag_id"]
    assert len(rows["xcom", "value"]) >= 10
    assert len(rows["rendered_task_instance_fields", "rendered_fields"]) >= 10
    assert any(b"oauth2_put_token_record" in value for value in rows["log", "event"])
    assert any(b"token_record" in value for value in rows["variable", "key"])


def test_the_tokens_are_in_the_database_encrypted(scene, ran):
    """The search looked at the right database: decrypted, it is full of secrets."""
    del ran
    token = scene.kept("connection").refresh_token

    (encrypted,) = scene.airflow.sql("SELECT extra FROM connection WHERE conn_id = :1", "connection")[0]

    assert token not in encrypted
    assert token in scene.airflow.decrypt(encrypted)


LEAKY = """
from airflow.sdk import DAG, task
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

with DAG("leaky", schedule=None):
    @task
    def leak():
        token = OAuth2Hook("variable").get_access_token()
        print("backwards, so that Airflow's masker does not know it:", token[::-1])
        return token

    leak()
"""


def test_the_search_finds_a_leak(scene, secrets):
    """The same search, after a task has put its token into its log and its XCom. The last test: it leaves a leak."""
    del secrets
    scene.airflow.add_dag("leaky.py", LEAKY)
    run_id = scene.airflow.run("leaky")
    token = scene.airflow.xcom("leaky", run_id, "leak")
    wanted = Secrets(scene.server.secrets() | scene.secrets())

    assert mark(token) in {found.secret for found in in_files(scene.airflow.home / "logs" / "dag_id=leaky", wanted)}
    assert ("column xcom.value", mark(token)) in {
        (found.place, found.secret) for found in in_database(scene.airflow.db_url, wanted)
    }
