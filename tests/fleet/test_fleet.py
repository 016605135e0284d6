"""Two Celery workers without a database, many mapped tasks, one connection whose token lives six seconds.

`FLEET_TASKS` says how many tasks there are (24 by default).
"""

from __future__ import annotations

import os

import pytest

from tests.servers.fleet import Fleet
from tests.servers.processes import wait_until
from tests.servers.scripted import ScriptedServer

TASKS = int(os.environ.get("FLEET_TASKS", "24"))

DAG = f"""
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.operators.refresh_token import RefreshTokenOperator

for name, first in (("refreshed", True), ("unprepared", False)):
    with DAG(name, schedule=None, start_date=datetime(2026, 1, 1), catchup=False,
             default_args={{"retries": 4, "retry_delay": timedelta(seconds=1)}}) as dag:

        @task
        def call(number: int, conn_id: str) -> int:
            import time

            hook = OAuth2Hook(conn_id, method="GET")
            for _ in range(4):
                hook.run("items", {{"page": 1}})
                time.sleep(1)
            return number

        calls = call.partial(conn_id=name).expand(number=list(range({TASKS})))
        if first:
            RefreshTokenOperator(task_id="refresh", oauth2_conn_id=name) >> calls
    globals()[name] = dag
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    dags = tmp_path_factory.mktemp("dags")
    (dags / "fleet.py").write_text(DAG)
    with Fleet(dags) as fleet:
        yield fleet


@pytest.fixture
def server():
    with ScriptedServer(lifetime=6) as server:
        yield server


@pytest.fixture
def forgiving_server():
    """As Okta is by default: for 30 s it gives the answer to a refresh again, should the worker that asked be gone."""
    with ScriptedServer(lifetime=6, grace=30) as server:
        yield server


def define(fleet, server, conn_id):
    fields = {
        "conn_type": "oauth2",
        "host": server.api_url,
        "login": server.client_id,
        "password": server.client_secret,
    }
    extra = {"oauth_url": server.token_url, "refresh_token": server.issue(), "leeway": 2}
    fleet.airflow.add_connection(conn_id, {**fields, "extra": extra})


def check(fleet, server, conn_id, run_id):
    """Every task got its answers, each refresh token was spent once, and the record is where it belongs."""
    airflow = fleet.airflow
    state = airflow.wait(conn_id, run_id, timeout=60 + 20 * TASKS)
    assert state == "success", airflow.explain(conn_id, run_id)
    assert server.reuses == 0
    assert server.grants.grants_alive() == 1
    assert server.spends >= 2, "the token has ended in the middle, or this test says nothing"
    assert airflow.variable(f"oauth2_token_record__{conn_id}") is None
    assert "token_record" in airflow.connection(conn_id)["extra"]


@pytest.mark.parametrize("conn_id", ["refreshed", "unprepared"])
def test_all_tasks_share_one_grant(fleet, server, conn_id):
    define(fleet, server, conn_id)
    check(fleet, server, conn_id, fleet.airflow.trigger(conn_id))


def test_a_worker_is_killed_in_the_middle(fleet, forgiving_server):
    server = forgiving_server
    define(fleet, server, "refreshed")
    run_id = fleet.airflow.trigger("refreshed")
    wait_until(lambda: server.spends >= 2, 180, "tasks are at work and refresh", every=0.05)
    fleet.kill_worker(0)
    fleet.start_worker()
    check(fleet, server, "refreshed", run_id)
