"""DAGs on a real Airflow 3.3, with a real authorization server, API and Vault."""

from __future__ import annotations

import json
import time

import pytest

from scripts.scene import example_dag
from tests.e2e.examples import QUICKSTARTS

PUBLIC_KEYS = {"action", "rotated", "expires_at", "scope", "store", "generation", "warning"}
# What requests and the connection's own `headers` bring; nothing else of a connection is for the API.
EXPECTED_HEADERS = {"host", "user-agent", "accept", "accept-encoding", "connection", "authorization", "x-tenant"}


@pytest.mark.parametrize("store", QUICKSTARTS)
def test_the_quick_start_rotates_and_fetches(scene, runs, store):
    dag_id, run_id = runs[f"quickstart {store}"]
    status = scene.airflow.xcom(dag_id, run_id, "refresh")

    assert set(status) == PUBLIC_KEYS
    assert status["action"] == "refreshed"
    assert status["rotated"] is True
    assert status["generation"] >= 1
    assert status["scope"] == "read write"
    assert status["warning"] is None
    # With the connection to Airflow's API defined, the connection itself can be written.
    assert status["store"] == ("connection" if store == "auto" else store)
    assert len(scene.fetched(dag_id, run_id)) == 10


@pytest.mark.parametrize("store", QUICKSTARTS)
def test_the_store_holds_the_newest_token(scene, runs, store):
    del runs
    kept = scene.kept(store, "connection" if store == "auto" else store)

    assert kept.generation >= 1
    assert not kept.dead
    assert kept.refresh_token not in {None, scene.first_refresh_token(store)}


def test_a_stock_http_operator_gets_its_200(scene, runs):
    dag_id, run_id = runs["stock_http_operator stock"]

    assert len(scene.fetched(dag_id, run_id)) == 10


def test_the_hook_in_a_task_of_ones_own(scene, runs):
    dag_id, run_id = runs["hook_in_task hook"]

    assert scene.airflow.xcom(dag_id, run_id, "count_items") == 10


def test_no_refresh_token_was_spent_twice(scene, runs):
    del runs
    counts = scene.server.upstream.stats()

    assert counts["spends"] >= len(QUICKSTARTS)
    assert (counts["reuses"], counts["grants_revoked"]) == (0, 0)


def test_the_api_sees_the_access_token_and_nothing_else_of_the_connection(scene, runs):
    del runs
    requests = scene.server.requests_to("/api")
    secrets = scene.server.secrets() | scene.secrets()

    assert len(requests) >= 6
    for request in requests:
        scheme, _, token = request.headers["Authorization"].partition(" ")
        others = {name: value for name, value in request.headers.items() if name != "Authorization"}
        assert scheme == "Bearer"
        assert {name.lower() for name in request.headers} <= EXPECTED_HEADERS
        assert others["X-Tenant"] == "acme"
        rest = json.dumps([request.target, request.body.decode(), others])
        assert not [secret for secret in secrets if secret in rest]
        assert token not in {scene.kept(store).refresh_token for store in ("connection", "variable", "vault")}


def test_another_run_goes_on_from_the_rotated_token(scene, runs):
    first_dag, first_run = runs["quickstart variable"]
    first = scene.airflow.xcom(first_dag, first_run, "refresh")
    # Until the first token is over the refresh of the first run would do for this one.
    time.sleep(max(0, scene.kept("variable").expires_at - time.time()))

    second = scene.airflow.xcom(first_dag, scene.airflow.run(first_dag), "refresh")

    assert second["action"] == "refreshed"
    assert second["rotated"] is True
    assert second["generation"] > first["generation"]


REVOKED = "connection_to_be_revoked"


@pytest.fixture(scope="module")
def revoked(scene):
    """A DAG that has run once and whose grant was revoked then; its refresh task may be retried."""
    scene.connect(REVOKED, "connection")
    dag_id, source = example_dag("quickstart", REVOKED)
    patient = source.replace('task_id="refresh"', 'task_id="refresh", retries=3, retry_delay=1')
    assert patient != source
    scene.airflow.add_dag(f"{dag_id}.py", patient)
    scene.airflow.run(dag_id)
    scene.revoke(REVOKED)
    time.sleep(max(0, scene.kept(REVOKED).expires_at - time.time()))
    return dag_id


class TestADeadGrant:
    """The user has taken the consent back: no retry helps, a person has to sign in again."""

    def test_it_fails_without_retries_and_says_what_to_do(self, scene, revoked):
        run_id = scene.airflow.trigger(revoked)

        assert scene.airflow.wait(revoked, run_id) == "failed"
        refresh = next(t for t in scene.airflow.task_instances(revoked, run_id) if t["task_id"] == "refresh")
        log = scene.airflow.task_log(revoked, run_id, "refresh")
        assert refresh["state"] == "failed"
        assert refresh["try_number"] == 1
        assert "ReauthorizationRequired" in log
        assert REVOKED in log
        assert "invalid_grant" in log
        page = f"{scene.airflow.url}/oauth2-grants/grant?connection={REVOKED}"
        assert f"A person has to sign in again at {page}, or enter the new refresh token in the connection" in log

    def test_the_next_run_fails_without_asking_the_server(self, scene, revoked):
        asked = scene.server.upstream.stats()["token_requests"]
        run_id = scene.airflow.trigger(revoked)

        assert scene.airflow.wait(revoked, run_id) == "failed"
        assert "A person has to sign in again" in scene.airflow.task_log(revoked, run_id, "refresh")
        assert scene.server.upstream.stats()["token_requests"] == asked

    def test_a_new_refresh_token_entered_through_the_api_revives_it(self, scene, revoked):
        path = f"/connections/{REVOKED}"
        shown = scene.airflow.api("GET", path)
        extra = json.loads(shown["extra"])
        assert extra["token_record"] == "***"  # as a person's browser gets it
        extra["refresh_token"] = scene.sign_in()
        before = scene.kept(REVOKED)

        scene.airflow.api("PATCH", path, {**shown, "extra": json.dumps(extra)})
        run_id = scene.airflow.run(revoked)

        assert scene.airflow.xcom(revoked, run_id, "refresh")["action"] == "refreshed"
        assert before.dead
        assert not scene.kept(REVOKED).dead
