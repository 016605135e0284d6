"""Callbacks in place of the token request, and the grants beside refresh_token."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import jwt
import pytest

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from tests.http_support import CONN_ID, connect
from tests.integration.test_client_authentication import connect as connect_registered
from tests.servers.authorization_server import _key_pair
from tests.servers.scripted import Answer

PATH = "deployment_callbacks.oauth:fetch"


@pytest.fixture
def callback(scripted_server, monkeypatch):
    """Return a function that installs a callback, and connects to it."""
    monkeypatch.setattr(deployment, "callback_prefixes", lambda: ["deployment_callbacks"])

    def install(function, **extra):
        package, module = ModuleType("deployment_callbacks"), ModuleType("deployment_callbacks.oauth")
        package.__path__ = []
        module.fetch = function
        monkeypatch.setitem(sys.modules, "deployment_callbacks", package)
        monkeypatch.setitem(sys.modules, "deployment_callbacks.oauth", module)
        store = connect(monkeypatch, scripted_server, callback=PATH, **extra)
        return OAuth2Hook(CONN_ID, method="GET"), store

    return install


def by_the_server(server):
    """Return a callback that refreshes at the scripted server, by its own means."""

    def fetch(values):
        status, body = server.grants.refresh(values["refresh_token"])
        return body if status == 200 else {"errorResponse": body}

    return fetch


def test_a_callback_refreshes_and_its_result_is_kept(callback, scripted_server):
    seen = []
    fetch = by_the_server(scripted_server)
    hook, store = callback(lambda values: seen.append(values) or fetch(values))
    first, second = hook.refresh(), hook.refresh()
    assert (first.rotated, second.rotated, second.generation) == (True, True, 2)
    assert (scripted_server.spends, scripted_server.reuses) == (2, 0)
    assert scripted_server.requests_to("/token") == []
    assert seen[1]["refresh_token"] != seen[0]["refresh_token"]
    assert seen[1]["access_token"] != store.record.access_token
    assert {"client_id", "client_secret", "scope", "oauth_url", "expires_at"} <= seen[0].keys()


def test_the_callback_runs_inside_the_lease(callback, scripted_server):
    leases = []
    fetch = by_the_server(scripted_server)

    def watching(values):
        leases.append(store.record.lease)
        return fetch(values)

    _, store = callback(watching)
    threads = [threading.Thread(target=lambda: OAuth2Hook(CONN_ID).get_access_token()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(leases) == 1
    assert leases[0] is not None
    assert scripted_server.reuses == 0


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        (
            {"errorResponse": {"error": "invalid_grant", "error_description": "over"}},
            exceptions.ReauthorizationRequired,
        ),
        ({"errorResponse": "invalid_client"}, exceptions.InvalidClient),
        ({"error": "invalid_scope"}, exceptions.InvalidScope),
        (None, exceptions.MalformedResponse),
        ("a token", exceptions.MalformedResponse),
        ({}, exceptions.MalformedResponse),
        ({"access_token": 5}, exceptions.MalformedResponse),
        ({"access_token": "a\nb"}, exceptions.MalformedResponse),
        ({"access_token": "abc", "token_type": "mac"}, exceptions.MalformedResponse),
        ({"access_token": object()}, exceptions.MalformedResponse),
    ],
)
def test_what_it_returns_is_validated_like_an_answer(callback, returned, error):
    hook, _ = callback(lambda _: returned)
    with pytest.raises(error, match=r"deployment_callbacks|invalid_grant: over"):
        hook.refresh()


def test_what_it_raises_may_have_spent_the_token_and_is_not_shown(callback):
    calls = []

    def fetch(values):
        calls.append(values)
        raise RuntimeError(values["refresh_token"])

    hook, store = callback(fetch, resend_lost_response=False)
    with pytest.raises(exceptions.TokenRequestError, match=r"raised RuntimeError in fetch, line \d+") as caught:
        hook.refresh()
    assert len(calls) == 1
    assert calls[0]["refresh_token"] not in str(caught.value)
    assert store.record.interrupted


@pytest.mark.parametrize(("path", "says"), [(f"{PATH}ed", "no function"), ("deployment_callbacks.no:f", "imported")])
def test_a_callback_that_is_not_there(callback, monkeypatch, scripted_server, path, says):
    callback(lambda _: {})
    connect(monkeypatch, scripted_server, callback=path)
    with pytest.raises(exceptions.ConfigurationError, match=says):
        OAuth2Hook(CONN_ID).refresh()


def test_a_callback_that_is_not_allowed_is_not_imported(monkeypatch, scripted_server):
    monkeypatch.setattr(deployment, "callback_prefixes", list)
    connect(monkeypatch, scripted_server, callback="antigravity:fly_through")
    with pytest.raises(exceptions.ConfigurationError, match="callback_prefixes"):
        OAuth2Hook(CONN_ID).refresh()
    assert "antigravity" not in sys.modules


def test_the_prefixes_come_from_the_configuration(monkeypatch):
    monkeypatch.setenv("AIRFLOW__OAUTH2__CALLBACK_PREFIXES", " a.b , c ")
    assert deployment.callback_prefixes() == ("a.b", "c")


# Grants


@pytest.fixture
def granting(scripted_server, monkeypatch):
    """Return a function that connects with a grant, and what the server was sent."""
    forms = []

    def token(request):
        forms.append(request.form)
        return Answer(200, {"access_token": f"at-{len(forms)}", "expires_in": 60, "refresh_token": "not for us"})

    scripted_server.routes["/token"] = token

    def make(**extra):
        store = connect(monkeypatch, scripted_server, **extra)
        return OAuth2Hook(CONN_ID), store, forms

    return make


def test_password(granting, caplog):
    hook, store, forms = granting(grant_type="password", username="me", user_password="pw +&", scope="a")
    hook.refresh()
    assert forms == [{"grant_type": "password", "username": "me", "password": "pw +&", "scope": "a"}]
    assert "RFC 9700 section 2.4" in caplog.text
    assert store.record.refresh_token is None


def test_jwt_bearer(granting, scripted_server):
    pem, _ = _key_pair("k")
    hook, _, forms = granting(
        grant_type="jwt_bearer",
        auth_method="none",
        private_key=pem,
        key_id="k7",
        assertion_subject="user@example.com",
        assertion_audience="https://audience.example",
        assertion_claims={"scope": "read"},
    )
    hook.refresh()
    hook.refresh()
    claims = [jwt.decode(form["assertion"], options={"verify_signature": False}) for form in forms]
    assert forms[0]["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert jwt.get_unverified_header(forms[0]["assertion"])["kid"] == "k7"
    assert claims[0]["jti"] != claims[1]["jti"]
    assert claims[0] | {"iss": scripted_server.client_id, "sub": "user@example.com", "scope": "read"} == claims[0]
    assert claims[0]["aud"] == "https://audience.example"


def test_password_at_django(django_server, monkeypatch):
    """Django looks the user up, and gives a token that its API takes."""

    def use(password):
        given = {"grant_type": "password", "username": "test-user", "user_password": password, "scope": "read"}
        return connect_registered(monkeypatch, django_server, "password", **given)[0]

    with use("test-password").get_conn() as session:
        assert session.get(f"{django_server.api_url}/items").status_code == 200
    with pytest.raises(exceptions.ConfigurationError, match="check username and user_password") as caught:
        use("another-password").refresh()
    assert "another-password" not in str(caught.value)


@pytest.fixture
def strict(scripted_server):
    """A server that takes assertions of one key only, for itself, in their time, and each but once."""
    pem, public = _key_pair("k7")
    seen = set()

    def token(request):
        try:
            claims = jwt.decode(
                request.form.get("assertion", ""),
                jwt.PyJWK(public),
                algorithms=["RS256"],
                audience=scripted_server.token_url,
                issuer=scripted_server.client_id,
                options={"require": ["exp", "iat", "jti", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            return Answer(400, {"error": "invalid_grant", "error_description": type(error).__name__})
        if claims["jti"] in seen or claims["sub"] != "user@example.com":
            return Answer(400, {"error": "invalid_grant", "error_description": "replayed, or an unknown subject"})
        seen.add(claims["jti"])
        return Answer(200, scripted_server.issue_tokens())

    scripted_server.routes["/token"] = token
    return pem


def bearer(monkeypatch, server, **extra):
    given = {"grant_type": "jwt_bearer", "auth_method": "none", "assertion_subject": "user@example.com", **extra}
    connect(monkeypatch, server, **given)
    return OAuth2Hook(CONN_ID, method="GET")


def test_jwt_bearer_where_the_assertion_is_checked(scripted_server, strict, monkeypatch):
    hook = bearer(monkeypatch, scripted_server, private_key=strict)
    assert [hook.refresh().generation for _ in range(2)] == [1, 2]
    with hook.get_conn() as session:
        assert session.get(f"{scripted_server.api_url}/items").status_code == 200


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"private_key": _key_pair("other")[0]}, "InvalidSignatureError"),
        ({"assertion_audience": "https://elsewhere.example"}, "InvalidAudienceError"),
        ({"assertion_issuer": "somebody"}, "InvalidIssuerError"),
        ({"assertion_subject": "stranger@example.com"}, "unknown subject"),
    ],
)
def test_jwt_bearer_that_is_refused(scripted_server, strict, monkeypatch, extra, said):
    hook = bearer(monkeypatch, scripted_server, **{"private_key": strict, **extra})
    with pytest.raises(exceptions.ConfigurationError, match=f"{said}.*check assertion_issuer, assertion_subject"):
        hook.refresh()


@pytest.mark.parametrize("right", [True, False])
def test_token_exchange_where_the_subject_token_is_checked(scripted_server, monkeypatch, right):
    subject = scripted_server.issue_tokens()["access_token"] if right else "made-up"

    def token(request):
        form = request.form
        if form["subject_token_type"] != "urn:ietf:params:oauth:token-type:access_token":
            return Answer(400, {"error": "invalid_request"})
        if not scripted_server.grants.accepts(form["subject_token"]):
            return Answer(400, {"error": "invalid_grant"})
        issued = scripted_server.issue_tokens()
        return Answer(200, {**issued, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})

    scripted_server.routes["/token"] = token
    connect(monkeypatch, scripted_server, grant_type="token_exchange", subject_token=subject)
    hook = OAuth2Hook(CONN_ID, method="GET")
    if right:
        with hook.get_conn() as session:
            assert session.get(f"{scripted_server.api_url}/items").status_code == 200
    else:
        with pytest.raises(exceptions.ConfigurationError, match="'subject_token'"):
            hook.refresh()


def test_token_exchange(granting):
    hook, _, forms = granting(
        grant_type="token_exchange",
        subject_token="theirs",
        actor_token="mine",
        requested_type="urn:ietf:params:oauth:token-type:access_token",
        audience="api",
        resource="https://a.example",
    )
    hook.refresh()
    token_type = "urn:ietf:params:oauth:token-type:access_token"
    assert forms == [
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": "theirs",
            "subject_token_type": token_type,
            "actor_token": "mine",
            "actor_token_type": token_type,
            "requested_token_type": token_type,
            "audience": "api",
            "resource": "https://a.example",
        }
    ]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"grant_type": "password", "username": "me", "user_password": "x"}, "user_password"),
        ({"grant_type": "token_exchange", "subject_token": "x"}, "subject_token"),
    ],
)
def test_a_refused_grant_is_a_matter_of_configuration(scripted_server, monkeypatch, extra, says):
    scripted_server.routes["/token"] = lambda _: Answer(400, {"error": "invalid_grant"})
    connect(monkeypatch, scripted_server, **extra)
    with pytest.raises(exceptions.ConfigurationError, match=says):
        OAuth2Hook(CONN_ID).refresh()
