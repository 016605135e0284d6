"""The button "Test connection": it tries what can be tried, spends nothing, and writes nowhere."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from types import SimpleNamespace

import pytest

from airflow_oauth_provider.compat import variables
from airflow_oauth_provider.doctor import examination, servers
from airflow_oauth_provider.doctor.servers import has_private_address
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.stores import aws_secrets_manager, azure_keyvault, gcp_secret_manager, vault
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.tokens.record import DeadGrant, Record, fingerprint
from tests.servers.openbao import OpenBao
from tests.servers.scripted import Answer, ScriptedServer

#: As Airflow names a connection under test.
CONN_ID = "kzqwhxgf"


@pytest.fixture
def bao(monkeypatch):
    with OpenBao() as bao:
        connection = {"conn_type": "vault", "host": "127.0.0.1", "port": bao.port, "password": bao.root_token}
        options = {"auth_type": "token", "kv_engine_version": 2, "use_tls": False}
        monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps({**connection, "schema": "secret", "extra": options}))
        yield bao


@pytest.fixture
def server():
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def tried(monkeypatch, server):
    """Try a connection; nothing may be written into a variable meanwhile."""
    writes = []
    monkeypatch.setattr(variables, "read_variable", lambda _: None)
    monkeypatch.setattr(variables, "write_variable", lambda *parts, **_: writes.append(parts))
    monkeypatch.setattr(RecordStore, "write", lambda *parts, **_: writes.append(parts))

    def try_it(**changed):
        extra = {"oauth_url": server.token_url, "refresh_token": server.issue(), "store": "variable"}
        parts = {"conn_type": "oauth2", "host": server.api_url, "login": server.client_id}
        parts |= {"password": server.client_secret}
        for name, value in changed.items():
            (parts if name in ("host", "login", "password") else extra)[name] = value
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({**parts, "extra": extra}))
        result = OAuth2Hook(CONN_ID).test_connection()
        assert writes == []
        assert server.client_secret not in result[1]
        return result

    return try_it


def test_a_good_connection_is_tried_without_a_grant_and_without_the_token(tried, server):
    server.routes["/api"] = lambda _: Answer(401, {})
    worked, says = tried(headers={"X-Subscription-Key": "0123456789"})
    assert worked, says
    assert says.startswith("Works, as far as a test can tell: ")
    assert "a test does not spend it" in says
    empty, made_up = server.requests_to("/token")
    assert (empty.body, empty.header("Authorization")) == (b"", None)
    assert server.history[-1].outcome == "unknown"
    assert b"grant_type=refresh_token" in made_up.body
    (api_call,) = [request for request in server.requests if request.target.startswith("/api")]
    assert (api_call.header("Authorization"), api_call.header("X-Subscription-Key")) == (None, None)
    assert server.spends == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"oauth_url": "https://login.invalid/token"}, "token endpoint: https://login.invalid/token: no connection"),
        ({"host": "https://api.invalid"}, "host: HEAD https://api.invalid got no answer"),
        ({"store": "vault", "vault_conn_id": "no_such_vault", "vault_path": "x"}, "'no_such_vault'"),
        ({"store": "file", "file_path": "/no/such/file.json"}, "/no/such/file.json"),
        ({"verify": "ture"}, "'verify'"),
    ],
)
def test_what_cannot_work_fails_and_is_named(tried, changed, says):
    worked, text = tried(**changed)
    assert not worked
    assert text.startswith("Does not work. ")
    assert says in text
    assert CONN_ID not in text


def test_an_address_that_is_no_token_endpoint(tried, server):
    server.routes["/nothing"] = lambda _: Answer(404, "no such page")
    worked, says = tried(oauth_url=f"{server.url}/nothing")
    assert not worked
    assert "no token endpoint answers at" in says


def test_client_and_refresh_token_kept_in_vault(tried, server, bao):
    there = {"vault_conn_id": "bao", "vault_path": "oauth/tried", "store": "vault"}
    kept = {"client_id": server.client_id, "client_secret": server.client_secret, "refresh_token": server.issue()}
    bao.write("oauth/tried", kept)
    bare = {"login": None, "password": None, "refresh_token": None}
    worked, says = tried(**there, **bare)
    assert worked, says
    assert bao.read("oauth/tried") == kept
    del kept["refresh_token"]
    bao.write("oauth/tried", kept)
    worked, says = tried(**there, **bare)
    assert not worked
    assert "there is no refresh token" in says


def test_client_credentials_are_tried_and_the_token_is_kept_nowhere(tried):
    worked, says = tried(grant_type="client_credentials", refresh_token=None)
    assert worked, says
    assert "granted one" in says
    worked, says = tried(grant_type="client_credentials", refresh_token=None, password="another")
    assert not worked
    assert "invalid_client" in says


SIGN_IN_AGAIN = DeadGrant("", "invalid_grant", 1_700_000_000.0)


def dead(server, refresh_token):
    """The record that a row holds after a refusal; Airflow brings it along when the row's form is tested."""
    from airflow_oauth_provider.oauth2.client import Client
    from airflow_oauth_provider.tokens.configuration import GrantConfiguration

    account = GrantConfiguration(CONN_ID, Client(server.client_id, server.token_url, server.client_secret))
    mark = account.fingerprint_for_client(refresh_token)
    refused = DeadGrant(mark, SIGN_IN_AGAIN.error, SIGN_IN_AGAIN.at)
    entered = fingerprint(refresh_token)
    return Record(generation=3, entered_fingerprint=entered, refresh_token=refresh_token, dead=refused).to_json()


@pytest.mark.parametrize("store", ["auto", "connection", "variable"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda s: {"password": "another-secret"}, "invalid_client"),
        (lambda s: {"login": "another-client"}, "invalid_client"),
        (lambda s: {"refresh_token": None}, "no refresh token"),
        (lambda s: {"refresh_token": "spent", "token_record": dead(s, "spent")}, "sign in again"),
        (lambda s: {"oauth_url": f"{s.api_url}/items"}, "token endpoint"),
        (lambda s: {"oauth_url": f"{s.url}/page"}, "token endpoint"),
        (lambda s: {"token_record": "{"}, "cannot be read"),
    ],
    ids=["secret", "client id", "no refresh token", "dead grant", "API address", "web page", "damaged record"],
)
def test_a_wrong_set_up_is_red(tried, server, wrong, says, store):
    server.routes["/page"] = lambda _: Answer(200, "<html>Welcome</html>")
    worked, text = tried(store=store, **wrong(server))
    assert not worked
    assert says.lower() in text.lower()
    assert CONN_ID not in text
    assert server.spends == 0


def test_a_client_that_may_not_refresh(tried, server):
    server.routes["/token"] = lambda _: Answer(400, {"error": "unauthorized_client"})
    worked, text = tried()
    assert not worked
    assert "unauthorized_client" in text


@pytest.mark.parametrize(
    ("answer", "doubt"),
    [
        (Answer(400, {"error": "invalid_request"}), "whether the server accepts the client is not known"),
        (Answer(503, {"error": "temporarily_unavailable"}), "whether the server accepts the client is not known now"),
        (Answer(200, {"access_token": "for-anybody", "token_type": "Bearer"}), "does not check the client"),
    ],
)
def test_what_the_server_does_not_tell_is_said(tried, server, answer, doubt):
    server.routes["/token"] = lambda request: answer if request.body else Answer(400, {"error": "invalid_request"})
    worked, text = tried()
    assert worked
    assert "Not certain: " in text
    assert doubt in text
    assert "for-anybody" not in text


def test_vendors_that_count_refused_requests_are_not_asked(tried, server):
    worked, text = tried(test_client=False)
    assert worked
    assert "client ID and client secret are not checked" in text
    assert [request.body for request in server.requests_to("/token")] == [b""]


def _refuse(listener):
    listener.close()


def _talk(answer):
    def talk(listener):
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()

    return talk


#: What may be at a port of the API server's own network.
PORTS = {
    "closed": _refuse,
    "silent": lambda listener: None,
    "no HTTP": _talk(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "hangs up": _talk(b""),
    "another service": _talk(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    "a page": _talk(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "a redirect": _talk(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/login\r\nContent-Length: 0\r\n\r\n"),
    "trouble": _talk(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
    "too many requests": _talk(b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("key", ["oauth_url", "issuer", "host"])
def test_nothing_tells_the_ports_of_a_private_network_apart(tried, monkeypatch, key):
    """Whoever may test connections is no port scanner of the API server's network: one text, one time."""
    monkeypatch.setattr(examination, "PATIENCE", 0.5)
    pauses = []
    monkeypatch.setattr(examination.time, "sleep", pauses.append)
    said = {}
    for name, behave in PORTS.items():
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        behave(listener)
        url = f"http://127.0.0.1:{port}"
        changed = {key: url} if key != "oauth_url" else {key: f"{url}/token"}
        worked, says = tried(**changed, **({"oauth_url": ""} if key == "issuer" else {}))
        said[name] = (worked, says.replace(str(port), "PORT"))
        listener.close()
    assert len(set(said.values())) == 1, said
    assert said["closed"][0] is (key == "host")
    # Where an answer came at once, the rest of the time is waited.
    assert len(pauses) == (0 if key == "host" else len(PORTS))


@pytest.mark.parametrize(
    ("host", "is_private"),
    [
        ("127.0.0.1", True), ("10.0.0.1", True), ("192.168.1.1", True), ("169.254.169.254", True), ("[::1]", True),
        ("[fe80::1]", True), ("[::ffff:127.0.0.1]", True), ("0.0.0.0", True), ("100.64.0.1", True), ("localhost", True),
        ("8.8.8.8", False), ("[2001:4860:4860::8888]", False), ("nobody.invalid", False), ("", False),
        ("127.1", True), ("2130706433", True), ("0177.0.0.1", True), ("[64:ff9b::7f00:1]", True),
        ("[64:ff9b:1::a00:1]", True), ("[2002:7f00:1::]", True), ("[64:ff9b::808:808]", False), ("[fd00::1]", True),
    ],
)  # fmt: skip
def test_private_addresses(host, is_private):
    assert has_private_address(f"https://{host}:8443/x") is is_private


@pytest.mark.parametrize("store", ["file", "vault", "aws_secrets_manager", "gcp_secret_manager", "azure_keyvault"])
@pytest.mark.parametrize("whose", ["xero", "other"])
def test_a_place_of_a_connection_by_its_id_is_not_opened(tried, server, monkeypatch, tmp_path, store, whose):
    """A test does not know the connection's id: with what it finds there, it would ask whatever server it is told."""
    for name in ("FOLDERS", "SECRETS", "CONNECTIONS", "ENDPOINTS"):
        monkeypatch.delenv(f"AIRFLOW__OAUTH2__ALLOWED_{name}")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    (tmp_path / "oauth2").mkdir()
    (tmp_path / "oauth2" / f"{whose}.json").write_text('{"client_secret": "of-another-team", "refresh_token": "r"}')
    monkeypatch.setattr(vault, "VaultClient", _never_opened)
    monkeypatch.setattr(aws_secrets_manager, "_new_client", _never_opened)
    monkeypatch.setattr(gcp_secret_manager, "GcpSecret", _never_opened)
    monkeypatch.setattr(azure_keyvault, "_new_client", _never_opened)
    place = {
        "file": {"file_path": str(tmp_path / "oauth2" / f"{whose}.json")},
        "vault": {"vault_path": f"airflow/oauth2/{whose}"},
        "aws_secrets_manager": {"aws_name": f"airflow/oauth2/{whose}", "aws_region": "eu-central-1"},
        "gcp_secret_manager": {"gcp_name": f"projects/p/secrets/airflow-oauth2-{whose}"},
        "azure_keyvault": {"keyvault_url": "https://v.vault.azure.net"},
    }[store]
    for own in ({}, {"login": None, "password": None}):
        worked, says = tried(store=store, **place, **own, refresh_token=None)
        assert worked, says
        assert "Not certain: " in says
        assert "by its id" in says
        assert "of-another-team" not in says
    assert not any(b"of-another-team" in request.body for request in server.requests)


def _never_opened(*_):
    raise AssertionError("it was opened")


def test_a_certificate_of_a_connection_by_its_id_is_not_used(tried, server, monkeypatch, tmp_path):
    monkeypatch.delenv("AIRFLOW__OAUTH2__ALLOWED_FOLDERS")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    (tmp_path / "oauth2").mkdir()
    (tmp_path / "oauth2" / "xero.pem").write_text("a certificate and its key")
    worked, says = tried(cert=str(tmp_path / "oauth2" / "xero.pem"))
    assert worked
    assert says.startswith("A test cannot tell much. Not certain: ")
    assert server.requests == []


class _Rebinding:
    """A name server that answers each question with another address, as somebody who knows the order would."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self._ask = socket.getaddrinfo

    def __call__(self, host, *parts, **more):
        if host != "rebinding.example":
            return self._ask(host, *parts, **more)
        self.asked.append(host)
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return self._ask(address, *parts, **more)


@pytest.mark.parametrize("key", ["oauth_url", "issuer", "host"])
@pytest.mark.parametrize("first", ["public", "private"])
def test_a_name_that_changes_its_address_is_connected_to_where_it_was_judged(tried, monkeypatch, key, first):
    monkeypatch.setattr(examination, "PATIENCE", 0.5)
    monkeypatch.setattr(examination.time, "sleep", lambda _: None)
    # 192.0.2.0/24 is for documentation (RFC 5737): nobody answers there. Here it counts as public.
    public = "192.0.2.1"
    monkeypatch.setattr(servers, "_is_public", lambda address: address == public)
    turns = [public, "127.0.0.1", public, "127.0.0.1"]
    names = _Rebinding(*(turns if first == "public" else turns[1:]))
    monkeypatch.setattr(socket, "getaddrinfo", names)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"https://rebinding.example:{listener.getsockname()[1]}/token"
        worked, _ = tried(**{key: url}, **({"oauth_url": ""} if key == "issuer" else {}), store="variable")
        assert names.asked == ["rebinding.example"], "one question, whose answer counts"
        if first == "public":
            with pytest.raises(TimeoutError):
                listener.accept()
    assert worked is (key == "host" and first == "private")


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:{}", "127.0.0.1:{}", "https://localhost:{}", "http://u:p@[::1]:{}"]
)
def test_a_proxy_of_a_private_network_is_not_gone_by(tried, server, proxy):
    """By its errors and its time a test would tell which ports are open there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        address = proxy.format(listener.getsockname()[1])
        worked, says = tried(oauth_url="https://login.example.com/token", proxies={"https": address})
        assert worked
        assert "proxy has an address that is not public" in says
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("piece", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_host_that_drips_does_not_hold_the_api_server(server, piece):
    """The time is that of the whole exchange, not of each piece."""
    from airflow_oauth_provider.connection.settings import read_settings
    from airflow_oauth_provider.doctor.report import Report

    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            while not ended.wait(0.05):
                connection.sendall(piece)

    threading.Thread(target=drip, daemon=True).start()
    parts = {
        "conn_type": "oauth2",
        "host": f"http://127.0.0.1:{listener.getsockname()[1]}",
        "schema": None,
        "port": None,
    }
    extra = json.dumps({"oauth_url": server.token_url})
    settings = read_settings("xero", SimpleNamespace(**parts, login="id", password="s", extra=extra))
    report = Report("xero")
    servers.check_host(report, settings, patience=0.5)
    ended.set()
    listener.close()
    assert report.has_failed(servers.HOST)
