"""Keys for dialects, presets, credentials and callbacks: what is read, and what a mistake is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.connection.dialect import BearerUsage
from airflow_oauth_provider.connection.fields import FIELDS
from airflow_oauth_provider.connection.presets import PRESET_LABELS, load_presets
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.client import Dialect

URL = "https://login.example.com/token"


def _key():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


KEY = _key()


def settings(*, host="https://api.example.com", login="id", password="hidden-secret", **extra):
    connection = SimpleNamespace(
        conn_type="oauth2", host=host, schema=None, port=None, login=login, password=password, extra=json.dumps(extra)
    )
    return read_settings("xero", connection)


def test_names_of_presets_are_those_of_the_data():
    assert list(PRESET_LABELS) == list(load_presets())


def test_a_plain_connection_has_no_dialect():
    read = settings(oauth_url=URL)
    assert read.grant_configuration().client.dialect == Dialect()
    assert read.bearer_usage == BearerUsage()


@pytest.mark.parametrize("name", list(PRESET_LABELS))
def test_every_preset_makes_an_account(name):
    preset = load_presets()[name]
    parameters = dict.fromkeys(preset.parameters, "example")
    extra = {"provider": name, **parameters}
    read = settings(host=None, cert=__file__, private_key=KEY, **extra)
    client = read.grant_configuration().client
    assert (client.token_url or client.issuer).startswith("https://")
    assert client.auth_method == preset.defaults["auth_method"]
    if "host" in preset.defaults:
        assert read.base_url.startswith("https://")
    pairs = [f"{parameter}=example" for parameter in parameters]
    assert settings(
        host=None, cert=__file__, private_key=KEY, provider=name, provider_params=pairs
    ).grant_configuration() == (read.grant_configuration())


def test_a_key_of_the_connection_wins_over_its_preset():
    read = settings(host=None, provider="zoho", dc="eu", header_prefix="Bearer", auth_method="client_secret_basic")
    client = read.grant_configuration().client
    assert client.token_url == "https://accounts.zoho.eu/oauth/v2/token"
    assert client.auth_method == "client_secret_basic"
    assert read.bearer_usage.header_prefix == "Bearer"
    assert dict(client.dialect.error_codes)["Access Denied"] == "temporarily_unavailable"
    assert settings(provider="zoho", dc="eu").bearer_usage.header_prefix == "Zoho-oauthtoken"


def test_a_host_of_the_connection_wins():
    assert settings(provider="xero").base_url == "https://api.example.com"
    assert settings(provider="xero", host="").base_url == "https://api.xero.com"


def test_secrets_do_not_go_to_the_preset_where_the_connection_names_another_server():
    client = settings(provider="clover", oauth_url=URL).grant_configuration().client
    assert (client.token_url, client.refresh_url) == (URL, "")
    client = settings(provider="xero", issuer="https://login.example.com").grant_configuration().client
    assert (client.token_url, client.revocation_url) == ("", "")


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"provider": "xeero"}, ["'provider'", "xeero", "did you mean xero", "quickbooks"]),
        ({"provider": "microsoft_entra"}, ["'tenant'", "directory", "provider_params"]),
        ({"provider": "microsoft_entra", "tenant": "a/b"}, ["'tenant'", "without https://"]),
        ({"request_format": "xml"}, ["'request_format'", "xml", "form, json, query"]),
        ({"response_map": "token=$.x"}, ["'response_map'", "token", "access_token, refresh_token"]),
        ({"response_map": "access_token=$$["}, ["'response_map'", "'access_token'"]),
        ({"response_map": "access_token"}, ["'response_map'", "name=value"]),
        ({"error_map": "x=invalid"}, ["'error_map'", "'x'", "invalid_grant"]),
        ({"error_in_200": {"path": "$.ok"}}, ["'error_in_200'", "pattern"]),
        ({"error_in_200": {"path": "$.ok", "pattern": "("}}, ["'error_in_200'", "regular expression"]),
        ({"scope_separator": "and"}, ["'scope_separator'", "one character"]),
        ({"extra_headers": "Authorization=Basic abc"}, ["'extra_headers'", "auth_method"]),
        ({"extra_headers": "a b=c"}, ["'extra_headers'", "'a b'"]),
        ({"expires_in_unit": "days"}, ["'expires_in_unit'", "days", "milliseconds"]),
        ({"default_expires_in": 0}, ["'default_expires_in'", "at least 1"]),
        ({"header_name": "X Token"}, ["'header_name'", "X Token", "X-Api-Key"]),
        ({"header_prefix": "a\nb"}, ["'header_prefix'"]),
        ({"expired_statuses": "teapot"}, ["'expired_statuses'", "401, 403"]),
        ({"expired_statuses": "200, 401"}, ["'expired_statuses'", "expired_pattern"]),
        ({"expired_pattern": "("}, ["'expired_pattern'", "regular expression"]),
        ({"basic_encoding": "none"}, ["'basic_encoding'", "percent, form, raw"]),
        ({"refresh_url": "http://x.example/t"}, ["'refresh_url'", "https"]),
        ({"revocation_url": "http://x.example/t"}, ["'revocation_url'", "https"]),
        ({"auth_method": "private_key_jwt"}, ["'private_key'", "PEM or JWK"]),
        ({"auth_method": "private_key_jwt", "private_key": "hidden-key"}, ["'private_key'", "PEM or JWK"]),
        ({"auth_method": "private_key_jwt", "private_key": {"kty": "RSA", "n": "hidden-key"}}, ["'private_key'"]),
        ({"auth_method": "tls_client_auth"}, ["'cert'", "tls_client_auth"]),
        ({"grant_type": "password"}, ["'username'", "password"]),
        ({"grant_type": "password", "username": "me"}, ["'user_password'"]),
        ({"grant_type": "token_exchange"}, ["'subject_token'"]),
        ({"grant_type": "jwt_bearer"}, ["'private_key'"]),
        ({"assertion_alg": "none"}, ["'assertion_alg'", "RS256"]),
        ({"callback": "os:system"}, ["'callback'", "allowed", "my_company.oauth"]),
        ({"callback": "my_company.oauthx:f"}, ["'callback'", "my_company.oauth"]),
        ({"callback": "my_company.oauth"}, ["'callback'", "package.module:function"]),
    ],
)
def test_a_mistake_names_connection_key_value_and_what_is_right(monkeypatch, extra, says):
    monkeypatch.setattr(deployment, "callback_prefixes", lambda: ["my_company.oauth"])
    base = {} if "provider" in extra else {"oauth_url": URL}
    with pytest.raises(ConfigurationError, match="'xero'") as caught:
        settings(**{**base, **extra}).grant_configuration()
    text = str(caught.value)
    assert [part for part in says if part.lower() not in text.lower()] == []
    assert "hidden" not in text


def test_no_preset_is_read_without_a_provider(monkeypatch):
    monkeypatch.setattr("airflow_oauth_provider.connection.presets.preset", lambda _: pytest.fail("read"))
    assert settings(oauth_url=URL).grant_configuration()


def test_pairs_in_all_their_forms():
    expected = {"a": "1", "b": "x=y"}
    for given in ("a=1, b=x=y", ["a=1", "b=x=y"], {"a": 1, "b": "x=y"}, '{"a": 1, "b": "x=y"}'):
        assert settings(oauth_url=URL, extra_params=given).grant_configuration().client.dialect.parameters == expected


def test_what_is_said_how_to_send_may_be_of_any_type():
    for extra in ({"header_prefix": "Token"}, {"header_name": "X-Key"}, {"in_query": "key"}):
        assert settings(oauth_url=URL, **extra).grant_configuration().client.dialect.accepts("odd")
    assert not settings(oauth_url=URL).grant_configuration().client.dialect.accepts("odd")


def test_secrets_of_the_connection_are_all_masked():
    secret_keys = {field.key for field in FIELDS if field.secret and not field.kept}
    given = dict.fromkeys(secret_keys, "hidden") | {"private_key": KEY, "dpop_private_key": KEY}
    assert len(settings(oauth_url=URL, **given).secrets) == len(secret_keys) + 1


def test_secrets_among_further_parameters_are_masked():
    read = settings(oauth_url=URL, extra_params="account_id=12, api_key=k123", extra_headers="X-Auth-Token=t123")
    assert read.secrets == ["hidden-secret", "k123", "t123"]


def test_a_jwt_bearer_grant_needs_no_other_authentication():
    account = settings(oauth_url=URL, grant_type="jwt_bearer", private_key=KEY, password=None).grant_configuration()
    assert account.client.auth_method == "none"
    assert not account.rotates
