"""The doctor: each thing that can be wrong, found and named, and nothing spent."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_oauth_provider import __main__ as program
from airflow_oauth_provider.compat import connections, deployment, sdk
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.doctor import connection as checks
from airflow_oauth_provider.doctor.examination import examine
from airflow_oauth_provider.exceptions import StaleVersion, StoreUnavailable
from airflow_oauth_provider.oauth2 import discovery, dpop
from airflow_oauth_provider.oauth2.assertions import SigningKey
from airflow_oauth_provider.stores.file import FileBackend
from airflow_oauth_provider.stores.record_route import RecordRoute
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.tokens.record import DeadGrant, Lease, Record, fingerprint
from tests.integration._cli_airflow import Home
from tests.servers.authorization_server import _key_pair
from tests.servers.openbao import OpenBao
from tests.servers.scripted import Answer, ScriptedServer


@pytest.fixture(scope="module")
def server():
    with ScriptedServer() as server:
        yield server


class Case:
    """One connection with ``store: file``, and what the doctor says about it."""

    def __init__(self, monkeypatch, server, path):
        self.server = server
        self.path = path
        self.document = {"refresh_token": "first-refresh-token"}
        self.extra = {"use_oauth2_hook": {}, "oauth_url": server.token_url, "store": "file", "file_path": str(path)}
        self.parts = {"conn_type": "oauth2", "host": server.api_url, "login": server.client_id}
        self.parts |= {"password": server.client_secret, "schema": None, "port": None}
        self.place = None
        self.waiting = None
        monkeypatch.setattr(connections, "find_connection", lambda _: FoundConnection(self.connection(), self.place))
        monkeypatch.setattr(checks, "open_fallback", lambda: self)
        discovery._known.clear()

    def connection(self):
        if self.parts is None:
            raise sdk.AirflowNotFoundException("no")
        text = self.extra if isinstance(self.extra, str) else json.dumps(self.extra)
        return SimpleNamespace(**self.parts, extra=text)

    def load(self, key):
        if isinstance(self.waiting, Exception):
            raise self.waiting
        return self.waiting

    def keep(self, **record):
        record = {
            "generation": 3,
            "refresh_token": "third-refresh-token",
            "entered_fingerprint": fingerprint("x"),
            **record,
        }
        self.document = {"token_record": json.loads(Record(**record).to_json())}
        # As the store itself leaves it: the tokens beside the record as well.
        names = ("refresh_token", "access_token")
        self.document |= {name: record[name] for name in names if record.get(name)}
        if record.get("expires_in"):
            self.document["expires_at"] = int(record["issued_at"] + record["expires_in"])

    def lines(self):
        if self.document is not None:
            self.path.write_text(json.dumps(self.document))
        self.path.chmod(0o600) if self.path.exists() else None
        before = self.path.read_bytes() if self.path.exists() else b""
        spends = self.server.spends
        report = examine("xero")
        assert self.server.spends == spends
        if before:
            assert json.loads(self.path.read_bytes()) == json.loads(before)
        shown = json.dumps(report.as_json())
        for secret in ("first-refresh-token", "third-refresh-token", self.server.client_secret):
            assert secret not in shown
        self.report = report
        return [f"{finding.level} {finding.check}: {finding.text} -> {finding.change}" for finding in report.findings]

    def found(self, beginning, *parts):
        lines = self.lines()
        assert any(line.startswith(beginning) and all(part in line for part in parts) for line in lines), lines
        return lines


@pytest.fixture
def case(monkeypatch, server, tmp_path):
    return Case(monkeypatch, server, tmp_path / "account.json")


def test_a_healthy_connection(case):
    case.keep(access_token="at", issued_at=time.time(), expires_in=600.0, refresh_expires_at=time.time() + 30 * 86400)
    lines = case.lines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert not case.report.failed
    # In the order in which a person would look.
    checks = list(dict.fromkeys(finding.check for finding in case.report.findings))
    assert checks == [
        "connection", "keys", "store", "token endpoint", "clock", "client", "host", "fallback store", "grant",
        "access token",
    ]  # fmt: skip
    assert any("can be written" in line for line in lines)


def test_where_the_connection_comes_from(case):
    case.place = "the environment variable AIRFLOW_CONN_XERO"
    case.found("ok connection", "AIRFLOW_CONN_XERO")
    case.parts["conn_type"] = "http"
    case.found("fail connection", "'http'", "'oauth2'")
    case.parts = None
    assert len(case.found("fail connection", "not defined")) == 1


def test_keys(case):
    case.extra |= {"leeway": "soon", "aut_method": "none", "X-Api-Version": "2"}
    lines = case.found("fail keys", "'leeway'", '"soon"')
    assert any("'aut_method'" in line and "Did you mean 'auth_method'?" in line for line in lines)
    assert any("'X-Api-Version'" in line and "'headers'" in line for line in lines)
    del case.extra["leeway"]
    case.extra["oauth_url"] = "http://login.example.com/token"
    case.found("fail keys", "https")
    case.extra = "{"
    case.found("fail keys", "not valid JSON")


def test_a_place_that_cannot_be_asked(case, monkeypatch):
    def refuse(_):
        raise StoreUnavailable("the secrets backend is away")

    monkeypatch.setattr(connections, "find_connection", refuse)
    assert len(case.found("fail connection", "the secrets backend is away", "Mend that place")) == 1


def test_a_host_without_tls(case):
    case.parts["host"] = "http://api.example.com"
    assert not any(line.startswith("ok store") for line in case.found("fail keys", "unencrypted"))


def test_a_missing_secret(case):
    case.parts["password"] = None
    lines = case.found("fail keys", "client secret")
    assert not any(line.startswith(("ok keys", "warn keys")) for line in lines), "one line says all of the keys"


def test_unsafe_and_incomplete(case):
    case.extra["verify"] = "false"
    case.parts["host"] = None
    case.found("warn keys", "verify is false")
    case.found("warn keys", "no host")


def test_discovery(case):
    del case.extra["oauth_url"]
    case.extra |= {"issuer": case.server.issuer, "auth_method": "client_secret_basic"}
    case.found("ok discovery", case.server.issuer)
    case.extra["oauth_url"] = case.server.url + "/other"
    case.found("warn discovery", "/other")
    case.extra |= {"issuer": case.server.issuer + "/", "oauth_url": ""}
    discovery._known.clear()
    assert not any("token endpoint" in line.split(":")[0] for line in case.found("fail discovery", "another issuer"))


def test_the_key_that_tokens_are_bound_to(case, monkeypatch):
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()
    case.extra["dpop_private_key"] = pem
    lines = case.found("ok DPoP", "ES256", dpop.get_prover(SigningKey(pem)).thumbprint)
    assert not any(line.startswith("warn") for line in lines), "without metadata nobody knows"
    assert not any(part in line for part in pem.splitlines()[1:-1] for line in lines)

    case.extra["issuer"] = case.server.issuer
    case.found("warn DPoP", "no dpop_signing_alg_values_supported")
    whole = {"issuer": case.server.issuer, "token_endpoint": case.server.token_url}
    for listed, level in ((["RS256"], "warn"), (["RS256", "ES256"], "ok")):
        answer = Answer(200, {**whole, "dpop_signing_alg_values_supported": listed})
        monkeypatch.setitem(
            case.server.routes, "/.well-known/oauth-authorization-server", lambda _, answer=answer: answer
        )
        discovery._known.clear()
        warned = any("does not list 'ES256' for dpop_private_key" in line for line in case.lines())
        assert warned is (level == "warn")
    case.extra["dpop_private_key"] = "-----BEGIN HIDDEN-----"
    lines = case.found("fail keys", "dpop_private_key")
    assert not any("HIDDEN" in line for line in lines)


def test_what_the_server_does_not_list(case):
    del case.extra["oauth_url"]
    case.extra |= {"issuer": case.server.issuer, "auth_method": "client_secret_jwt", "grant_type": "jwt_bearer"}
    case.extra["private_key"] = _key_pair("k")[0]
    lines = case.found("warn discovery", "'client_secret_jwt' for auth_method", "It lists: client_secret_basic")
    assert any("'jwt_bearer' for grant_type" in line and "client_credentials" in line for line in lines)


@pytest.mark.parametrize(
    ("answer", "level", "says"),
    [
        (Answer(200, "<html>"), "fail", "some other page"),
        (Answer(204, ""), "fail", "some other page"),
        (Answer(200, {"ok": False, "error": "invalid_arguments"}), "ok", "200"),
        (Answer(302, b"", {"Location": "https://x"}), "fail", "redirect"),
        (Answer(404, {"error": "nothing here"}), "fail", "no token endpoint"),
        (Answer(405, {"error": "method not allowed"}), "fail", "no token endpoint"),
        (Answer(410, {"error": "gone"}), "fail", "no token endpoint"),
        (Answer(429, {"error": "rate_limited"}), "warn", "takes no more requests"),
        (Answer(403, "<html>"), "warn", "not as a token endpoint does"),
        (Answer(404, "<html>"), "fail", "no token endpoint"),
        (Answer(503, ""), "warn", "trouble"),
        (Answer(400, {"error": "invalid_request"}), "ok", "400"),
    ],
)
def test_the_token_endpoint(case, answer, level, says):
    case.server.routes["/probe"] = lambda _: answer
    case.extra["oauth_url"] = case.server.url + "/probe"
    case.found(f"{level} token endpoint", says)
    sent = case.server.requests_to("/probe")[0]  # a second one asks about the client
    assert sent.body == b""
    assert sent.header("Authorization") is None


def test_a_server_that_answers_404_to_clients_that_it_does_not_know(case):
    """As GitHub does."""
    case.extra["oauth_url"] = case.server.url + "/login/oauth/access_token"
    for body, level in (({"error": "Not Found"}, "ok"), ("<html>", "fail")):
        case.server.routes["/login/oauth/access_token"] = lambda _, body=body: Answer(404, body)
        case.found(f"{level} token endpoint", "404")


def test_a_server_that_says_itself_what_an_error_is(case):
    case.server.routes["/probe"] = lambda _: Answer(200, {"status": 7})
    case.extra |= {"oauth_url": case.server.url + "/probe", "error_in_200": {"path": "$.status", "pattern": "^7$"}}
    case.found("warn token endpoint", "not as a token endpoint does")


def test_the_host(case, server):
    sent = len(server.requests)
    case.found("ok host", "status 404")
    (request,) = [request for request in server.requests[sent:] if request.path.startswith("/api")]
    assert request.header("Authorization") is None

    case.parts["host"] = "http://127.0.0.1:1/api"
    case.found("fail host", "got no answer", "field 'host'")
    case.parts["host"] = "htps://api.example.com"
    lines = case.lines()
    assert any(line.startswith(("fail host", "fail keys")) and "htps" in line for line in lines), lines
    with ScriptedServer(tls=True) as other:
        case.parts["host"] = other.api_url
        case.found("fail host", "certificate")
        case.extra["verify"] = other.ca_file
        case.found("ok host")


def test_a_host_that_the_token_endpoint_names(case, server):
    case.parts["host"] = "{instance_url}/api"
    assert not any("host:" in line for line in case.lines()), "there was no refresh yet"
    case.keep(response_parameters={"instance_url": server.url})
    case.found("ok host", "status")
    case.keep(response_parameters={"api_domain": server.url})
    case.found("fail host", "'instance_url'", "It has: api_domain")


def test_a_callback_needs_no_token_endpoint(case, monkeypatch):
    monkeypatch.setattr(deployment, "callback_prefixes", lambda: ["json"])
    del case.extra["oauth_url"]
    case.extra["callback"] = "json:loads"
    assert not any(line.split()[1].startswith("token") for line in case.found("ok host"))


def test_a_server_that_is_not_there_and_a_certificate_that_does_not_verify(case):
    case.extra["oauth_url"] = "http://127.0.0.1:1/token"
    assert not any("clock" in line.split(":")[0] for line in case.found("fail token endpoint", "no connection"))
    with ScriptedServer(tls=True) as other:
        case.extra["oauth_url"] = other.token_url
        case.found("fail token endpoint", "certificate does not verify")
        case.extra["verify"] = other.ca_file
        case.found("ok token endpoint", "over TLS")


def test_the_clock(case, monkeypatch):
    later = time.time() + 3600
    monkeypatch.setattr("airflow_oauth_provider.doctor.servers.time", SimpleNamespace(time=lambda: later))
    case.found("warn clock", "seconds ahead of")


def test_the_store(case):
    case.document = None
    lines = case.found("fail store", "does not exist")
    # The rest is looked at all the same.
    for beginning in ("ok token endpoint", "ok clock", "ok host", "warn grant: no refresh token is entered"):
        assert any(line.startswith(beginning) for line in lines), lines
    case.extra["refresh_token"] = "entered-by-hand-1"
    case.found("warn grant: the refresh token", "a newer one is not known")
    case.parts["password"] = None
    lines = case.found("warn keys: without the store", "client secret", "mend the store first")
    assert not any(line.startswith("ok keys") for line in lines)
    case.parts["password"] = case.server.client_secret
    case.extra["store"] = "vault"
    lines = case.found("fail keys", "vault_path")
    assert any(line.startswith("ok token endpoint") for line in lines)
    assert not any(line.startswith("ok keys") for line in lines)


def test_a_store_that_cannot_be_written(case, monkeypatch):
    case.keep()
    monkeypatch.setattr("os.replace", _refuse)
    case.found("fail store", "Read-only", "before they spend anything")


def _refuse(*_):
    raise OSError(30, "Read-only file system")


def test_a_store_with_nothing_in_it_and_one_that_a_worker_writes(case, monkeypatch):
    case.found("ok store", "holds nothing yet")
    case.keep()

    def stale(*_, **__):
        raise StaleVersion("changed")

    monkeypatch.setattr(RecordStore, "write", stale)
    case.found("ok store", "written by a worker at this moment")


def test_a_variable_on_airflow_3(case, monkeypatch):
    case.keep()
    monkeypatch.setattr(FileBackend, "name", "variable")
    lines = case.found("warn store", "cannot replace a variable", "pool with one slot")
    assert not any("Airflow 3 logs" in line for line in lines)
    monkeypatch.setattr(deployment, "fernet_keys", list)
    case.parts["password"] = case.extra["refresh_token"] = None
    case.extra["auth_method"] = "none"
    case.found("warn store", "Airflow 3 logs", "fernet_key")


@pytest.mark.parametrize(
    ("answer", "level", "says"),
    [
        (False, "ok", "takes the record key"),
        (True, "fail", "does not compare versions"),
        (StoreUnavailable("it did not answer"), "fail", "did not answer"),
    ],
)
def test_the_api_server(case, monkeypatch, answer, level, says):
    """What a real one says is in ``test_store_api_server.py``; this is what it may say besides."""

    def put_record(_, conn_id, key, record, if_version):
        assert key == "k" * 43
        assert (conn_id, if_version) == ("xero", "0" * 64), "a version that no record has: nothing is written"
        if isinstance(answer, Exception):
            raise answer
        return answer

    case.keep()
    monkeypatch.setattr(FileBackend, "name", "connection")
    case.extra["token_record_key"] = "k" * 43
    monkeypatch.setattr(RecordRoute, "put_record", put_record)
    case.found(f"{level} API server", says)


def test_a_connection_without_a_record_key(case, monkeypatch):
    asked = []
    case.keep()
    monkeypatch.setattr(FileBackend, "name", "connection")
    monkeypatch.setattr(RecordRoute, "request_key", lambda _, conn_id: asked.append(conn_id))
    case.found("fail API server", "has no row of the connection 'xero'")
    assert asked == ["xero"]


def test_extras_that_stock_hooks_would_send_away(case):
    assert not any("guard" in line for line in case.found("ok connection"))
    del case.extra["use_oauth2_hook"]
    case.found("warn connection", "does not begin with a guard", '"use_oauth2_hook": {} as the first member')


def test_the_fallback_store(case):
    case.waiting = "ciphertext"
    case.keep()
    case.found("warn fallback store", "generation 4")
    case.waiting = StoreUnavailable("away")
    case.found("warn fallback store", "away")


def test_no_refresh_token(case):
    case.document = {}
    case.found("fail grant", "no refresh token", "authorize xero")


def test_a_refresh_token_that_has_not_been_used(case):
    case.found("ok grant", "not been used yet")


def test_one_that_was_entered_anew(case):
    case.keep()
    case.extra["refresh_token"] = "entered-by-hand-1"
    lines = case.found("ok grant", "entered anew")
    assert not any("entered-by-hand-1" in line for line in lines)


def test_a_dead_grant(case, capsys):
    case.keep(dead=DeadGrant(fingerprint("third-refresh-token"), "invalid_grant", 1.9e9, "The answer was lost."))
    lines = case.found("fail grant", "2030-03-17", "invalid_grant", "answer was lost", "authorize xero", "revive xero")
    assert not any(line.split()[1].startswith("access") for line in lines)
    assert program.main(["doctor", "xero"]) == 1
    assert program.main(["revive", "xero"]) == 0
    assert program.main(["doctor", "xero", "--json"]) == 0
    assert program.main(["revive", "xero"]) == 0
    output = capsys.readouterr().out
    assert "fail  grant" in output
    assert "not marked as dead" in output
    assert '"healthy": true' in output


def test_the_end_of_a_refresh_token(case):
    case.keep(refresh_expires_at=time.time() + 3 * 86400)
    case.found("warn grant", "runs out")
    case.keep(refresh_expires_at=time.time() - 5)
    case.found("fail grant", "ran out")
    case.keep(refresh_expires_at=time.time() + 30 * 86400)
    lines = case.found("ok grant", "lasts until")
    assert any(line.startswith("ok grant: generation 3, refresh token ") for line in lines)


def test_access_tokens(case):
    case.keep(access_token="at", issued_at=time.time() - 100, expires_in=50.0)
    case.found("ok access token", "refreshes it")
    case.keep()
    case.found("ok access token", "the first task fetches one")
    case.keep(access_token="at", issued_at=time.time())
    case.found("ok access token", "how long it works is not known")
    case.keep(access_token="at", issued_at=time.time() - 100, expires_in=50.0)
    case.extra["refresh_when"] = "never"
    case.found("fail access token", "never")
    case.keep()
    case.found("fail access token", "'never'")


def test_a_refresh_under_way_and_one_that_never_ended(case):
    case.keep(lease=Lease("someone", 100, time.time() - 4))
    case.found("ok refresh", "for 4 seconds")
    case.keep(lease=Lease("someone", 100, time.time() - 400), interrupted="The answer was lost.")
    case.found("warn refresh", "never came back")
    case.found("warn refresh", "answer was lost")
    case.keep(not_before=time.time() + 60)
    case.found("warn refresh", "not to be called before")


def test_on_the_stores_of_a_real_airflow(server):
    with Home() as home, OpenBao() as bao:
        base = {"oauth_url": server.token_url}
        parts = {"conn_type": "oauth2", "host": server.api_url, "login": server.client_id}
        parts |= {"password": server.client_secret}
        home.add_connections(
            bao={
                "conn_type": "vault",
                "host": "127.0.0.1",
                "port": int(bao.address.rpartition(":")[2]),
                "password": bao.root_token,
                "schema": "secret",
                "extra": {"auth_type": "token", "kv_engine_version": 2, "use_tls": False},
            },
            one={**parts, "extra": {**base, "refresh_token": server.issue(), "store": "variable"}},
            two={**parts, "extra": {**base, "refresh_token": server.issue()}},
            three={
                **parts,
                "extra": base
                | {"refresh_token": server.issue(), "store": "vault", "vault_conn_id": "bao", "vault_path": "a"},
            },
        )
        for conn_id in ("one", "two", "three"):
            assert home.use(conn_id)["generation"] == 1
        spends = server.spends

        done = home.command("doctor", "one", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["healthy"]
        texts = [finding["text"] for finding in report["findings"] if finding["check"] == "store"]
        assert "'variable'" in texts[0]
        assert texts[-1] == "it can be written"

        done = home.command("doctor", "two")
        assert done.returncode == 1
        assert "'connection' (that is what 'auto' stands for here)" in done.stdout
        assert "fail  API server" in done.stdout
        assert "[oauth2] api_url" in done.stdout

        done = home.run("-m", "airflow", "oauth2", "doctor", "three")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ok    store           it can be written" in done.stdout
        assert home.use("three")["generation"] == 1
        assert server.spends == spends
        assert server.reuses == 0


@pytest.mark.parametrize(
    ("changed", "level", "says"),
    [
        ({}, "ok", "accepts the client"),
        ({"password": "another-secret"}, "fail", "invalid_client"),
        ({"login": "another-client"}, "fail", "invalid_client"),
    ],
)
def test_the_client_is_asked_about_and_nothing_is_spent(case, changed, level, says):
    before = case.server.spends, case.server.reuses
    case.parts |= changed
    case.found(f"{level} client", says)
    assert (case.server.spends, case.server.reuses) == before


def test_a_client_whose_server_counts_refused_requests(case):
    case.extra["test_client"] = False
    case.found("warn client", "not checked")
