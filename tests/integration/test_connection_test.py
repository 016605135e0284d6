"""The button "Test connection": it tries what can be tried, spends nothing, and writes nowhere."""

from __future__ import annotations

import json

import pytest

from airflow_oauth_provider.compat import variables
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.stores.variable import VariableStore
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
    monkeypatch.setattr(VariableStore, "write", lambda *parts, **_: writes.append(parts))

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
    assert "a test does not spend it" in says
    (token_request,) = server.requests_to("/token")
    assert (token_request.body, token_request.header("Authorization")) == (b"", None)
    (api_call,) = [request for request in server.requests if request.target.startswith("/api")]
    assert (api_call.header("Authorization"), api_call.header("X-Subscription-Key")) == (None, None)
    assert server.spends == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"oauth_url": "https://login.invalid/token"}, "token endpoint: https://login.invalid/token: no connection"),
        ({"host": "https://api.invalid"}, "host: Connection 'kzqwhxgf': HEAD https://api.invalid got no answer"),
        ({"store": "vault", "vault_conn_id": "no_such_vault", "vault_path": "x"}, "'no_such_vault'"),
        ({"store": "file", "file_path": "/no/such/file.json"}, "/no/such/file.json"),
        ({"verify": "ture"}, "'verify'"),
    ],
)
def test_what_cannot_work_fails_and_is_named(tried, changed, says):
    worked, text = tried(**changed)
    assert not worked
    assert says in text


def test_an_address_that_is_no_token_endpoint(tried, server):
    server.routes["/nothing"] = lambda _: Answer(404, "no such page")
    worked, says = tried(oauth_url=f"{server.url}/nothing")
    assert not worked
    assert "there is no token endpoint" in says


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
