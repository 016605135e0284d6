"""The plugin's routes in a real API server: compare-and-set, keys, and nothing secret in log, answer or audit.

What people may try without the key is in ``test_record_route.py``.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine, text

from airflow_oauth_provider.compat import connections
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable
from airflow_oauth_provider.stores.connection import RouteBackend
from airflow_oauth_provider.stores.record_key import SIGNATURE_FIELD
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.tokens.record import Lease, Record
from tests.integration._store_airflow import ApiServer
from tests.servers.postgres import Postgres
from tests.servers.scripted import ScriptedServer

EXTRA = '{ "oauth_url": "https://as/token",  "n": 1.50, "refresh_token": "entered-SECRET" }'
HIDDEN = {"conn_type": "oauth2", "extra": {"oauth_url": "https://as/token", "token_record_key": "h" * 43}}


def record(generation: int = 1, owner: str | None = None) -> Record:
    lease = Lease(owner, 60.0, 0.0) if owner else None
    tokens = {"access_token": f"access-SECRET-{generation}", "refresh_token": f"refresh-SECRET-{generation}"}
    return Record(generation=generation, lease=lease, **tokens)


@pytest.fixture(scope="module")
def server():
    with Postgres() as postgres, ApiServer(postgres.create_database("airflow"), workers=2) as started:
        yield started


@pytest.fixture
def conn_id(server: ApiServer, request) -> str:
    name = f"c-{abs(hash(request.node.name))}"
    server.define(name, host="https://api", extra=EXTRA)
    return name


def test_a_connection_that_is_added_has_guard_and_key(server, conn_id):
    guard, _, rest = server.extra(conn_id).partition(', "token_record_key": ')
    assert guard == '{"use_oauth2_hook": {},' + EXTRA.removeprefix("{").removesuffix(" }")
    assert len(server.key(conn_id)) == 43
    assert rest == json.dumps(server.key(conn_id)) + " }"


def test_what_is_put_stands_in_the_connection_and_the_rest_stays(server, conn_id):
    before = server.extra(conn_id)
    first = server.put(conn_id, record(1).to_json())
    assert first.json() == {"version": version_of(record(1).to_json())}
    second = server.put(conn_id, record(2).to_json(), first.json()["version"])
    assert second.status_code == 200
    kept, _, added = server.extra(conn_id).partition(', "token_record": ')
    assert kept == before.removesuffix(" }")
    assert json.loads(added.removesuffix(" }")) == record(2).to_json()


def test_another_version_is_not_replaced(server, conn_id):
    server.put(conn_id, record(1).to_json())
    for wrong in (None, "0" * 64):
        assert server.put(conn_id, record(2).to_json(), wrong).status_code == 412


def test_no_user_of_airflow_may_write_without_the_key(server, conn_id):
    before = server.extra(conn_id)
    url = f"{server.base_url}/oauth2-token-store/connections/{conn_id}/token-record"
    headers = {"Authorization": f"Bearer {server.token('admin')}"}
    answer = requests.put(url, json={"record": record().to_json()}, headers=headers, timeout=60)
    assert answer.status_code == 403
    assert server.extra(conn_id) == before


def test_unknown_and_wrong_have_one_answer(server, conn_id):
    other = f"other-{conn_id}"
    server.define(other, conn_type="http", host="https://api", extra='{"a": 1}')
    names = (conn_id, "nowhere", other, "no%00name")
    answers = [server.put(name, record().to_json(), key="w" * 43) for name in names]
    assert {(answer.status_code, answer.text) for answer in answers} == {(403, answers[0].text)}
    url = f"{server.base_url}/oauth2-token-store/connections"
    asked = [requests.post(f"{url}/{name}/record-key", timeout=60) for name in names]
    assert {(answer.status_code, answer.text) for answer in asked} == {(202, '{"accepted":true}')}
    assert server.extra(other) == '{"a": 1}'


def test_of_sixteen_puts_one_wins_each_round(server, conn_id):
    key = server.key(conn_id)
    version = None
    for number in range(5):
        answers: list[requests.Response] = []
        barrier = threading.Barrier(16)

        def work(n: int, if_version: str | None = version) -> None:
            text = record(number, owner=f"{number}-{n}").to_json()  # noqa: B023
            barrier.wait()  # noqa: B023 - the threads end within the round
            answers.append(server.put(conn_id, text, if_version, key=key))  # noqa: B023

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 15
        assert all(answer.headers[SIGNATURE_FIELD] for answer in answers)
        version = next(answer.json()["version"] for answer in answers if answer.status_code == 200)


def test_saving_the_form_keeps_record_and_key(server, conn_id):
    """The form gets *** for both and sends it back; Airflow puts the values in its place."""
    key = server.key(conn_id)
    version = server.put(conn_id, record(1).to_json()).json()["version"]
    shown = json.loads(server.api("GET", f"/api/v2/connections/{conn_id}").json()["extra"])
    assert (shown["token_record"], shown["token_record_key"]) == ("***", "***")
    body = {
        "connection_id": conn_id,
        "conn_type": "oauth2",
        "host": "https://api",
        "extra": json.dumps(shown | {"n": 2}),
    }
    assert server.api("PATCH", f"/api/v2/connections/{conn_id}", body).ok
    after = json.loads(server.extra(conn_id))
    assert (after["n"], after["refresh_token"], after["token_record_key"]) == (2, "entered-SECRET", key)
    assert next(iter(after)) == "use_oauth2_hook"
    assert version_of(after["token_record"]) == version
    assert server.put(conn_id, record(2).to_json(), version).ok


def test_the_audit_log_has_one_entry_a_refresh_and_says_that_nobody_verified_who(server, conn_id):
    first = server.put(conn_id, record(1).to_json(), task="dag/run/task/1").json()["version"]
    leased = server.put(conn_id, record(1, owner="me").to_json(), first).json()["version"]
    server.put(conn_id, record(1).to_json(), leased)
    answer = server.api("GET", "/api/v2/eventLogs?event=oauth2_put_token_record&limit=1000")
    mine = [entry for entry in answer.json()["event_logs"] if conn_id in (entry["extra"] or "")]
    said = {"connection_id": conn_id, "task_instance_unverified": "dag/run/task/1"}
    assert [(entry["owner"], json.loads(entry["extra"])) for entry in mine] == [("oauth2 task", said)]
    assert "SECRET" not in answer.text


def test_a_row_that_the_server_itself_does_not_read_takes_no_lease(tmp_path):
    environ = {"AIRFLOW_CONN_SHADOWED": json.dumps(HIDDEN)}
    with ApiServer(more=environ) as started:
        started.define("shadowed", extra=EXTRA)
        answer = started.put("shadowed", record(1, owner="me").to_json())
        assert (answer.status_code, answer.json()["reason"]) == (409, "hidden")
        assert "AIRFLOW_CONN_SHADOWED" in answer.json()["message"]


def test_rows_that_were_written_past_this_package_are_prepared(server, conn_id):
    """By the server when it starts, and when a task asks for it."""
    bare = f"bare-{conn_id}"
    server.define(bare, conn_type="http", host="https://api", extra='{"a": 1}')
    engine = create_engine(server.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with engine.begin() as transaction:
        transaction.execute(text("UPDATE connection SET conn_type = 'oauth2' WHERE conn_id = :id"), {"id": bare})
    engine.dispose()
    assert json.loads(server.extra(bare)) == {"a": 1}
    answer = requests.post(f"{server.base_url}/oauth2-token-store/connections/{bare}/record-key", timeout=60)
    assert (answer.status_code, answer.json()) == (202, {"accepted": True})
    assert list(json.loads(server.extra(bare))) == ["use_oauth2_hook", "a", "token_record_key"]


# ---------------------------------------------------------------------------------------- by way of the store


@pytest.fixture
def read_by_tasks(server, conn_id, monkeypatch):
    """Reads what a task would be given."""
    from airflow.sdk import Connection

    def find_connection(name: str) -> FoundConnection:
        return FoundConnection(Connection(conn_id=name, conn_type="oauth2", extra=server.extra(name)))

    monkeypatch.setenv("AIRFLOW__OAUTH2__API_URL", server.base_url)
    monkeypatch.setattr(connections, "find_connection", find_connection)
    return lambda name: RecordStore(RouteBackend(name, find_connection(name)))


def test_the_store_speaks_to_the_route(conn_id, read_by_tasks):
    store = read_by_tasks(conn_id)
    assert store.read().record is None
    version = store.write(record(1, owner="me"), if_version=None)
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)
    with pytest.raises(StaleVersion):
        store.write(record(3), if_version=version)


def test_a_server_with_the_execution_api_alone_is_recognized(conn_id, read_by_tasks, server, monkeypatch):
    with ApiServer(more={}, apps="execution") as split:
        monkeypatch.setenv("AIRFLOW__OAUTH2__API_URL", split.base_url)
        with pytest.raises(StoreNotWritable, match=r"--apps execution.*\[oauth2\] api_url"):
            read_by_tasks(conn_id).write(record(1, owner="me"), if_version=None)


@pytest.mark.parametrize(("reached", "level"), [(True, "ok"), (False, "fail")])
def test_the_doctor_asks_the_route_and_writes_nothing(server, monkeypatch, reached, level):
    name = f"sick-{level}"
    with ScriptedServer() as authorization:
        extra = {"oauth_url": authorization.token_url, "refresh_token": "entered-SECRET"}
        server.define(
            name,
            host=authorization.api_url,
            login=authorization.client_id,
            password=authorization.client_secret,
            extra=json.dumps(extra),
        )
        server.put(name, record(1).to_json())
        before = server.extra(name)
        url = server.base_url if reached else "http://127.0.0.1:1"
        done = server.command("oauth2", "doctor", name, "--json", AIRFLOW__OAUTH2__API_URL=url)
    report: dict[str, Any] = json.loads(done.stdout[done.stdout.index("\n{") :])  # after what Airflow logs at DEBUG
    found = [finding for finding in report["findings"] if finding["check"] == "API server"]
    assert [finding["level"] for finding in found] == [level]
    assert "takes the record key" in found[0]["text"] if reached else "[oauth2] api_url" in found[0]["text"]
    assert (report["healthy"], done.returncode) == ((True, 0) if reached else (False, 1))
    assert server.extra(name) == before
    assert "SECRET" not in done.stdout + done.stderr


def test_nothing_secret_stands_in_the_log_of_the_server(server, conn_id):
    """Runs last: the log has all of the above, at level DEBUG."""
    server.put(conn_id, record(1).to_json())
    log = server.process.log_text()
    assert "/token-record" in log
    assert "SECRET" not in log
    assert server.key(conn_id) not in log
    assert "Traceback" not in log
