"""A task writes its own record through the API server, and nothing else: the attempts."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from typing import Any

import pytest
import requests

from airflow_oauth_provider.api_server import routes
from airflow_oauth_provider.api_server.routes import Throttle
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreError, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import record_key, record_route
from airflow_oauth_provider.stores.connection import RouteBackend
from airflow_oauth_provider.stores.record_key import URL_PREFIX
from airflow_oauth_provider.stores.record_route import RecordRoute, ServerAddress
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.tokens.record import Record
from tests.integration._route_server import KEY, OTHER_KEY, RouteServer, route_server
from tests.servers.processes import LOOPBACK
from tests.unit.store_fakes import put_in_task, record

FORBIDDEN = {"reason": "forbidden", "message": "The request is not signed with the record key of this connection."}


@pytest.fixture
def server(tmp_path, monkeypatch):
    with route_server(tmp_path, monkeypatch) as started:
        started.add("xero")
        yield started


def body(generation: int = 1, before: Record | None = None) -> dict[str, Any]:
    version = None if before is None else version_of(before.to_json())
    return {"record": record(generation).to_json(), "if_version": version}


# -------------------------------------------------------------------------------------------- what is right


def test_its_own_record_is_written_and_the_rest_stays(server):
    before = server.extra("xero")
    assert server.swap("xero", record(1))
    assert server.swap("xero", record(2), record(1))
    assert server.extra("xero") == {**before, "token_record": record(2).to_json()}


def test_an_older_version_changes_nothing(server):
    server.swap("xero", record(1))
    server.swap("xero", record(2), record(1))
    assert not server.swap("xero", record(3), record(1))
    assert not server.swap("xero", record(3))
    assert server.extra("xero")["token_record"] == record(2).to_json()


def test_a_write_whose_answer_was_lost_may_be_repeated(server):
    server.swap("xero", record(1))
    assert server.swap("xero", record(2), record(1))
    assert server.swap("xero", record(2), record(1))


@pytest.mark.parametrize("conn_id", ["a/b#c", "with space", "ü", "a%2Fb", "x?y=z", "a/../b"])
def test_strange_names(server, conn_id):
    server.add(conn_id)
    assert server.swap(conn_id, record(1))
    assert server.extra(conn_id)["token_record"] == record(1).to_json()


def test_a_store_on_it(server, monkeypatch):
    comms = put_in_task(monkeypatch)
    monkeypatch.setenv("AIRFLOW__OAUTH2__API_URL", server.url)

    class Reading(dict):  # the supervisor reads the row at each request
        def __getitem__(self, conn_id: str) -> Any:
            return {"conn_type": "oauth2", "extra": server.database.extra(conn_id)}

    comms.connections = Reading(xero=None)
    store = RecordStore(RouteBackend("xero", FoundConnection(_connection(server))))
    assert store.read().record is None
    assert comms.asked("GetConnection") == [], "the connection just read is used"
    version = store.write(record(1, owner="me"), if_version=None)
    version = store.write(record(2), if_version=version)
    assert store.read().record == record(2)
    with pytest.raises(StaleVersion):
        store.write(record(3), if_version="0" * 64)


def _connection(server: RouteServer) -> Any:
    from airflow.sdk import Connection

    return Connection(conn_id="xero", conn_type="oauth2", extra=server.database.extra("xero"))


def test_one_audit_entry_a_refresh_and_none_for_a_lease(server, monkeypatch):
    for name, value in zip(record_route._TASK, ("dag", "run", "task", "1"), strict=True):
        monkeypatch.setenv(name, value)
    leased = record(1, owner="me")
    server.swap("xero", record(1))
    server.audited.clear()
    server.swap("xero", leased, record(1))  # a lease
    renewed = record(1, owner="me, again")
    server.swap("xero", renewed, leased)  # its renewal
    server.swap("xero", record(1), renewed)  # its release
    assert server.audited == []
    server.swap("xero", record(2), record(1))
    assert server.audited == [("xero", "dag/run/task/1")]


def test_a_server_that_runs_for_months_is_not_slowed_by_what_it_has_seen(server):
    """Airflow compiles all values that it masks into one pattern, anew for each, and forgets none."""
    from airflow._shared.secrets_masker import _secrets_masker

    server.swap("xero", record(1))
    before = set(_secrets_masker().patterns)
    for generation in range(1, 6):
        assert server.swap("xero", record(generation + 1), record(generation))
    assert _secrets_masker().patterns == before


# ------------------------------------------------------------------------------------------------ attempts


def attempt(server: RouteServer, name: str) -> requests.Response:
    """What somebody may try who has not the record key of the connection."""
    server.add("other", OTHER_KEY)
    server.add("twin", KEY)
    server.add("bare", None)
    server.add("http", KEY, conn_type="http")
    server.add_text("odd", "[1]")
    window = record_key.TIME_WINDOW
    attempts: dict[str, Any] = {
        "another connection's key": lambda: server.put("xero", body(), OTHER_KEY),
        "its own key for another connection": lambda: server.put("other", body(), KEY),
        "a wrong key": lambda: server.put("xero", body(), "w" * 43),
        "an empty key": lambda: server.put("bare", body(), ""),
        "an unknown connection": lambda: server.put("nowhere", body()),
        "a connection of another type": lambda: server.put("http", body()),
        "a row whose extra is no object": lambda: server.put("odd", body()),
        "a request for another connection": lambda: server.put("xero", body(), sent_to="other"),
        "a request for a connection with the same key": lambda: server.put("xero", body(), sent_to="twin"),
        "a tampered body": lambda: server.put("xero", body(), content=json.dumps(body(9)).encode()),
        "a time too early": lambda: server.put("xero", body(), now=time.time() - window - 60),
        "a time too late": lambda: server.put("xero", body(), now=time.time() + window + 60),
        "another time than was signed": lambda: server.put(
            "xero", body(), headers={record_key.TIME_FIELD: str(int(time.time()) + 1)}
        ),
        "a time that is none": lambda: server.put("xero", body(), headers={record_key.TIME_FIELD: "now"}),
        "another nonce": lambda: server.put("xero", body(), headers={record_key.NONCE_FIELD: "f" * 32}),
        "no signature": lambda: server.put("xero", body(), headers={record_key.SIGNATURE_FIELD: ""}),
        "a signature that is no ASCII": lambda: server.put(
            "xero", body(), headers={record_key.SIGNATURE_FIELD: b"\xff\xfe"}
        ),
        "no header at all": lambda: requests.put(
            f"{server.url}{URL_PREFIX}/connections/xero/token-record", json=body(), timeout=30
        ),
    }
    found: requests.Response = attempts[name]()
    return found


NAMES = [
    "another connection's key", "its own key for another connection", "a wrong key", "an empty key",
    "an unknown connection", "a connection of another type", "a row whose extra is no object",
    "a request for another connection", "a request for a connection with the same key",
    "a tampered body", "a time too early", "a time too late",
    "another time than was signed", "a time that is none", "another nonce", "no signature",
    "a signature that is no ASCII", "no header at all",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_attempt_has_one_and_the_same_answer(server, name):
    answer = attempt(server, name)
    assert (answer.status_code, answer.json()) == (403, FORBIDDEN)
    assert record_key.SIGNATURE_FIELD not in answer.headers
    for conn_id in ("xero", "other", "twin", "http"):
        assert "token_record" not in server.extra(conn_id)


def test_a_replay_writes_nothing(server):
    content = json.dumps(body(1)).encode()
    signature = record_key.sign_request(KEY, "PUT", "xero", content, now=time.time())
    url = f"{server.url}{URL_PREFIX}/connections/xero/token-record"

    def send() -> int:
        return requests.put(url, data=content, headers=signature.headers(), timeout=30).status_code

    assert send() == 200
    server.swap("xero", record(2), record(1))
    assert send() == 412
    assert server.extra("xero")["token_record"] == record(2).to_json()


def test_failures_are_limited_and_do_not_keep_tasks_from_writing(server):
    statuses = [server.put("xero", body(), "w" * 43).status_code for _ in range(25)]
    assert statuses == [403] * 20 + [429] * 5
    assert server.put("unknown", body(), "w" * 43).status_code == 403, "another connection is counted by itself"
    assert server.swap("xero", record(1))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no json", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"record": ' + b"[" * 50_000,
        b"{}", b'{"record": null}', b'{"record": 5}', b'{"record": ["leak-SECRET"]}', b'{"record": {"a": {}}}',
        b'{"record": "leak-SECRET"}', b'{"record": "{}", "if_version": 5}', b'{"record": "{}", "if_version": []}',
        b'{"record": "{}", "task": {}}', b'{"record": "{}", "more": 1}', b'{"record_": "leak-SECRET"}',
        json.dumps({"record": '{"format": 99, "access_token": "leak-SECRET"}'}).encode(),
        json.dumps({"record": "[" * 30_000}).encode(),
        json.dumps({"record": json.dumps(json.loads(record(1).to_json()) | {"access_token": {"a": 1}})}).encode(),
        json.dumps({"record": json.dumps(json.loads(record(1).to_json()) | {"generation": "x"})}).encode(),
        json.dumps({"record": json.dumps(json.loads(record(1).to_json()) | {"generation": 1e400})}).encode(),
        json.dumps({"record": json.dumps(json.loads(record(1).to_json()) | {"lease": "x"})}).encode(),
        json.dumps({"record": json.dumps(json.loads(record(1).to_json()) | {"lease": {"owner": []}})}).encode(),
        json.dumps({"record": "leak-SECRET" * 4000}).encode(),
        b'{"record": "\\ud800"}',
        json.dumps({"record": record(1).to_json(), "if_version": "v" * 101}).encode(),
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_refused_by_who_knows_the_key_too(server, content):
    before = server.extra("xero")
    answer = server.put("xero", content)
    assert answer.status_code == 422
    assert "SECRET" not in answer.text
    assert server.extra("xero") == before


def test_what_is_too_large_or_of_unknown_size_is_not_read(server):
    url = f"{server.url}{URL_PREFIX}/connections/xero/token-record"
    assert requests.put(url, data=b"x" * 300_000, timeout=30).status_code == 413
    assert requests.put(url, data=iter([b"x"]), timeout=30).status_code == 411


def test_a_body_that_does_not_arrive_is_given_up(server, monkeypatch):
    monkeypatch.setattr(routes, "_PATIENCE", 0.2)
    with socket.create_connection((LOOPBACK, int(server.url.rpartition(":")[2])), timeout=30) as slow:
        head = f"PUT {URL_PREFIX}/connections/xero/token-record HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        slow.sendall(head.encode() + b"x")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_client_that_goes_away_in_the_middle_is_no_error_of_the_server(server, caplog):
    with socket.create_connection((LOOPBACK, int(server.url.rpartition(":")[2])), timeout=30) as rude:
        head = f"PUT {URL_PREFIX}/connections/xero/token-record HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        rude.sendall(head.encode() + b"x")
        rude.shutdown(socket.SHUT_WR)
        rude.recv(100)
    assert server.swap("xero", record(1))
    assert "Exception in ASGI application" not in caplog.text


def test_a_row_that_is_hidden_on_the_server_takes_no_lease(server, monkeypatch):
    monkeypatch.setattr(routes, "_hiding_place", lambda conn_id: "the secrets backend Theirs")
    with pytest.raises(StoreNotWritable, match=r"the secrets backend Theirs.*'variable' or 'vault'"):
        server.swap("xero", record(1, owner="me"))
    assert "token_record" not in server.extra("xero")


def test_a_database_that_fails_is_said_and_nothing_else(server):
    with server.database.engine.begin() as transaction:
        transaction.exec_driver_sql("DROP TABLE connection")
    with pytest.raises(StoreUnavailable, match="503"):
        server.swap("xero", record(1))
    with pytest.raises(StoreUnavailable, match="503"):
        server.route.request_key("xero")


# ------------------------------------------------------------------------------------------- minting a key


def test_a_row_without_a_key_gets_one_and_the_guard(server):
    server.add("bare", None, headers="a=b")
    server.route.request_key("bare")
    extra = server.extra("bare")
    assert next(iter(extra)) == "use_oauth2_hook"
    assert len(extra["token_record_key"]) == 43
    server.route.request_key("bare")
    assert server.extra("bare") == extra
    assert server.swap("bare", record(1), key=extra["token_record_key"])


def test_each_name_gets_the_same_answer(server):
    server.add("bare", None)
    server.add("http", None, conn_type="http")
    server.add_text("odd", "no json")
    answers = set()
    for conn_id in ("xero", "bare", "nowhere", "http", "odd"):
        answer = requests.post(f"{server.url}{URL_PREFIX}/connections/{conn_id}/record-key", timeout=30)
        answers.add((answer.status_code, answer.text))
    assert answers == {(202, '{"accepted":true}')}
    assert "token_record_key" not in server.extra("http")


def test_requests_for_keys_are_limited(server):
    for _ in range(20):
        server.route.request_key("nowhere")
    with pytest.raises(StoreUnavailable, match="429"):
        server.route.request_key("nowhere")


# ------------------------------------------------------------------------------------- what a worker believes


class Forger:
    """A server that answers whatever it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status, self.headers, self.content = 200, {}, b"{}"
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        forger = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                forger.seen.append((self.path, dict(self.headers), content))
                self.send_response_only(forger.status)
                for name, value in forger.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(forger.content)))
                self.end_headers()
                self.wfile.write(forger.content)

            do_PUT = do_POST = answer  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def route(self) -> RecordRoute:
        return RecordRoute(ServerAddress(self.url, "[oauth2] api_url"))


@pytest.fixture
def forger():
    made = Forger()
    yield made
    made.server.shutdown()
    made.server.server_close()


def put(forger: Forger, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match) as failure:
        forger.route.put_record("xero", KEY, record(1).to_json(), None)
    assert type(failure.value) is kind
    assert "secret-1" not in str(failure.value)
    assert KEY not in str(failure.value)
    assert failure.value.__suppress_context__ or failure.value.__context__ is None


@pytest.mark.parametrize("status", [200, 412])
@pytest.mark.parametrize("signed", ["", "0" * 64, "ü"])
def test_a_forged_answer_is_not_believed(forger, status, signed):
    forger.status, forger.content = status, json.dumps({"version": version_of(record(1).to_json())}).encode()
    forger.headers = {record_key.SIGNATURE_FIELD: signed}
    put(forger, StoreUnavailable, "without proof that it knows.*api_url")


def test_an_answer_to_an_earlier_request_is_not_believed(forger, server):
    forger.content = json.dumps({"version": version_of(record(1).to_json())}).encode()
    answer = server.put("xero", body(1))
    assert answer.status_code == 200
    forger.headers = {record_key.SIGNATURE_FIELD: answer.headers[record_key.SIGNATURE_FIELD]}
    forger.content = answer.content
    put(forger, StoreUnavailable, "without proof")


def test_the_key_does_not_travel(forger):
    put(forger, StoreUnavailable, "without proof")
    forger.status = 202
    forger.route.request_key("xero")
    assert len(forger.seen) == 2
    assert KEY not in str(forger.seen)


@pytest.mark.parametrize(
    ("status", "headers", "content", "kind", "match"),
    [
        (403, {}, b"{}", StoreUnavailable, r"does not accept the record key of the connection 'xero'\. The connection"),
        (404, {}, b"Not Found", StoreNotWritable, r"does not have the route.*--apps execution.*api_url"),
        (405, {}, b"", StoreNotWritable, "does not have the route"),
        (302, {"Location": "https://elsewhere"}, b"", StoreNotWritable, "redirect.*api_url"),
        (408, {}, b"", StoreUnavailable, "408"),
        (429, {}, b"", StoreUnavailable, "429"),
        (500, {}, b"<html>", StoreUnavailable, "500"),
        (503, {}, b"[" * 10_000, StoreUnavailable, "503"),
        (413, {}, b"", StoreNotWritable, "413"),
        (401, {}, b"", StoreNotWritable, "401"),
        (200, {}, b"x" * 100_000, StoreUnavailable, "did not answer"),
    ],
)
def test_each_answer_has_its_error(forger, status, headers, content, kind, match):
    forger.status, forger.headers, forger.content = status, headers, content
    put(forger, kind, match)
    assert len(forger.seen) == 1


def test_clocks_that_differ_are_said(forger):
    forger.status = 403
    forger.headers = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    put(forger, StoreUnavailable, r"clocks of this machine and that server are \d+ seconds apart")


def test_a_server_that_is_not_there_names_the_one_setting():
    away = RecordRoute(ServerAddress(f"http://{LOOPBACK}:1", "[core] execution_api_server_url"))
    with pytest.raises(StoreError, match=r"\(http://127.0.0.1:1, from \[core\] execution_api.*\[oauth2\] api_url"):
        away.request_key("xero")


def test_no_netrc_goes_along(forger, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {LOOPBACK} login me password hush\n")
    monkeypatch.setenv("NETRC", str(netrc))
    forger.status = 202
    forger.route.request_key("xero")
    assert "Authorization" not in forger.seen[0][1]


# -------------------------------------------------------------------------------------------------- throttle


def test_a_throttle_forgets_who_is_quiet_and_remembers_so_many():
    now = [0.0]
    throttle = Throttle(burst=2, rate=1.0, keys=2, clock=lambda: now[0])
    assert [throttle.allow("a") for _ in range(3)] == [True, True, False]
    now[0] = 1.0
    assert [throttle.allow("a") for _ in range(2)] == [True, False]
    for key in ("b", "c"):
        throttle.allow(key)
    assert len(throttle._left) == 2
    assert throttle.allow("a"), "forgotten"
