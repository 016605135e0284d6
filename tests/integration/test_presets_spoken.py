"""Each preset against a server that takes only what that vendor takes, and answers as that vendor does."""

from __future__ import annotations

import json
import time

import pytest

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.connection.extra import Extra
from airflow_oauth_provider.connection.fields import FIELDS_BY_KEY
from airflow_oauth_provider.connection.presets import PRESET_LABELS, load_presets
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from tests.http_support import CONN_ID, connect
from tests.servers.scripted import Answer, Fault

# What the vendors' documentation says; written down here anew, so that a slip in the data shows.
JSON_BODY = {"atlassian", "clover", "notion", "procore", "square"}
IN_THE_QUERY = {"gong", "miro"}
PUBLIC = {"clover", "etsy"}
BASIC = {
    "airtable", "calendly", "constant_contact", "docusign", "ebay", "figma", "fitbit", "gong", "notion", "okta",
    "pipedrive", "quickbooks", "reddit", "ringcentral", "slack", "smartcar", "snowflake", "spotify", "x", "xero",
    "zoom",
}  # fmt: skip
HEADERS = {
    "amazon_selling_partner": ("x-amz-access-token", "{}"),
    "shopify": ("X-Shopify-Access-Token", "{}"),
    "zoho": ("Authorization", "Zoho-oauthtoken {}"),
}
DAY = 86400


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def without(body, *names, **more):
    return {**{name: value for name, value in body.items() if name not in names}, **more}


# The vendor, its token answer made of a standard one, and the seconds that access and refresh token then live.
ANSWERS = [
    ("clover", lambda b, now: without(b, "expires_in", access_token_expiration=now + 1800), 1800, None),
    ("square", lambda b, now: without(b, "expires_in", expires_at=iso(now + 30 * DAY)), 30 * DAY, None),
    ("strava", lambda b, now: {**b, "expires_in": 20000, "expires_at": now + 21600}, 21600, None),
    ("quickbooks", lambda b, _: {**b, "x_refresh_token_expires_in": 50 * DAY}, 3600, 50 * DAY),
    ("github", lambda b, _: {**b, "refresh_token_expires_in": 100 * DAY}, 3600, 100 * DAY),
    ("slack", lambda b, _: {"ok": True, **b, "token_type": "bot", "scope": "chat:write,users:read"}, 3600, None),
    ("notion", lambda b, _: without(b, "expires_in"), None, None),
    ("box", lambda b, _: b, 3600, 60 * DAY),
    ("exact_online", lambda b, _: {**b, "expires_in": "600"}, 600, 30 * DAY),
]

# The vendor, status and body of what it answers when the refresh token is dead, or the client wrong.
REFUSALS = [
    ("slack", 200, {"ok": False, "error": "invalid_refresh_token"}, exceptions.ReauthorizationRequired),
    ("slack", 200, {"ok": False, "error": "bad_client_secret"}, exceptions.InvalidClient),
    ("zoho", 200, {"error": "invalid_code"}, exceptions.ReauthorizationRequired),
    ("zoho", 200, {"error": "invalid_client_secret"}, exceptions.InvalidClient),
    ("github", 200, {"error": "bad_refresh_token"}, exceptions.ReauthorizationRequired),
    ("github", 200, {"error": "incorrect_client_credentials"}, exceptions.InvalidClient),
    ("google", 400, {"error": "invalid_grant", "error_subtype": "invalid_rapt"}, exceptions.ReauthorizationRequired),
    ("atlassian", 403, {"error": "unauthorized_client"}, exceptions.UnauthorizedClient),
    ("atlassian", 403, {"error": "invalid_grant"}, exceptions.ReauthorizationRequired),
    ("microsoft_entra", 400, {"error": "interaction_required"}, exceptions.ReauthorizationRequired),
    (
        "fitbit",
        400,
        {"errors": [{"errorType": "invalid_grant", "message": "it is gone"}], "success": False},
        exceptions.ReauthorizationRequired,
    ),
    ("fitbit", 401, {"error": "invalid_client"}, exceptions.InvalidClient),
]


def strict(server, name):
    """Make the token endpoint refuse what this vendor would."""
    server.auth_method = "client_secret_basic" if name in BASIC else "none" if name in PUBLIC else "client_secret_post"
    if name in PUBLIC:
        server.client_secret = ""
    grant = server.routes["/token"]
    sent_as = "query" if name in IN_THE_QUERY else "json" if name in JSON_BODY else "form"

    def token(request):
        kind = request.header("Content-Type") or ""
        came_as = "query" if request.query else "json" if kind.startswith("application/json") else "form"
        if came_as != sent_as or (came_as == "query" and request.body):
            return Answer(400, {"error": "invalid_request", "error_description": f"came as {came_as}"})
        return grant(request)

    server.routes["/token"] = token


@pytest.fixture
def use(scripted_server, monkeypatch):
    def make(name, **extra):
        strict(scripted_server, name)
        parameters = [f"{parameter}=example" for parameter in load_presets()[name].parameters]
        store = connect(
            monkeypatch,
            scripted_server,
            provider=name,
            provider_params=parameters,
            **{"min_refresh_interval": 0.001, "refresh_when": "expired", **extra},
        )
        return OAuth2Hook(CONN_ID, method="GET"), store, scripted_server

    return make


@pytest.mark.parametrize("name", list(PRESET_LABELS))
def test_a_refresh_and_an_api_call(use, name):
    hook, store, server = use(name)
    field, value = HEADERS.get(name, ("Authorization", "Bearer {}"))
    server.routes["/api/any"] = lambda request: Answer(
        200 if request.header(field) == value.format(store.record.access_token) else 418
    )
    assert [hook.refresh().rotated for _ in range(2)] == [True, True]
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/any").status_code == 200
    assert (server.spends, server.reuses) == (2, 0)


@pytest.mark.parametrize(("name", "reshape", "access", "refresh"), ANSWERS)
def test_lifetimes_as_the_vendor_says_them(use, name, reshape, access, refresh):
    hook, store, server = use(name)
    server.rules.reshape = lambda body: reshape(body, int(time.time()))
    hook.refresh()
    record = store.record
    assert record.expires_in == (None if access is None else pytest.approx(access, abs=5))
    ends = record.refresh_expires_at
    assert (ends and ends - time.time()) == (None if refresh is None else pytest.approx(refresh, abs=60))


@pytest.mark.parametrize(("name", "status", "body", "error"), REFUSALS)
def test_refusals_as_the_vendor_says_them(use, name, status, body, error):
    hook, store, server = use(name)
    server.faults.append(Fault(status=status, body=body))
    with pytest.raises(error):
        hook.refresh()
    assert (store.record.dead is not None) is (error is exceptions.ReauthorizationRequired)


def test_zohos_throttling_is_waited_out(use):
    hook, _, server = use("zoho")
    throttled = {"error": "Access Denied", "error_description": "You have made too many requests", "status": "failure"}
    server.faults.append(Fault(status=200, body=throttled))
    assert hook.refresh().generation == 1


def test_amazons_403_refreshes_only_if_it_is_about_the_token(use):
    hook, _, server = use("amazon_selling_partner")
    said = ["The access token you provided has expired.", None, "Access to requested resource is denied."]
    server.routes["/api/any"] = lambda _: Answer(403 if (text := said.pop(0)) else 200, {"message": text})
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/any").status_code == 200
        assert session.get(f"{server.api_url}/any").status_code == 403
    assert server.spends == 2


def other_value(key, value):
    """Another value of the kind that ``key`` takes, than ``value``."""
    field = FIELDS_BY_KEY[key]
    if field.choices:
        return next(choice for choice in field.choices if choice != value)
    if key.endswith("url") or key == "issuer":
        return "https://other.example.com/place"
    return {
        "number": 4711,
        "boolean": not value,
        "list": ["408"],
        "pairs": {"access_token": "$.other"},
        "object": {"path": "$.other", "pattern": "x"},
        "string": ";",
    }[field.kind]


@pytest.mark.parametrize("name", list(PRESET_LABELS))
def test_any_key_of_the_connection_wins_over_its_preset(name):
    preset = load_presets()[name]
    given = {"provider": name, **dict.fromkeys(preset.parameters, "example")}
    as_it_is = Extra("c", json.dumps(given))
    for key, value in preset.resolve(given).items():
        if key not in FIELDS_BY_KEY:
            continue  # what is only known of the vendor, or a column of the connection
        other = other_value(key, value)
        assert Extra("c", json.dumps({**given, key: other})).get(key) == other != as_it_is.get(key)
