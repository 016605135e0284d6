"""DPoP (RFC 9449) against oidc-provider, which binds every token, wants its nonce, and takes each proof once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.connection import loader
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.http.aio_client import client_of
from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy
from airflow_oauth_provider.oauth2 import dpop
from airflow_oauth_provider.oauth2.assertions import SigningKey
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.pagination import PageRequest
from airflow_oauth_provider.sensors.http import OAuth2HttpSensor
from tests.http_support import CONN_ID, CONTEXT, Memory, ids_of, run_deferred
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.processes import wait_until
from tests.servers.scripted import Answer
from tests.servers.sign_in import sign_in

SCOPE = "openid offline_access read"


def new_key():
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


KEY = new_key()


@pytest.fixture(scope="module")
def strict_server():
    with AuthorizationServer(dpop_required=True, dpop_nonce=True) as server:
        yield server


@pytest.fixture
def server(strict_server):
    yield strict_server
    strict_server.configure(api_dpop_nonce=None, api_dpop_rotates=False, access_token_lifetime=3600)


@pytest.fixture(autouse=True)
def no_nonce_is_known():
    """As in a process that has just started."""
    dpop.get_prover.cache_clear()


def connect(monkeypatch, server, name="basic", *, store=None, host=None, **extra):
    client = server.client(name)
    store = store or Memory()
    monkeypatch.setattr(loader, "open_store", lambda *_, **__: store)
    connection = {
        "conn_type": "oauth2",
        "host": host or server.api_url,
        "login": client.client_id,
        "password": client.client_secret,
        "extra": {
            "oauth_url": server.token_url,
            "auth_method": client.auth_method,
            "dpop_private_key": KEY,
            "private_key": client.private_key,
            "key_id": client.key_id,
            "timeout": 10,
            **extra,
        },
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    return OAuth2Hook(CONN_ID, method="GET"), store


def signed_in(monkeypatch, server, name="basic", **extra):
    tokens = sign_in(server, name, scope=SCOPE, prompt="consent", dpop_key=KEY)
    return connect(monkeypatch, server, name, refresh_token=tokens["refresh_token"], **extra)


class Log:
    """What the server has seen since."""

    def __init__(self, server):
        self._server = server
        self._tokens, self._api = len(server.token_log()), len(server.api_log())

    @property
    def token(self):
        return self._server.token_log()[self._tokens :]

    @property
    def api(self):
        return self._server.api_log()[self._api :]

    def errors(self):
        return [entry["error"] for entry in self.token]

    def statuses(self):
        return [entry["status"] for entry in self.api]


# -- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["basic", "post", "public", "key-jwt", "secret-jwt"])
def test_refreshes_through_several_rotations_and_the_nonce_is_asked_for_once(server, monkeypatch, name):
    hook, store = signed_in(monkeypatch, server, name)
    log = Log(server)
    assert [hook.refresh().rotated for _ in range(3)] == [True, True, True]
    assert log.errors() == ["use_dpop_nonce", None, None, None]
    assert all(entry["dpop"] for entry in log.token)
    assert store.record.token_type == "DPoP"
    assert store.record.generation == 3
    assert server.stats()["reuses"] == 0


@pytest.mark.parametrize("name", ["basic", "key-jwt"])
def test_client_credentials(server, monkeypatch, name):
    hook, store = connect(monkeypatch, server, name, grant_type="client_credentials")
    log = Log(server)
    hook.refresh()
    hook.refresh()
    assert log.errors() == ["use_dpop_nonce", None, None]
    assert store.record.token_type == "DPoP"
    assert hook.run("items").status_code == 200


def test_the_key_may_be_a_jwk_and_stand_in_the_store(server, monkeypatch):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from jwt.algorithms import ECAlgorithm

    jwk = ECAlgorithm.to_jwk(load_pem_private_key(KEY.encode(), None), as_dict=True)
    hook, store = signed_in(monkeypatch, server, "public", dpop_private_key=None)
    store.kept = {"dpop_private_key": jwk}
    assert hook.refresh().rotated
    assert hook.run("items").status_code == 200


def test_the_key_may_stand_in_vault(server, monkeypatch, openbao):
    tokens = sign_in(server, "public", scope=SCOPE, prompt="consent", dpop_key=KEY)
    openbao.write("airflow/bound", {"refresh_token": tokens["refresh_token"], "dpop_private_key": KEY})
    vault = {"conn_type": "vault", "host": "127.0.0.1", "port": openbao.port, "password": openbao.root_token}
    monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps({**vault, "schema": "secret"}))
    open_store = loader.open_store
    keys = {"dpop_private_key": None, "vault_conn_id": "bao", "vault_path": "airflow/bound"}
    connect(monkeypatch, server, "public", **keys)
    monkeypatch.setattr(loader, "open_store", open_store)
    connection = json.loads(os.environ["AIRFLOW_CONN_API"])
    connection["extra"]["store"] = "vault"
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    hook = OAuth2Hook(CONN_ID, method="GET")
    assert [hook.refresh().rotated for _ in range(2)] == [True, True]
    assert hook.run("items").status_code == 200
    kept = openbao.read("airflow/bound")
    assert kept["dpop_private_key"] == KEY
    assert json.loads(kept["token_record"])["generation"] == 2


def test_a_public_clients_refresh_token_works_with_its_own_key_only(server, monkeypatch):
    hook, store = signed_in(monkeypatch, server, "public")
    hook.refresh()
    entered = json.loads(os.environ["AIRFLOW_CONN_API"])["extra"]["refresh_token"]

    other, _ = connect(
        monkeypatch, server, "public", store=store, refresh_token=entered, dpop_private_key=(wrong := new_key())
    )
    with pytest.raises(exceptions.ReauthorizationRequired, match=r"'api'.*key under which it was issued") as caught:
        other.refresh()
    assert wrong.splitlines()[1] not in str(caught.value)

    # The server has kept the grant: with the former key, and the mark of death taken away, it goes on.
    store.record = replace(store.record, dead=None)
    back, _ = connect(monkeypatch, server, "public", store=store, refresh_token=entered)
    assert back.refresh().rotated
    assert server.stats()["reuses"] == 0


def test_a_lost_answer_is_asked_for_again_with_a_new_proof(server, monkeypatch):
    """A server that saw a proof twice would say invalid_grant, and the grant would be taken for dead."""
    from airflow_oauth_provider.oauth2 import errors, token_endpoint

    hook, store = signed_in(monkeypatch, server, "basic")
    send, sent, proofs = token_endpoint.post_form, [], []

    def never_arrives(client, url, fields, headers):
        proofs.append(headers["DPoP"])
        sent.append(fields)
        if len(sent) == 2:  # the one with the nonce
            raise errors.LostResponse("the connection broke")
        return send(client, url, fields, headers)

    monkeypatch.setattr(token_endpoint, "post_form", never_arrives)
    log = Log(server)
    assert hook.refresh().rotated
    assert log.errors() == ["use_dpop_nonce", None]
    assert len(set(proofs)) == len(proofs) == 3
    assert store.record.interrupted is None
    assert server.stats()["reuses"] == 0


def test_an_assertion_that_is_the_grant_is_made_anew_for_the_nonce(scripted_server, monkeypatch):
    """RFC 7523 section 3: a server may take a ``jti`` only once."""
    from tests.http_support import connect as connect_scripted

    seen = []

    def token(request):
        assertion = jwt.decode(request.form["assertion"], options={"verify_signature": False})
        proof = jwt.decode(request.header("DPoP"), options={"verify_signature": False})
        seen.append((assertion["jti"], proof["jti"], proof.get("nonce")))
        if proof.get("nonce") != "one":
            return Answer(400, {"error": "use_dpop_nonce"}, {"DPoP-Nonce": "one"})
        return Answer(200, {"access_token": "abc", "token_type": "DPoP", "expires_in": 60})

    scripted_server.routes["/token"] = token
    store = connect_scripted(
        monkeypatch, scripted_server, grant_type="jwt_bearer", private_key=new_key(), dpop_private_key=KEY
    )
    OAuth2Hook(CONN_ID).refresh()
    assert [nonce for _, _, nonce in seen] == [None, "one"]
    assert len({part for entry in seen for part in entry[:2]}) == 4
    assert store.record.token_type == "DPoP"
    assert store.record.interrupted is None


_WORKER = """
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
hook = OAuth2Hook("api", method="GET")
for _ in range(3):
    hook.refresh()
    assert hook.run("items").status_code == 200
"""


def test_two_processes_share_the_connection(server, monkeypatch, tmp_path):
    account = tmp_path / "account.json"
    tokens = sign_in(server, "public", scope=SCOPE, prompt="consent", dpop_key=KEY)
    account.write_text(json.dumps({"refresh_token": tokens["refresh_token"], "dpop_private_key": KEY}))
    connect(monkeypatch, server, "public", dpop_private_key=None)
    server.configure(api_dpop_nonce="of-the-api")
    connection = json.loads(os.environ["AIRFLOW_CONN_API"])
    connection["extra"] |= {"store": "file", "file_path": str(account)}
    environment = os.environ | {"AIRFLOW_CONN_API": json.dumps(connection)}
    log = Log(server)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert KEY.splitlines()[1] not in str(outputs)
    spends = [entry for entry in log.token if entry["rotated_to"]]
    assert json.loads(account.read_text())["token_record"]["generation"] == len(spends)
    assert server.stats()["reuses"] == 0
    assert log.errors().count("use_dpop_nonce") <= 2, "once a process"


# -- API calls -----------------------------------------------------------------------------------------------------


def test_each_call_has_a_proof_of_its_own_for_its_own_address(server, monkeypatch):
    hook, _ = signed_in(monkeypatch, server)
    with hook.get_conn() as session:
        for page in (1, 2, 3):
            assert session.get(f"{server.api_url}/items?page={page}#there").status_code == 200
        assert session.get(f"{server.url}/me", params={"sub": "1"}).status_code == 200  # oidc-provider verifies, too
    log = server.api_log()[-3:]
    assert {entry["proof"]["htu"] for entry in log} == {f"{server.api_url}/items"}
    assert len({entry["proof"]["jti"] for entry in log}) == 3
    assert all(entry["headers"]["authorization"].startswith("DPoP ") for entry in log)


def test_the_apis_nonce_costs_one_request_and_no_refresh(server, monkeypatch):
    hook, _ = signed_in(monkeypatch, server)
    hook.refresh()
    server.configure(api_dpop_nonce="of-the-api")
    log = Log(server)
    assert [hook.run("items").status_code for _ in range(3)] == [200, 200, 200]
    assert log.statuses() == [401, 200, 200, 200]
    assert log.token == []
    assert log.api[-1]["proof"]["nonce"] == "of-the-api"


def test_a_nonce_is_taken_from_a_success_too(server, monkeypatch):
    hook, _ = signed_in(monkeypatch, server)
    hook.refresh()
    server.configure(api_dpop_nonce="the-first", api_dpop_rotates=True)
    log = Log(server)
    with hook.get_conn() as session:
        for _ in range(4):
            assert session.get(f"{server.api_url}/items").status_code == 200
    assert log.statuses() == [401, 200, 200, 200, 200]
    assert len({entry["proof"]["nonce"] for entry in log.api}) == 5


def test_both_servers_have_nonces_of_their_own_at_one_address(server, monkeypatch):
    hook, _ = signed_in(monkeypatch, server)
    server.configure(api_dpop_nonce="of-the-api")
    log = Log(server)
    for _ in range(3):
        hook.refresh()
        assert hook.run("items").status_code == 200
    assert log.errors() == ["use_dpop_nonce", None, None, None]
    assert log.statuses() == [401, 200, 200, 200]


def test_a_redirect_has_a_proof_for_where_it_leads(server, monkeypatch):
    hook, _ = signed_in(monkeypatch, server)
    server.configure(api_dpop_nonce="of-the-api", api_dpop_rotates=True)
    log = Log(server)
    assert hook.run("moved").json() == {"subject": "someone"}
    assert [entry["proof"]["htu"].rpartition("/")[2] for entry in log.api] == ["moved", "moved", "me"]
    assert log.statuses()[-1] == 200


def test_an_expired_token_is_refreshed_and_the_request_proved_anew(server, monkeypatch):
    server.configure(access_token_lifetime=1)
    hook, store = signed_in(monkeypatch, server, refresh_when="unauthorized")
    hook.refresh()
    first = store.record.access_token
    wait_until(lambda: time.time() > store.record.expires_at + 1, 10, "the token has expired")
    server.configure(api_dpop_nonce="of-the-api", access_token_lifetime=3600)
    log = Log(server)
    assert hook.run("items").status_code == 200
    assert store.record.access_token != first
    # Turned down for the token; then, with the new token, for the nonce.
    assert [entry["error"] for entry in log.api] == ["invalid_token", "use_dpop_nonce", None]
    assert log.errors() == [None]


def test_retries_of_the_transport_adapter_have_new_proofs(server, monkeypatch):
    """urllib3 repeats a request by itself, with the header fields that it was given."""
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    hook, _ = signed_in(monkeypatch, server)
    log = Log(server)
    with hook.get_conn() as session:
        # To urllib3 a 200 is as good a reason as any, and the server takes no proof twice.
        session.mount("http://", HTTPAdapter(max_retries=Retry(2, status_forcelist=[200], raise_on_status=False)))
        assert session.get(f"{server.api_url}/items").status_code == 200
    assert log.statuses() == [200, 200, 200]
    assert len({entry["proof"]["jti"] for entry in log.api}) == 3


# -- operators, sensor, event loop -----------------------------------------------------------------------------------


def pages(response):
    following = response.json()["page"] + 1
    return {"data": {"page": following}} if following <= 3 else None


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_operator_page_by_page(server, monkeypatch, deferrable):
    _, store = signed_in(monkeypatch, server)
    server.configure(api_dpop_nonce="the-first", api_dpop_rotates=True)
    log = Log(server)
    operator = OAuth2HttpOperator(
        task_id="task",
        oauth2_conn_id=CONN_ID,
        method="GET",
        endpoint="items",
        pagination_function=pages,
        deferrable=deferrable,
    )
    texts = run_deferred(operator)[0] if deferrable else operator.execute(CONTEXT)
    assert sum(len(ids_of(json.loads(text))) for text in texts) == 30
    assert log.statuses() == [401, 200, 200, 200]
    assert log.errors() == ["use_dpop_nonce", None]
    assert store.record.token_type == "DPoP"


def test_the_stock_operator_on_the_connection(server, monkeypatch):
    from airflow.providers.http.operators.http import HttpOperator

    signed_in(monkeypatch, server)
    server.configure(api_dpop_nonce="of-the-api")
    operator = HttpOperator(task_id="task", http_conn_id=CONN_ID, method="GET", endpoint="items")
    assert json.loads(operator.execute(CONTEXT))["page"] == 1


def test_the_sensor(server, monkeypatch):
    signed_in(monkeypatch, server)
    server.configure(api_dpop_nonce="of-the-api")
    sensor = OAuth2HttpSensor(task_id="task", oauth2_conn_id=CONN_ID, endpoint="me", poke_interval=0.05, timeout=20)
    assert sensor.poke(CONTEXT)


def test_on_an_event_loop_with_a_redirect_and_an_expired_token(server, monkeypatch):
    server.configure(access_token_lifetime=1)
    hook, store = signed_in(monkeypatch, server, refresh_when="unauthorized")
    hook.refresh()
    wait_until(lambda: time.time() > store.record.expires_at + 1, 10, "the token has expired")
    server.configure(api_dpop_nonce="the-first", api_dpop_rotates=True, access_token_lifetime=3600)

    async def fetch():
        async with client_of(CONN_ID) as client:
            return [
                await client.send(PageRequest(endpoint, None, {}, {}, {}), RetryPolicy(1), RateLimit(None))
                for endpoint in ("moved", "items")
            ]

    log = Log(server)
    moved, items = asyncio.run(fetch())
    assert moved.json() == {"subject": "someone"}
    assert items.json()["page"] == 1
    assert [entry["error"] for entry in log.api] == ["invalid_token", "use_dpop_nonce", None, None, None]
    assert [entry["path"] for entry in log.api[1:]] == ["/api/moved", "/api/moved", "/api/me", "/api/items"]
    assert log.errors() == [None]


def test_the_key_shows_nowhere(server, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    hook, store = signed_in(monkeypatch, server)
    hook.refresh()
    response = hook.run("items")
    account = loader.ConnectionLoader(CONN_ID).load().configuration
    seen = caplog.text + repr(account) + repr(hook.settings) + repr(store.record) + repr(response.request.headers)
    seen += (
        repr(hook.tokens.prover)
        + repr(SigningKey(KEY))
        + json.dumps(server.api_log())
        + json.dumps(hook.get_token_response())
    )
    for line in KEY.splitlines()[1:-1]:
        assert line not in seen
