"""Writing into a connection by way of the API server: every answer that it can give."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
import requests

from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import api_client
from airflow_oauth_provider.stores.connection_api import ApiConnectionStore
from airflow_oauth_provider.tokens.manager import TokenManager
from tests.unit.fakes import FakeClock, Time
from tests.unit.store_fakes import Supervisor, put_in_task, record

SECRETS = ("api-password-1", "access-secret", "refresh-secret")


class Api:
    """Stands for `requests.request`: gives the scripted answers, or does what the plugin does."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: list[Any] = []
        self.logins = 0
        self.lifetime = 3600.0
        self.rows: dict[str, str | None] | None = None  # None: the rows are what connections are read from

    def __call__(self, method: str, url: str, **options: Any) -> requests.Response:
        self.calls.append((method, url, options))
        if url.endswith("/auth/token"):
            self.logins += 1
            token = jwt.encode({"exp": time.time() + self.lifetime, "n": self.logins}, "k" * 32)
            scripted = self.scripted("login")
            return answer(201, {"access_token": token}) if scripted is None else scripted
        scripted = self.scripted("put")  # an answer with an error status is false
        return self.swap(url.split("/")[-2], options["json"]) if scripted is None else scripted

    def scripted(self, step: str) -> requests.Response | None:
        if self.answers and (self.answers[0][0] == step):
            found = self.answers.pop(0)[1]
            if isinstance(found, Exception):
                raise found
            return found
        return None

    def swap(self, conn_id: str, body: dict[str, Any]) -> requests.Response:
        extra = json.loads(self.supervisor.connections[conn_id].get("extra") or "{}")
        held = extra.get("token_record") if self.rows is None else self.rows.get(conn_id)
        if version_of(held) != body["if_version"]:
            return answer(412, {"detail": {"reason": "stale_version", "version": version_of(held)}})
        if self.rows is None:
            self.supervisor.connections[conn_id]["extra"] = json.dumps(extra | {"token_record": body["record"]})
        else:
            self.rows[conn_id] = body["record"]
        return answer(200, {"version": version_of(body["record"])})


def answer(status: int, body: Any) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return response


@pytest.fixture
def supervisor(monkeypatch) -> Supervisor:
    comms = put_in_task(monkeypatch)
    comms.connections["xero"] = {"conn_type": "oauth2", "extra": '{"a": 1}'}
    comms.connections["airflow_api"] = {
        "conn_type": "http", "host": "airflow.example", "schema": "https", "port": 8443,
        "login": "robot", "password": "api-password-1",
    }  # fmt: skip
    return comms


@pytest.fixture
def api(supervisor, monkeypatch) -> Api:
    api_client._logins.clear()
    made = Api(supervisor)
    monkeypatch.setattr(requests, "request", made)
    return made


@pytest.fixture
def store(api) -> ApiConnectionStore:
    return ApiConnectionStore("xero")


def refuse(store: ApiConnectionStore, kind: type[Exception], match: str, **named: Any) -> None:
    with pytest.raises(kind, match=match) as failure:
        store.write(record(1, owner="me"), if_version=named.get("if_version"))
    assert type(failure.value) is kind
    assert not any(secret in str(failure.value) for secret in SECRETS)
    assert failure.value.__suppress_context__ or failure.value.__context__ is None


def test_what_was_written_is_read(store):
    assert store.read().record is None
    version = store.write(record(1, owner="me"), if_version=None)
    assert store.read().version == version
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)


def test_a_refresh_costs_two_calls_and_one_login(store, api, supervisor):
    first = store.write(record(1), if_version=None)
    api.calls.clear()
    leased = store.write(record(1, owner="me"), if_version=first)
    store.write(record(2), if_version=leased)
    assert [method for method, _, _ in api.calls] == ["PUT", "PUT"]
    assert api.logins == 1


def test_a_connection_just_read_saves_one_read_and_only_one(api, supervisor):
    class JustRead:
        extra = json.dumps({"token_record": record(5).to_json()})

    store = ApiConnectionStore("xero", first=JustRead())
    assert store.read().record == record(5)
    assert supervisor.asked("GetConnection") == []
    assert store.read().record is None
    assert len(supervisor.asked("GetConnection")) == 1


@pytest.mark.parametrize(
    ("fields", "base"),
    [
        ({}, "https://airflow.example:8443"),
        ({"schema": None, "port": None}, "http://airflow.example"),
        ({"host": "https://airflow.example/team/", "port": None}, "https://airflow.example/team"),
        ({"host": "http://airflow.example:1/x", "schema": "https"}, "http://airflow.example:1/x"),
        ({"host": "[::1]", "schema": "http", "port": 80}, "http://[::1]:80"),
    ],
)
def test_the_address(store, api, supervisor, fields, base):
    supervisor.connections["airflow_api"] |= fields
    store.write(record(1), if_version=None)
    assert [url for _, url, _ in api.calls] == [
        f"{base}/auth/token",
        f"{base}/oauth2-token-store/connections/xero/token-record",
    ]


def test_a_strange_connection_id_is_quoted(api, supervisor):
    supervisor.connections["a/b#c"] = {"conn_type": "oauth2"}
    api.answers = [("put", answer(404, {"detail": {"reason": "connection_not_found"}}))]
    with pytest.raises(StoreNotWritable):
        ApiConnectionStore("a/b#c").write(record(1), if_version=None)
    assert api.calls[-1][1].endswith("/connections/a%2Fb%23c/token-record")


def test_there_is_always_a_timeout_and_never_a_redirect(store, api, supervisor):
    store.write(record(1), if_version=None)
    supervisor.connections["airflow_api"]["extra"] = '{"timeout": 3}'
    store.write(record(2), if_version=store.read().version)
    assert [options["timeout"] for _, _, options in api.calls] == [(5.0, 15.0), (5.0, 15.0), (3.0, 3.0)]
    assert not any(options["allow_redirects"] for _, _, options in api.calls)


@pytest.mark.parametrize(
    ("extra", "verify"),
    [("", True), ('{"verify": true}', True), ('{"verify": false}', False), ('{"verify": "False"}', False),
     ('{"verify": "/etc/ca.pem"}', "/etc/ca.pem"), ('{"verify": null}', True), ('{"verify": ""}', True)],
)  # fmt: skip
def test_what_the_connection_says_about_tls(store, api, supervisor, extra, verify):
    supervisor.connections["airflow_api"]["extra"] = extra
    store.write(record(1), if_version=None)
    assert {options["verify"] for _, _, options in api.calls} == {verify}


def test_a_password_without_login_is_a_bearer_token(store, api, supervisor):
    supervisor.connections["airflow_api"]["login"] = None
    store.write(record(1), if_version=None)
    assert api.logins == 0
    assert api.calls[0][2]["headers"] == {"Authorization": "Bearer api-password-1"}


def test_a_login_is_used_until_shortly_before_its_end(api, store):
    api.lifetime = 20.0  # less than the margin
    version = store.write(record(1), if_version=None)
    store.write(record(2), if_version=version)
    assert api.logins == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_has_ended_is_renewed_once(api, store, status):
    version = store.write(record(1), if_version=None)
    api.answers = [("put", answer(status, {"detail": "Token Expired"}))]
    store.write(record(2), if_version=version)
    assert api.logins == 2
    assert store.read().record == record(2)


def test_everything_secret_is_masked(store, api, supervisor):
    store.write(record(1), if_version=None)
    masked = {message.value for message in supervisor.asked("MaskSecret")}
    token = api.calls[-1][2]["headers"]["Authorization"].removeprefix("Bearer ")
    assert {"api-password-1", "access-secret-1", "refresh-secret-1", token} <= masked


TWICE_401 = [("put", answer(401, {"detail": "x"})), ("put", answer(401, {"detail": "x"}))]
TWICE_403 = [("put", answer(403, {"detail": "Forbidden"})), ("put", answer(403, {"detail": "Forbidden"}))]


@pytest.mark.parametrize(
    ("answers", "kind", "match"),
    [
        (TWICE_401, StoreUnavailable, "credentials of the connection 'airflow_api'"),
        (TWICE_403, StoreUnavailable, r"may not edit the connection 'xero'.*can edit on Connections"),
        ([("put", answer(404, {"detail": "Not Found"}))], StoreNotWritable, "does not have the route"),
        ([("put", answer(405, {"detail": "Method Not Allowed"}))], StoreNotWritable, "does not have the route"),
        (
            [("put", answer(409, {"detail": {"reason": "not_an_oauth2_connection", "message": "no"}}))],
            StoreNotWritable,
            "not of the type 'oauth2', and the API server writes tokens into no other. Set its type",
        ),
        ([("put", answer(404, {"detail": {"reason": "connection_not_found"}}))], StoreNotWritable, "API server"),
        ([("put", answer(429, {}))], StoreUnavailable, "429"),
        ([("put", answer(500, b"<html>"))], StoreUnavailable, "500"),
        ([("put", answer(503, {"detail": {"reason": "unavailable"}}))], StoreUnavailable, "503"),
        ([("put", answer(408, {}))], StoreUnavailable, "408"),
        ([("put", answer(302, b""))], StoreNotWritable, "302"),
        ([("put", answer(422, {"detail": {"message": "extra is no object"}}))], StoreNotWritable, "extra is no object"),
        ([("put", answer(413, {}))], StoreNotWritable, "413"),
        ([("put", answer(200, b"<html>a proxy</html>"))], StoreNotWritable, "200"),
        ([("put", answer(200, {"version": "another"}))], StoreNotWritable, "another version than this provider"),
        ([("put", requests.ConnectionError("refresh-secret-1"))], StoreUnavailable, "ConnectionError"),
        ([("put", requests.ReadTimeout("refresh-secret-1"))], StoreUnavailable, "ReadTimeout"),
        ([("login", answer(401, {"detail": "api-password-1"}))], StoreUnavailable, "login.*401"),
        ([("login", answer(404, {}))], StoreNotWritable, "no /auth/token"),
        ([("login", answer(405, {}))], StoreNotWritable, "no /auth/token"),
        ([("login", answer(200, b"<html>"))], StoreUnavailable, "login.*200"),
        ([("login", requests.ConnectTimeout("api-password-1"))], StoreUnavailable, "ConnectTimeout"),
    ],
)  # fmt: skip
def test_each_answer_has_its_error(store, api, answers, kind, match):
    api.answers = list(answers)
    refuse(store, kind, match)


@pytest.mark.parametrize("missing", ["host", "password"])
def test_a_connection_to_the_api_that_lacks_something(store, supervisor, missing):
    supervisor.connections["airflow_api"][missing] = None
    refuse(store, StoreNotWritable, f"'airflow_api' has no {missing}")


@pytest.mark.parametrize("extra", ["[]", "no json api-password-1"])
def test_a_connection_to_the_api_with_a_strange_extra(store, supervisor, extra):
    supervisor.connections["airflow_api"]["extra"] = extra
    refuse(store, StoreNotWritable, "not a JSON object")


def test_without_a_connection_to_the_api_it_says_what_to_define(store, supervisor):
    del supervisor.connections["airflow_api"]
    refuse(store, StoreNotWritable, r"'airflow_api'.*'variable' or 'vault'")


# ------------------------------------------------------------------------------------------ stale and shadowed


def test_another_version_is_stale(store):
    store.write(record(1), if_version=None)
    refuse(store, StaleVersion, "another worker", if_version="0" * 64)


def test_a_connection_of_the_tasks_environment_is_noticed_before_a_call(store, api, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_XERO", "oauth2://host")
    refuse(store, StoreNotWritable, r"AIRFLOW_CONN_XERO.*'variable' or 'vault'")
    assert api.calls == []


def test_a_row_without_record_hidden_on_the_api_server_is_noticed(store, api):
    """Both begin without a record, so the comparison of versions passes."""
    api.rows = {}
    refuse(store, StoreNotWritable, "API server")


def test_a_row_with_another_record_hidden_on_the_api_server_is_noticed(store, api, supervisor):
    supervisor.connections["xero"]["extra"] = json.dumps({"token_record": record(1).to_json()})
    api.rows = {"xero": record(9).to_json()}
    seen = store.read().version
    refuse(store, StaleVersion, "another worker", if_version=seen)
    assert store.read().version == seen
    refuse(store, StoreNotWritable, "API server", if_version=seen)


def test_it_is_noticed_by_a_worker_that_reads_the_connection_anew_for_each_try(api, supervisor):
    extra = {"oauth_url": "https://login.example/token", "refresh_token": "entered", "store": "connection"}
    row = {"conn_type": "oauth2", "host": "api.example", "login": "id", "password": "hush", "extra": json.dumps(extra)}
    supervisor.connections["xero"] = row
    api.rows = {"xero": record(9).to_json()}
    clock = FakeClock(Time())
    manager = TokenManager(ConnectionLoader("xero"), None, request=_spend_nothing, clock=clock)
    with pytest.raises(StoreNotWritable, match="API server"):
        manager.access_token()
    assert len([call for call in api.calls if call[0] == "PUT"]) == 2


def _spend_nothing(*_arguments: Any) -> Any:
    raise AssertionError("a refresh token was spent")


def test_losing_several_races_is_not_taken_for_a_hidden_row(store, api, supervisor):
    """A rival takes and gives back its lease: the same version is read again, and another was held each time."""
    version = store.write(record(1), if_version=None)
    for number in range(4):
        api.answers = [("put", answer(412, {"detail": {"version": f"lease-{number}"}}))]
        refuse(store, StaleVersion, "another worker", if_version=version)
    store.write(record(2), if_version=version)


def test_who_is_overtaken_right_after_the_first_write_is_stale(store, api, supervisor, monkeypatch):
    real = api.swap

    def swap(conn_id: str, body: dict[str, Any]) -> requests.Response:
        done = real(conn_id, body)
        supervisor.connections["xero"]["extra"] = json.dumps({"token_record": record(3, owner="rival").to_json()})
        return done

    monkeypatch.setattr(api, "swap", swap)
    refuse(store, StaleVersion, "another worker")
