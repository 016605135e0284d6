"""The plugin's route in a real API server: rights, compare-and-set, and nothing secret in log, answer or audit."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import quote

import pytest
import requests

from airflow_oauth_provider.compat import connections
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import api_client
from airflow_oauth_provider.stores.connection_api import ApiConnectionStore
from airflow_oauth_provider.tokens.record import Lease, Record
from tests.integration._store_airflow import ApiServer
from tests.servers.postgres import Postgres
from tests.servers.scripted import ScriptedServer

EXTRA = '{ "oauth_url": "https://as/token",  "n": 1.50, "refresh_token": "entered-SECRET" }'


def record(generation: int = 1, owner: str | None = None) -> Record:
    lease = Lease(owner, 60.0, 0.0) if owner else None
    return Record(generation=generation, lease=lease, access_token="access-SECRET", refresh_token="refresh-SECRET")


@pytest.fixture(scope="module")
def server():
    with Postgres() as postgres, ApiServer(postgres.create_database("airflow"), workers=2) as started:
        yield started


@pytest.fixture
def conn_id(server: ApiServer, request) -> str:
    name = f"c-{abs(hash(request.node.name))}"
    server.define(name, host="https://api", extra=EXTRA)
    return name


def put(server: ApiServer, conn_id: str, body: Any, user: str | None = "admin") -> requests.Response:
    headers = {"Authorization": f"Bearer {server.token(user)}"} if user else {}
    url = f"{server.base_url}/oauth2-token-store/connections/{quote(conn_id, safe='')}/token-record"
    return requests.put(url, json=body, headers=headers, timeout=60)


def test_what_is_put_stands_in_the_connection_and_the_rest_stays(server, conn_id):
    first = put(server, conn_id, {"record": record(1).to_json(), "if_version": None})
    assert first.json() == {"version": version_of(record(1).to_json())}
    second = put(server, conn_id, {"record": record(2).to_json(), "if_version": first.json()["version"]})
    assert second.status_code == 200
    kept, _, added = server.extra(conn_id).partition(', "token_record": ')
    assert kept == EXTRA.removesuffix(" }")
    assert json.loads(added.removesuffix(" }")) == record(2).to_json()


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("viewer", 403)])
def test_who_may_not_edit_connections_is_turned_away(server, conn_id, user, status):
    assert put(server, conn_id, {"record": record().to_json()}, user).status_code == status
    assert server.extra(conn_id) == EXTRA


def test_another_version_is_not_replaced(server, conn_id):
    held = put(server, conn_id, {"record": record(1).to_json()}).json()["version"]
    for wrong in (None, "0" * 64):
        answer = put(server, conn_id, {"record": record(2).to_json(), "if_version": wrong})
        assert answer.status_code == 412
        assert answer.json()["detail"]["version"] == held


def test_an_unknown_connection_is_told_from_an_unknown_route(server):
    answer = put(server, "nowhere", {"record": record().to_json()})
    assert (answer.status_code, answer.json()["detail"]["reason"]) == (404, "connection_not_found")


def test_a_connection_of_another_type_gets_no_tokens(server, conn_id, read_by_tasks):
    name = f"other-{conn_id}"
    server.define(name, conn_type="http", host="https://api", extra=EXTRA)
    for version in (None, "0" * 64):
        answer = put(server, name, {"record": record().to_json(), "if_version": version})
        assert (answer.status_code, answer.json()["detail"]["reason"]) == (409, "not_an_oauth2_connection")
    with pytest.raises(StoreNotWritable, match=r"not of the type 'oauth2'.*Set its type"):
        ApiConnectionStore(name).write(record(), if_version=None)
    assert server.extra(name) == EXTRA


def test_of_sixteen_puts_one_wins_each_round(server, conn_id):
    token = server.token()
    url = f"{server.base_url}/oauth2-token-store/connections/{conn_id}/token-record"
    version = None
    for number in range(5):
        answers: list[requests.Response] = []
        barrier = threading.Barrier(16)

        def work(n: int, if_version: str | None = version) -> None:
            body = {"record": record(number, owner=f"{number}-{n}").to_json(), "if_version": if_version}  # noqa: B023
            barrier.wait()  # noqa: B023 - the threads end within the round
            answers.append(requests.put(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=60))  # noqa: B023

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 15
        version = next(answer.json()["version"] for answer in answers if answer.status_code == 200)
        assert {answer.json()["detail"]["version"] for answer in answers if answer.status_code == 412} == {version}


@pytest.mark.parametrize(
    "body",
    [
        {"record": ["leak-SECRET"], "if_version": 5},
        {"record_": "leak-SECRET"},
        {"record": "leak-SECRET"},
        {"record": '{"format": 99, "access_token": "leak-SECRET"}'},
        {"record": "leak-SECRET" * 4000},
        "leak-SECRET",
    ],
)
def test_what_is_refused_is_not_echoed(server, conn_id, body):
    answer = put(server, conn_id, body)
    assert answer.status_code == 422
    assert "SECRET" not in answer.text
    assert server.extra(conn_id) == EXTRA


def test_what_is_too_large_or_of_unknown_size_is_not_read(server, conn_id):
    url = f"{server.base_url}/oauth2-token-store/connections/{conn_id}/token-record"
    assert requests.put(url, data=b"x" * 300_000, timeout=60).status_code == 413
    assert requests.put(url, data=iter([b"x"]), timeout=60).status_code == 411


def test_saving_the_form_keeps_the_record(server, conn_id):
    """The form gets *** for the record and sends it back; Airflow puts the value in its place."""
    version = put(server, conn_id, {"record": record(1).to_json()}).json()["version"]
    shown = server.api("GET", f"/api/v2/connections/{conn_id}").json()
    assert json.loads(shown["extra"])["token_record"] == "***"
    edited = json.dumps(json.loads(shown["extra"]) | {"n": 2.75})
    body = {"connection_id": conn_id, "conn_type": "oauth2", "host": "https://api", "extra": edited}
    assert server.api("PATCH", f"/api/v2/connections/{conn_id}", body).ok
    after = json.loads(server.extra(conn_id))
    assert (after["n"], after["refresh_token"]) == (2.75, "entered-SECRET")
    assert version_of(after["token_record"]) == version
    assert put(server, conn_id, {"record": record(2).to_json(), "if_version": version}).ok


def test_the_audit_log_says_who_and_which_and_no_more(server, conn_id):
    put(server, conn_id, {"record": record(1).to_json()})
    answer = server.api("GET", "/api/v2/eventLogs?event=oauth2_put_token_record&limit=1000")
    mine = [entry for entry in answer.json()["event_logs"] if conn_id in (entry["extra"] or "")]
    assert [(entry["owner"], json.loads(entry["extra"])) for entry in mine] == [("admin", {"connection_id": conn_id})]
    assert "SECRET" not in answer.text


# ---------------------------------------------------------------------------------------- by way of the store


@pytest.fixture
def read_by_tasks(server, conn_id, monkeypatch):
    """Reads what a task would be given, and the connection `airflow_api`."""
    from airflow.sdk import Connection

    credentials = {"login": "admin", "password": server.passwords["admin"]}
    fields = {"airflow_api": {"host": "127.0.0.1", "port": server.port, **credentials}}

    def get_connection(name: str) -> Connection:
        if name in fields:
            return Connection(conn_id=name, conn_type="http", **fields[name])
        return Connection(conn_id=name, conn_type="oauth2", extra=server.extra(name))

    api_client._logins.clear()
    monkeypatch.setattr(connections, "get_connection", get_connection)
    monkeypatch.setattr(connections, "shadow_of_connection", lambda _conn_id: None)
    return fields["airflow_api"]


def test_the_store_speaks_to_the_route(conn_id, read_by_tasks):
    store = ApiConnectionStore(conn_id)
    assert store.read().record is None
    version = store.write(record(1, owner="me"), if_version=None)
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)
    with pytest.raises(StaleVersion):
        store.write(record(3), if_version=version)


def test_the_store_says_what_is_wrong_with_its_access(conn_id, read_by_tasks, server):
    good = dict(read_by_tasks)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"password": "wrong"}, StoreUnavailable, "login at Airflow's API server"),
        ({"login": "viewer", "password": server.passwords["viewer"]}, StoreUnavailable, "may not edit the connection"),
        ({"port": 1}, StoreUnavailable, "did not answer"),
        ({"login": None, "password": "no-jwt"}, StoreUnavailable, "may not edit|credentials"),
    ]
    for change, kind, match in cases:
        read_by_tasks.clear()
        read_by_tasks.update(good | change)
        with pytest.raises(kind, match=match):
            ApiConnectionStore(conn_id).write(record(1, owner="me"), if_version=None)


def test_a_login_that_the_server_does_not_take_any_more_is_renewed(conn_id, read_by_tasks, server):
    store = ApiConnectionStore(conn_id)
    version = store.write(record(1), if_version=None)
    for key, (_, ends) in list(api_client._logins.items()):
        api_client._logins[key] = ("not.a.token", ends)
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)


def test_a_connection_that_the_database_does_not_have_is_said(read_by_tasks, monkeypatch):
    with pytest.raises(StoreNotWritable, match="'variable' or 'vault'"):
        ApiConnectionStore("nowhere").write(record(1), if_version=None)


@pytest.mark.parametrize(
    ("user", "level", "says"),
    [("admin", "ok", "reaches it, it has this provider's plugin"), ("viewer", "fail", "may not edit the connection")],
)
def test_the_doctor_asks_the_route_and_writes_nothing(server, user, level, says):
    name, api = f"sick-{user}", f"api-{user}"
    with ScriptedServer() as authorization:
        extra = {"oauth_url": authorization.token_url, "refresh_token": "entered-SECRET", "api_conn_id": api}
        server.define(
            name,
            host=authorization.api_url,
            login=authorization.client_id,
            password="client-SECRET",
            extra=json.dumps(extra),
        )
        access = {"host": "127.0.0.1", "port": server.port, "login": user, "password": server.passwords[user]}
        server.define(api, **{**access, "conn_type": "http"})
        put(server, name, {"record": record(1).to_json()})
        before = server.extra(name)
        done = server.command("oauth2", "doctor", name, "--json")
    report = json.loads(done.stdout[done.stdout.index("\n{") :])  # after what Airflow logs at DEBUG
    found = [finding for finding in report["findings"] if finding["check"] == "API server"]
    assert [(finding["level"], says in finding["text"]) for finding in found] == [(level, True)]
    assert (report["healthy"], done.returncode) == ((True, 0) if level == "ok" else (False, 1))
    assert ("connection" in report["findings"][2]["text"], server.extra(name)) == (True, before)
    assert "SECRET" not in done.stdout + done.stderr


def test_nothing_secret_stands_in_the_log_of_the_server(server, conn_id):
    """Runs last: the log has all of the above, at level DEBUG."""
    put(server, conn_id, {"record": record(1).to_json()})
    log = server.process.log_text()
    assert "/token-record" in log
    assert "SECRET" not in log
    assert "Traceback" not in log
