"""Where a person signs in: what the connection says, else what the issuer publishes."""

from __future__ import annotations

import pytest

from airflow_oauth_provider.connection import sign_in
from airflow_oauth_provider.connection.settings import SignIn
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.discovery import Metadata
from airflow_oauth_provider.tokens.configuration import GrantConfiguration

ISSUER = "https://login.example"
CONFIGURATION = GrantConfiguration("acme", Client("client", "", issuer=ISSUER))


def find(monkeypatch, published, said=None):
    metadata = Metadata(ISSUER, f"{ISSUER}/token", published)
    monkeypatch.setattr(sign_in, "discover", lambda issuer, transport: metadata)
    return sign_in.find_endpoints(CONFIGURATION, said or SignIn())


def test_what_the_issuer_publishes(monkeypatch):
    found = find(
        monkeypatch,
        {
            "authorization_endpoint": f"{ISSUER}/auth",
            "device_authorization_endpoint": f"{ISSUER}/device",
            "authorization_response_iss_parameter_supported": True,
        },
    )

    assert found == sign_in.Endpoints(f"{ISSUER}/auth", f"{ISSUER}/device", True)


def test_what_the_connection_says_comes_first(monkeypatch):
    said = SignIn("https://said.example/auth", "https://said.example/device")

    found = find(monkeypatch, {"authorization_endpoint": f"{ISSUER}/auth"}, said)

    assert (found.authorize_url, found.device_authorize_url) == (said.authorize_url, said.device_authorize_url)


@pytest.mark.parametrize("value", [None, 7, [], ""])
def test_what_is_no_text_is_not_published(monkeypatch, value):
    assert find(monkeypatch, {"authorization_endpoint": value}).authorize_url == ""


@pytest.mark.parametrize("name", ["authorization_endpoint", "device_authorization_endpoint"])
@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://login.example/auth", "//login.example/auth", "data:x"])
def test_a_browser_is_sent_to_https_only(monkeypatch, name, url):
    with pytest.raises(ConfigurationError, match=f"'acme': .*{name}"):
        find(monkeypatch, {name: url})


@pytest.mark.parametrize(
    ("token_url", "issuer", "says"),
    [
        ("https://other.example/token", ISSUER, f"its issuer {ISSUER} publishes none"),
        ("https://identity.xero.com/connect/token", "", "set its 'provider' to 'xero'"),
        (f"{ISSUER}/token", "", f"set its 'issuer' to '{ISSUER}'"),
        (f"{ISSUER}/elsewhere", "", "it has no issuer to ask. Enter the address from the vendor's documentation. Or"),
    ],
)
@pytest.mark.parametrize("key", ["authorize_url", "device_authorize_url"])
def test_a_missing_endpoint_is_named_with_what_could_replace_it(monkeypatch, key, token_url, issuer, says):
    monkeypatch.setattr(sign_in, "discover", lambda issuer, transport: Metadata(ISSUER, f"{ISSUER}/token", {}))
    configuration = GrantConfiguration("acme", Client("client", token_url, issuer=issuer))
    prepared = sign_in.Preparation(None, configuration, SignIn(), sign_in.Endpoints("", ""))
    with pytest.raises(ConfigurationError) as caught:
        sign_in.begin_device(prepared) if "device" in key else sign_in.begin(prepared, "http://127.0.0.1/callback")
    assert f"Connection 'acme': there is no {key!r} in its extra" in str(caught.value)
    assert says in str(caught.value)
