"""Every client authentication and its neighbours against oidc-provider, which enforces them."""

from __future__ import annotations

import json
from dataclasses import replace

import jwt
import pytest

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.connection import loader
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from tests.http_support import CONN_ID, Memory
from tests.servers.sign_in import sign_in

METHODS = ["basic", "post", "public", "secret-jwt", "key-jwt"]


def connect(monkeypatch, server, name, *, secret="", **extra):
    client = server.client(name)
    store = Memory()
    monkeypatch.setattr(loader, "open_store", lambda *_, **__: store)
    given = {
        "oauth_url": server.token_url,
        "auth_method": client.auth_method,
        "timeout": 10,
        "private_key": client.private_key,
        "key_id": client.key_id,
        **extra,
    }
    connection = {
        "conn_type": "oauth2",
        "host": server.api_url,
        "login": client.client_id,
        "password": client.client_secret or secret,
        "extra": given,
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    return OAuth2Hook(CONN_ID, method="GET"), store


def signed_in(monkeypatch, server, name, **extra):
    tokens = sign_in(server, name, scope="openid offline_access read", prompt="consent")
    return connect(monkeypatch, server, name, refresh_token=tokens["refresh_token"], **extra)


@pytest.mark.parametrize("name", METHODS)
def test_a_refresh_and_an_api_call(authorization_server, monkeypatch, name):
    hook, _ = signed_in(monkeypatch, authorization_server, name)
    assert [hook.refresh().rotated for _ in range(2)] == [True, True]
    with hook.get_conn() as session:
        assert session.get(f"{authorization_server.api_url}/items").status_code == 200


@pytest.mark.parametrize("name", ["basic", "key-jwt", "secret-jwt"])
def test_discovery_and_an_assertion_for_the_issuer(authorization_server, monkeypatch, name):
    hook, _ = signed_in(
        monkeypatch,
        authorization_server,
        name,
        oauth_url=None,
        issuer=authorization_server.issuer,
        assertion_audience="issuer",
    )
    assert hook.refresh().rotated


def test_the_key_may_be_a_jwk(authorization_server, monkeypatch):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from jwt.algorithms import RSAAlgorithm

    client = authorization_server.client("key-jwt")
    key = load_pem_private_key(client.private_key.encode(), None)
    jwk = {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": client.key_id}
    hook, _ = signed_in(monkeypatch, authorization_server, "key-jwt", private_key=jwk, key_id=None)
    assert hook.refresh().rotated


def test_the_key_may_stand_in_the_store(authorization_server, monkeypatch):
    client = authorization_server.client("key-jwt")
    hook, store = signed_in(monkeypatch, authorization_server, "key-jwt", private_key=None)
    read = store.read
    store.read = lambda: replace(read(), kept={"private_key": client.private_key})
    assert hook.refresh().rotated


@pytest.mark.parametrize(
    ("name", "method", "says"),
    [
        # Of basic and post oidc-provider takes either: test_dialects.py has a server that does not.
        ("basic", "none", "set auth_method to 'client_secret_basic'"),
        ("public", "client_secret_basic", "'client_secret_basic'. Check the client id and secret"),
        ("key-jwt", "client_secret_jwt", "'client_secret_jwt'. Check the client id and secret"),
        ("secret-jwt", "client_secret_basic", "'client_secret_basic'. Check the client id and secret"),
    ],
)
def test_another_method_than_the_registered_one_is_refused_and_costs_nothing(
    authorization_server, monkeypatch, name, method, says
):
    tokens = sign_in(authorization_server, name, scope="openid offline_access read", prompt="consent")
    given = {"refresh_token": tokens["refresh_token"]}
    hook, _ = connect(monkeypatch, authorization_server, name, secret="a-secret-" * 5, auth_method=method, **given)
    with pytest.raises(exceptions.InvalidClient) as caught:
        hook.refresh()
    assert says in str(caught.value)
    hook, _ = connect(monkeypatch, authorization_server, name, **given)
    assert hook.refresh().rotated


def test_the_wrong_key_is_invalid_client_and_says_what_to_check(authorization_server, monkeypatch):
    from tests.servers.authorization_server import _key_pair

    pem, _ = _key_pair("airflow-key")
    hook, _ = signed_in(monkeypatch, authorization_server, "key-jwt", private_key=pem)
    with pytest.raises(exceptions.InvalidClient, match=r"private_key_jwt.*assertion_audience"):
        hook.refresh()


@pytest.mark.parametrize("name", ["basic", "post", "secret-jwt", "key-jwt"])
def test_client_credentials(authorization_server, monkeypatch, name):
    hook, _ = connect(monkeypatch, authorization_server, name, grant_type="client_credentials")
    assert hook.refresh().rotated is False


def test_each_attempt_has_an_assertion_of_its_own(scripted_server, monkeypatch):
    """RFC 7523 section 3: a server may take a ``jti`` only once, so a retry needs a new one."""
    from tests.http_support import connect as connect_scripted
    from tests.servers.authorization_server import _key_pair
    from tests.servers.scripted import Answer

    seen = []

    def token(request):
        seen.append(jwt.decode(request.form["client_assertion"], options={"verify_signature": False}))
        if len(seen) < 3:
            return Answer(503, b"", {"Retry-After": "0"})
        return Answer(200, {"access_token": "abc", "expires_in": 60})

    scripted_server.routes["/token"] = token
    pem, _ = _key_pair("k")
    connect_scripted(monkeypatch, scripted_server, auth_method="private_key_jwt", private_key=pem)
    OAuth2Hook(CONN_ID).refresh()
    assert len({claims["jti"] for claims in seen}) == len(seen) == 3
    for claims in seen:
        assert claims["iss"] == claims["sub"] == scripted_server.client_id
        assert claims["aud"] == scripted_server.token_url
        assert claims["exp"] > claims["iat"]


def certificate(server, name):
    files = {"tls": server.certificates.client_file, "self-signed-tls": server.certificates.self_signed_file}
    return str(files[name])


@pytest.mark.parametrize("name", ["tls", "self-signed-tls"])
def test_mutual_tls(mtls_authorization_server, monkeypatch, name):
    server = mtls_authorization_server
    hook, _ = signed_in(monkeypatch, server, name, verify=server.ca_file, cert=certificate(server, name))
    assert [hook.refresh().rotated for _ in range(2)] == [True, True]
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/items").status_code == 200
    assert server.token_log()[-1]["auth_method"] == server.client(name).auth_method


@pytest.mark.parametrize(("name", "other"), [("tls", "self-signed-tls"), ("self-signed-tls", "tls")])
def test_mutual_tls_with_another_certificate(mtls_authorization_server, monkeypatch, name, other):
    server = mtls_authorization_server
    hook, store = signed_in(monkeypatch, server, name, verify=server.ca_file, cert=certificate(server, other))
    method = server.client(name).auth_method
    with pytest.raises(exceptions.InvalidClient, match=f"'{CONN_ID}'.*'{method}'.*'cert' is the certificate"):
        hook.refresh()
    assert store.record.dead is None


def test_mutual_tls_without_the_certificate(mtls_authorization_server, monkeypatch):
    server = mtls_authorization_server
    hook, _ = connect(monkeypatch, server, "tls", verify=server.ca_file, refresh_token="x")
    with pytest.raises(exceptions.ConfigurationError, match="'cert'"):
        hook.refresh()


@pytest.mark.parametrize("name", ["basic", "key-jwt"])
def test_revocation(authorization_server, monkeypatch, name):
    extra = {"oauth_url": None, "issuer": authorization_server.issuer}
    hook, store = signed_in(monkeypatch, authorization_server, name, **extra)
    hook.refresh()
    assert hook.revoke() is True
    assert store.record.dead.error == "revoked"
    with pytest.raises(exceptions.ReauthorizationRequired):
        OAuth2Hook(CONN_ID).refresh()


def test_introspection(authorization_server, monkeypatch):
    from airflow_oauth_provider.oauth2.token_endpoint import introspect

    hook, store = signed_in(
        monkeypatch, authorization_server, "basic", oauth_url=None, issuer=authorization_server.issuer
    )
    hook.refresh()
    client = loader.ConnectionLoader(CONN_ID).load().configuration.client
    known = introspect(client, store.record.access_token)
    assert known.active
    assert known.expires_in == pytest.approx(store.record.expires_in, abs=120)  # a loaded machine takes its time
    assert introspect(client, "no-such-token").active is False


def test_a_password_of_a_wrong_kind_shows_nothing(authorization_server, monkeypatch):
    hook, _ = connect(monkeypatch, authorization_server, "key-jwt", private_key="-----BEGIN SECRET-----")
    with pytest.raises(exceptions.ConfigurationError, match="'private_key'") as caught:
        hook.refresh()
    assert "BEGIN" not in str(caught.value)
