"""Resource indicators (RFC 8707) against oidc-provider, which issues tokens for one resource that it knows."""

from __future__ import annotations

import pytest

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.connection import loader
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.oauth2.token_endpoint import introspect
from tests.http_support import CONN_ID
from tests.integration.test_client_authentication import connect
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.sign_in import sign_in

ITEMS = "https://items.example.com/"
FILES = "https://files.example.com/v2"
UNKNOWN = "https://unknown.example.com/"


@pytest.fixture(scope="module")
def server():
    """The API takes tokens for ITEMS only."""
    with AuthorizationServer(resources=[ITEMS, FILES], api_audience=ITEMS) as server:
        yield server


@pytest.fixture
def granted(server, monkeypatch):
    """Return a function that connects with a grant for these resources, and asks for tokens for those."""

    def make(resource, of=(ITEMS,), **extra):
        tokens = sign_in(server, scope="openid offline_access read", prompt="consent", resources=of)
        extra = {"issuer": server.issuer, "refresh_token": tokens["refresh_token"], "resource": resource, **extra}
        return connect(monkeypatch, server, "basic", **extra)

    return make


def audience_of(store):
    client = loader.ConnectionLoader(CONN_ID).load().configuration.client
    return introspect(client, store.record.access_token).members.get("aud")


def test_each_refresh_names_the_resource_and_the_api_takes_the_token(granted, server):
    hook, store = granted(ITEMS)
    for _ in range(2):
        assert hook.refresh().rotated
        assert audience_of(store) == ITEMS
        assert server.token_log()[-1]["resource"] == ITEMS
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/items").status_code == 200


def test_of_a_grant_for_two_resources_the_token_is_for_the_one_that_is_named(granted, server):
    hook, store = granted(FILES, of=(ITEMS, FILES))
    hook.refresh()
    assert audience_of(store) == FILES
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/items").status_code == 401, "a token for another API"


def test_without_a_resource_the_api_does_not_take_the_token(granted, server):
    hook, store = granted(None, of=())
    hook.refresh()
    assert audience_of(store) is None
    with hook.get_conn() as session:
        assert session.get(f"{server.api_url}/items").status_code == 401


@pytest.mark.parametrize("resource", [UNKNOWN, FILES, f"{ITEMS} {FILES}", "items"])
def test_a_refused_resource_is_a_matter_of_configuration(granted, server, resource):
    hook, store = granted(resource)
    with pytest.raises(exceptions.ConfigurationError, match=f"'{CONN_ID}'.*invalid_target") as caught:
        hook.refresh()
    assert f"the resource {resource!r}" in str(caught.value)
    assert store.record.dead is None
    assert server.stats()["reuses"] == 0


@pytest.mark.parametrize("resource", [ITEMS, None])
def test_client_credentials(server, monkeypatch, resource):
    extra = {"issuer": server.issuer, "grant_type": "client_credentials", "resource": resource}
    hook, store = connect(monkeypatch, server, "basic", **extra)
    hook.refresh()
    assert audience_of(store) == resource


@pytest.mark.parametrize("resource", [UNKNOWN, f"{ITEMS} {FILES}"])
def test_client_credentials_for_what_the_server_does_not_know(server, monkeypatch, resource):
    connect(monkeypatch, server, "basic", grant_type="client_credentials", resource=resource)
    with pytest.raises(exceptions.ConfigurationError, match=r"invalid_target.*the resource 'https:"):
        OAuth2Hook(CONN_ID).refresh()
