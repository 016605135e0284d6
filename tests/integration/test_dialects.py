"""Vendors' dialects against a server that speaks them, through the hook that users have."""

from __future__ import annotations

import base64
import json
import logging
import time
import traceback
from dataclasses import replace

import pytest
import requests

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from tests.http_support import CONN_ID, connect
from tests.servers.scripted import Answer, Fault

REFRESHED = "refreshed"


@pytest.fixture
def use(scripted_server, monkeypatch):
    """Make the connection; return the hook, the store and the server."""

    def make(**extra):
        connect_extra = {"auth_method": "client_secret_post", **extra}
        store = connect(monkeypatch, scripted_server, **connect_extra)
        return OAuth2Hook(CONN_ID, method="GET"), store, scripted_server

    return make


def token_request(server):
    return server.requests_to("/token")[-1]


# The request


def test_the_default_is_a_form_in_the_body(use):
    hook, _, server = use()
    assert hook.refresh().action == REFRESHED
    request = token_request(server)
    assert request.header("Content-Type") == "application/x-www-form-urlencoded"
    assert request.query == {}
    assert request.form["grant_type"] == "refresh_token"
    assert request.form["client_secret"] == server.client_secret


def test_json(use):
    hook, _, server = use(request_format="json", resource="https://a.example https://b.example")
    hook.refresh()
    request = token_request(server)
    assert request.header("Content-Type") == "application/json"
    assert request.json()["client_secret"] == server.client_secret
    assert request.json()["resource"] == ["https://a.example", "https://b.example"]


def test_query(use, caplog):
    caplog.set_level(logging.DEBUG)
    hook, _, server = use(request_format="query")
    server.rules.scope = "a"
    hook.refresh()
    request = token_request(server)
    assert (request.body, request.method) == (b"", "POST")
    assert request.query["client_secret"] == server.client_secret
    assert request.query["grant_type"] == "refresh_token"
    secrets = [server.client_secret, request.query["refresh_token"], *server.grants.issued]
    assert not [secret for secret in secrets if secret in caplog.text]
    assert "client_secret" not in caplog.text


def test_a_refresh_url_of_its_own(use):
    hook, _, server = use(oauth_url="https://127.0.0.1:1/never")
    server.routes["/renew"] = server.routes["/token"]
    hook, _, server = use(oauth_url="https://127.0.0.1:1/never", refresh_url=f"{server.url}/renew")
    assert hook.refresh().action == REFRESHED
    assert [request.path for request in server.requests] == ["/renew"]


def test_extra_parameters_replace_and_remove_and_names_change(use):
    hook, _, server = use(
        grant_type="client_credentials",
        extra_params="grant_type=account_credentials, account_id=12, audience=",
        audience="gone",
        param_names="client_id=client_key",
        extra_headers="User-Agent=mine/1.0",
    )
    seen = {}

    def answer(request):
        seen.update(request.form)
        return Answer(200, {"access_token": "abc", "expires_in": 60})

    server.routes["/token"] = answer
    hook.refresh()
    assert seen == {
        "grant_type": "account_credentials",
        "account_id": "12",
        "client_key": server.client_id,
        "client_secret": server.client_secret,
    }
    assert token_request(server).header("User-Agent") == "mine/1.0"


def test_scopes_by_comma_both_ways(use):
    hook, _, server = use(scope="a b", scope_separator=",")
    server.rules.reshape = lambda body: {**body, "scope": "a,b"}
    assert hook.refresh().scope == "a b"
    assert token_request(server).form["scope"] == "a,b"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("percent", "air%20flow:s3%2Bc%20r%3Ae%25t"),
        ("form", "air+flow:s3%2Bc+r%3Ae%25t"),
        ("raw", "air flow:s3+c r:e%t"),
    ],
)
def test_basic_credentials(use, encoding, expected):
    _, _, server = use()
    server.client_id, server.client_secret = "air flow", "s3+c r:e%t"
    seen = []
    server.routes["/token"] = lambda request: (
        seen.append(request.header("Authorization")) or Answer(200, {"access_token": "abc", "expires_in": 9})
    )
    hook, _, _ = use(auth_method="client_secret_basic", basic_encoding=encoding)
    hook.refresh()
    assert base64.b64decode(seen[0].removeprefix("Basic ")).decode() == expected


@pytest.mark.parametrize(
    ("taken", "sent"),
    [("client_secret_basic", "client_secret_post"), ("client_secret_post", "client_secret_basic")],
)
def test_the_other_place_for_the_secret_is_refused_and_the_error_names_the_right_one(use, taken, sent):
    hook, _, server = use(auth_method=sent)
    server.auth_method = taken
    with pytest.raises(exceptions.InvalidClient, match=f"with '{sent}'.*then try auth_method '{taken}'"):
        hook.refresh()
    assert server.spends == 0


# The answer


def test_tokens_by_json_path(use):
    hook, store, server = use(
        response_map="access_token=$.data.tokens[0].value, refresh_token=$.data.again, expires_in=$.data.ttl"
    )
    server.rules.reshape = lambda body: {
        "data": {
            "tokens": [{"value": body["access_token"]}],
            "again": body["refresh_token"],
            "ttl": 120,
            "api": "https://eu.example",
        }
    }
    status = hook.refresh()
    assert (status.rotated, store.record.expires_in) == (True, 120)
    kept = json.dumps(dict(store.record.response_parameters))
    assert store.record.access_token not in kept
    assert store.record.refresh_token not in kept
    assert hook.get_token_response()["data"] == {"ttl": 120, "api": "https://eu.example"}
    assert hook.refresh().generation == 2
    assert (server.spends, server.reuses) == (2, 0)


def test_tokens_by_a_filter(use):
    hook, store, server = use(
        response_map=["access_token=$.issued[?(@.type=='access')].value", "refresh_token=$..renewal"]
    )
    server.rules.reshape = lambda body: {
        "issued": [{"type": "id", "value": "not this"}, {"type": "access", "value": body["access_token"]}],
        "more": {"renewal": body["refresh_token"]},
    }
    assert [hook.refresh().rotated for _ in range(2)] == [True, True]
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/items").status_code == 200
    assert hook.get_token_response()["issued"][0] == {"type": "id", "value": "not this"}
    assert store.record.access_token not in json.dumps(dict(store.record.response_parameters))


@pytest.mark.parametrize(
    ("extra", "reshape", "lifetime"),
    [
        ({}, {"expires_in": "90"}, 90),
        ({"expires_in_unit": "milliseconds"}, {"expires_in": 90000}, 90),
        ({"default_expires_in": 90}, {"expires_in": None}, 90),
        ({"default_expires_in": 90}, {"expires_in": 0}, 90),
        ({}, {"expires_in": None, "expires_at": lambda now: now + 90}, 90),
        ({}, {"expires_in": None, "expires_at": lambda now: (now + 90) * 1000}, 90),
        (
            {"response_map": "expires_at=$.until"},
            {"until": lambda now: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 90))},
            90,
        ),
        ({}, {"expires_in": lambda now: time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now + 90))}, 90),
    ],
)
def test_lifetimes(use, extra, reshape, lifetime):
    hook, store, server = use(**extra)
    now = int(time.time())
    new = {name: value(now) if callable(value) else value for name, value in reshape.items()}
    server.rules.reshape = lambda body: {k: v for k, v in {**body, **new}.items() if v is not None}
    hook.refresh()
    assert store.record.expires_in == pytest.approx(lifetime, abs=3)


def test_an_error_inside_a_success(use):
    hook, store, server = use(
        error_in_200={"path": "$.ok", "pattern": "^false$"}, error_map="invalid_refresh_token=invalid_grant"
    )
    server.faults.append(Fault(body={"ok": False, "error": "invalid_refresh_token", "access_token": "x"}))
    with pytest.raises(exceptions.ReauthorizationRequired, match="invalid_refresh_token"):
        hook.refresh()
    assert store.record.dead.error == "invalid_refresh_token"


def test_text_inside_a_success_means_later(use):
    hook, store, server = use(
        error_in_200={"path": "$", "pattern": "Access Denied"}, error_map="Access Denied=temporarily_unavailable"
    )
    server.faults.append(Fault(body="<p>Access Denied</p>", times=1))
    assert hook.refresh().generation == 1
    assert store.record.dead is None


def test_errors_elsewhere_and_by_other_names(use):
    hook, _, server = use(
        response_map="error=$.errors[0].errorType, error_description=$.errors[0].message",
        error_map="nope=invalid_client",
    )
    server.faults.append(Fault(status=401, body={"errors": [{"errorType": "nope", "message": "who are you"}]}))
    with pytest.raises(exceptions.InvalidClient, match="who are you"):
        hook.refresh()


# The table of common problems in docs/recipes/zappysys.md


@pytest.mark.parametrize(
    ("fault", "extra", "kind", "says"),
    [
        (
            {"status": 401, "body": {"error": "invalid_client"}},
            {},
            exceptions.InvalidClient,
            ["'client_secret_post'", "then try auth_method 'client_secret_basic'"],
        ),
        (
            {"status": 400, "body": {"error": "invalid_grant"}},
            {},
            exceptions.ReauthorizationRequired,
            ["A person has to sign in again", "'refresh_token'", "no task calls the server again"],
        ),
        (
            {"status": 400, "body": {"error": "invalid_scope"}},
            {"scope": "a b"},
            exceptions.InvalidScope,
            ["the scope 'a b'", "leave 'scope' empty"],
        ),
        (
            {"status": 200, "body": {"data": {"access_token": "hidden-1"}, "jwt": "hidden-2"}},
            {},
            exceptions.MalformedResponse,
            ["no access_token", "It has: data, jwt", "'response_map'"],
        ),
        (
            {"status": 200, "body": {"data": {"token": "hidden-1"}}},
            {"response_map": "access_token=$.data.access_token"},
            exceptions.MalformedResponse,
            ["no access_token at $.data.access_token", "It has: data"],
        ),
        (
            {"status": 200, "body": "<html><title>hidden</title></html>"},
            {},
            exceptions.MalformedResponse,
            ["a web page", "is this the token endpoint", "proxy"],
        ),
    ],
)
def test_common_problems(use, fault, extra, kind, says):
    hook, _, server = use(**extra)
    server.faults.append(Fault(times=9, **fault))
    with pytest.raises(kind, match=f"Connection '{CONN_ID}'") as caught:
        hook.refresh()
    text = str(caught.value)
    assert [part for part in says if part not in text] == []
    assert "hidden" not in text


def test_an_unknown_token_type_is_not_used_but_its_refresh_token_is_kept(use):
    hook, store, server = use()
    server.rules.reshape = lambda body: {**body, "token_type": "mac"}
    with pytest.raises(exceptions.MalformedResponse, match="accepted_types"):
        hook.refresh()
    assert server.grants.is_usable_refresh_token(store.record.refresh_token)
    assert server.reuses == 0
    assert store.record.access_token is None


def test_token_types_that_the_connection_names(use):
    hook, _, server = use(accepted_types="bearer, bot")
    server.rules.reshape = lambda body: {**body, "token_type": "Bot"}
    assert hook.refresh().generation == 1


# Refresh tokens that end


def test_a_refresh_token_that_ends_soon_is_warned_of(use, caplog):
    hook, store, server = use()
    server.rules.send_refresh_token = False
    server.rules.extra = {"refresh_token_expires_in": 5 * 86400}
    hook.refresh()
    server.rules.extra = {"refresh_token_expires_in": 5 * 86400 - 30}
    assert "A person has to sign in again" not in caplog.text
    hook.refresh()
    assert "in 5.0 days" in caplog.text
    assert store.record.refresh_expires_at == pytest.approx(time.time() + 5 * 86400, abs=60)


def test_a_refresh_that_puts_the_end_off_does_not_warn(use, caplog):
    hook, store, _ = use(refresh_idle_days=2)
    hook.refresh()
    hook.refresh()
    assert "sign in again" not in caplog.text
    assert store.record.refresh_expires_at == pytest.approx(time.time() + 2 * 86400, abs=60)


# The API


@pytest.mark.parametrize(
    ("extra", "header", "value"),
    [
        ({}, "Authorization", "Bearer {}"),
        ({"header_prefix": "Zoho-oauthtoken"}, "Authorization", "Zoho-oauthtoken {}"),
        ({"header_name": "X-Api-Token"}, "X-Api-Token", "{}"),
        ({"header_name": "X-Api-Token", "header_prefix": "Token"}, "X-Api-Token", "Token {}"),
        ({"header_prefix": "none"}, "Authorization", "{}"),
    ],
)
def test_the_header_of_the_token(use, extra, header, value):
    hook, store, server = use(**extra)
    server.routes["/api/any"] = lambda _: Answer(200, {})
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/any").status_code == 200
    request = server.requests_to("/api/any")[-1]
    assert request.header(header) == value.format(store.record.access_token)
    if header != "Authorization":
        assert request.header("Authorization") is None


def test_the_token_in_the_query(use):
    hook, store, server = use(in_query="access_token")
    old = []

    def api(request):
        old.append(request.query["access_token"])
        return Answer(200 if len(old) > 1 else 401, {})

    server.routes["/api/any"] = api
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/any?q=a%2Fb&x=1").status_code == 200
    last = server.requests_to("/api/any")[-1]
    assert last.target.startswith("/api/any?q=a%2Fb&x=1&access_token=")
    assert last.target.count("access_token=") == 1
    assert old[0] != old[1] == store.record.access_token
    assert last.header("Authorization") is None


def test_a_token_in_the_query_shows_in_nothing_that_a_task_gets(use):
    hook, store, server = use(in_query="access_token")
    server.routes["/api/old"] = lambda _: Answer(302, {}, {"Location": "/api/new"})
    server.routes["/api/new"] = lambda _: Answer(200, {})
    response = hook.run("/old")
    assert [answer.url for answer in (*response.history, response)] == [f"{server.api_url}/{n}" for n in ("old", "new")]
    with pytest.raises(exceptions.ApiError) as refused:
        hook.run("/nothing")
    server.faults.append(Fault("/api/new", reset=True))
    with hook.get_conn() as session, pytest.raises(requests.ConnectionError) as lost:
        session.get(f"{server.api_url}/new")
    with hook.get_conn() as session, pytest.raises(requests.HTTPError) as wrong:
        session.get(f"{server.api_url}/nothing").raise_for_status()
    texts = ["".join(traceback.format_exception(caught.value)) for caught in (refused, lost, wrong)]
    assert all(f"{server.api_url}/" in text for text in texts)
    assert not [text for text in texts if store.record.access_token in text]
    assert lost.value.request.url == f"{server.api_url}/new"


def test_statuses_that_mean_expired_by_a_pattern(use):
    hook, _, server = use(expired_statuses="401, 403", expired_pattern="token (has )?expired")
    bodies = [Answer(403, "the token has expired"), Answer(200, {})]
    server.routes["/api/any"] = lambda _: bodies.pop(0)
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/any").status_code == 200
        assert server.spends == 2
        bodies[:] = [Answer(403, "you may not see this")]
        assert session.get(f"{server.api_url}/any").status_code == 403
    assert server.spends == 2


# Introspection and revocation


def test_a_lifetime_by_introspection(use):
    hook, store, server = use(introspect=True)
    server.rules.expires_in = False
    server.routes["/introspect"] = lambda _: Answer(200, {"active": True, "exp": int(time.time()) + 600})
    hook, store, server = use(introspect=True, introspection_url=f"{server.url}/introspect")
    hook.refresh()
    assert store.record.expires_in == pytest.approx(600, abs=3)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(500), "stays unknown"),
        (Answer(503, b"", {"Retry-After": "30"}), "stays unknown"),
        (Answer(401, {"error": "invalid_client"}), "stays unknown"),
        (Answer(200, {"scope": "read"}), "stays unknown"),
        (Answer(200, {"active": False}), ""),
    ],
)
def test_no_failure_of_introspection_loses_a_token(use, caplog, answer, says):
    _, _, server = use()
    server.rules.expires_in = False
    hook, store, server = use(introspect=True, introspection_url=f"{server.url}/introspect")
    server.routes["/introspect"] = lambda _: answer
    assert hook.refresh().rotated
    assert len(server.requests_to("/introspect")) == 1, "a token is in hand: nobody waits for its lifetime"
    assert store.record.expires_in is None
    assert says in caplog.text


def test_a_revoked_access_token_is_recovered_from(use):
    hook, _, server = use()
    hook, _, server = use(revocation_url=f"{server.url}/revoke")
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/items").status_code == 200
        assert hook.revoke("access_token") is True
        assert session.get(f"{server.api_url}/items").status_code == 200
    assert (server.spends, server.reuses) == (2, 0)
    assert server.requests_to("/revoke")[0].form["token_type_hint"] == "access_token"


def test_a_revoked_grant_is_not_asked_again(use):
    hook, store, server = use()
    hook, store, server = use(revocation_url=f"{server.url}/revoke")
    hook.refresh()
    assert hook.revoke() is True
    asked = len(server.requests_to("/token"))
    with pytest.raises(exceptions.ReauthorizationRequired, match="on purpose"):
        OAuth2Hook(CONN_ID).refresh()
    assert len(server.requests_to("/token")) == asked
    assert store.record.access_token is None


def test_a_revocation_that_fails_says_that_the_token_exists(use):
    hook, _, server = use()
    hook, store, server = use(revocation_url=f"{server.url}/revoke")
    hook.refresh()
    server.faults.append(Fault(on="/revoke", status=503, headers={"Retry-After": "7"}))
    with pytest.raises(exceptions.TokenRequestError, match=r"still exists.* after 7 s, as the server asks"):
        hook.revoke()
    assert store.record.dead is None
    assert hook.revoke() is True


def test_revocation_without_an_endpoint_names_the_key(use):
    hook, _, _ = use()
    with pytest.raises(exceptions.ConfigurationError, match="'revocation_url'"):
        hook.revoke()


def test_revocation_by_discovery(use):
    _, _, server = use()
    hook, _, server = use(oauth_url=None, issuer=server.url)
    hook.refresh()
    assert hook.revoke("access_token") is True
    assert server.requests_to("/revoke")


# When to refresh


def requests_of(hook, server, number=3):
    with hook.get_conn() as session:
        return [session.get(f"{server.api_url}/items").status_code for _ in range(number)]


def test_refresh_always_refreshes_once_a_task(use):
    hook, _, server = use(refresh_when="always")
    assert requests_of(hook, server) == [200] * 3
    assert server.spends == 1
    assert requests_of(OAuth2Hook(CONN_ID, method="GET"), server) == [200] * 3
    assert server.spends == 2


def test_refresh_unauthorized_waits_for_a_401(use):
    hook, _, server = use(refresh_when="unauthorized", leeway=99999)
    assert requests_of(hook, server) == [200] * 3
    assert server.spends == 1, "there was none at first"
    server.grants.expire_access_tokens()
    assert requests_of(hook, server) == [200] * 3
    assert server.spends == 2


def test_refresh_interval(use):
    hook, store, server = use(refresh_when="interval", refresh_interval=600)
    server.rules.lifetime = 3600
    assert requests_of(hook, server) == [200] * 3
    assert server.spends == 1
    store.record = replace(store.record, issued_at=store.record.issued_at - 601)
    assert requests_of(OAuth2Hook(CONN_ID, method="GET"), server) == [200] * 3
    assert server.spends == 2


def test_refresh_never(use):
    _, _, server = use()
    tokens = server.issue_tokens()
    hook, _, server = use(refresh_when="never", access_token=tokens["access_token"])
    assert requests_of(hook, server) == [200] * 3
    server.grants.expire_access_tokens()
    assert requests_of(hook, server) == [401] * 3
    assert server.spends == 0
    assert server.requests_to("/token") == []
