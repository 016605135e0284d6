"""Two Celery workers without a database, many mapped tasks, one connection whose token lives six seconds.

`FLEET_TASKS` says how many tasks there are (24 by default). Its users are those of the FAB auth manager, so what each
of them sees and does on the pages of the grants is tried here, too.
"""

from __future__ import annotations

import os

import pytest
import requests

from tests.servers.fleet import Fleet
from tests.servers.processes import wait_until
from tests.servers.scripted import ScriptedServer

OF_FAB = "of_fab"
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


@pytest.fixture(scope="module")
def lasting_server():
    with ScriptedServer(lifetime=600) as server:
        yield server


@pytest.fixture(scope="module")
def sessions(fleet, lasting_server):
    """A user's name to a session: an administrator, one with the right to read connections, one without."""
    airflow = fleet.airflow
    define(fleet, lasting_server, OF_FAB)
    right = {"action": {"name": "can_read"}, "resource": {"name": "Connections"}}
    body = {"name": "ReadsConnections", "actions": [right]}
    airflow.request("POST", f"{airflow.url}/auth/fab/v1/roles", json=body).raise_for_status()
    found = {"admin": airflow.token()}
    for name, role in (("reader", "ReadsConnections"), ("viewer", "Viewer")):
        user = {"username": name, "email": f"{name}@example.org", "first_name": name, "last_name": name}
        user |= {"roles": [{"name": role}], "password": "of-this-test"}
        airflow.request("POST", f"{airflow.url}/auth/fab/v1/users", json=user).raise_for_status()
        login = {"username": name, "password": "of-this-test"}
        found[name] = requests.post(f"{airflow.url}/auth/token", json=login, timeout=60).json()["access_token"]
    return found


class TestUsersOfFab:
    """Who may edit connections acts, who may read them sees, and nobody else does either."""

    def get(self, fleet, token, page):
        url = f"{fleet.airflow.url}/oauth2-grants/{page}"
        return requests.get(url, cookies={"_token": token}, allow_redirects=False, timeout=60)

    def post(self, fleet, path, token="", **options):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{fleet.airflow.url}/oauth2-grants/{path}"
        return requests.post(url, headers={**headers, **options.pop("headers", {})}, timeout=60, **options).status_code

    def test_who_sees_what(self, fleet, sessions):
        pages = ("", f"grant?connection={OF_FAB}", f"sign-in?connection={OF_FAB}", "json/grants")
        seen = {
            user: [(found.status_code, OF_FAB in found.text) for found in
                   (self.get(fleet, token, page) for page in pages)]
            for user, token in sessions.items()
        }  # fmt: skip
        assert seen == {
            "admin": [(200, True)] * 4,
            "reader": [(200, True), (200, True), (403, False), (200, True)],
            "viewer": [(403, False)] * 4,
        }
        assert "<button" not in self.get(fleet, sessions["reader"], pages[1]).text

    def test_who_acts(self, fleet, sessions, lasting_server):
        before = lasting_server.spends
        for user in ("reader", "viewer"):
            for action in ("refresh", "revoke", "check"):
                path = f"json/{action}?connection={OF_FAB}"
                assert (user, self.post(fleet, path, sessions[user])) == (user, 403)
        assert lasting_server.spends == before
        assert self.post(fleet, f"json/refresh?connection={OF_FAB}", sessions["admin"]) == 200
        assert lasting_server.spends == before + 1

    def test_a_form_of_another_site_does_nothing(self, fleet, sessions, lasting_server):
        before = lasting_server.spends
        page = self.get(fleet, sessions["admin"], f"grant?connection={OF_FAB}")
        token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
        cookies = {"_token": sessions["admin"], **page.cookies.get_dict()}
        form = {"connection": OF_FAB, "form_token": token}
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            for path in ("refresh", "revoke", f"json/refresh?connection={OF_FAB}"):
                assert self.post(fleet, path, data=form, cookies=cookies, headers=headers) == 403
        assert lasting_server.spends == before
        own = {"Origin": fleet.airflow.url}
        assert self.post(fleet, "refresh", data=form, cookies=cookies, headers=own, allow_redirects=False) == 303
        assert lasting_server.spends == before + 1
