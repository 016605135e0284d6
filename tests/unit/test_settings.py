"""From a connection to what a refresh and a session need."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.tokens import messages

EXTRA = {"oauth_url": "https://login.example.com/token", "refresh_token": "first"}


def settings(
    *,
    host="https://api.example.com",
    login="id",
    password="s3cr3t-value",
    schema=None,
    port=None,
    conn_type="oauth2",
    **extra,
):
    connection = SimpleNamespace(
        conn_type=conn_type,
        host=host,
        schema=schema,
        port=port,
        login=login,
        password=password,
        extra=json.dumps({**EXTRA, **extra}),
    )
    return read_settings("xero", connection)


def test_the_account_of_a_plain_connection():
    account = settings(scope="a b", leeway=10).grant_configuration()
    assert (account.client.client_id, account.client.client_secret) == ("id", "s3cr3t-value")
    assert account.client.token_url == EXTRA["oauth_url"]
    assert account.client.auth_method == "client_secret_basic"
    assert account.options.scope == "a b"
    assert account.entered.refresh_token == "first"
    assert account.policy.leeway == 10
    assert account.rotates


def test_there_is_always_a_timeout():
    assert settings().transport.timeout == 30
    assert settings(timeout=5).grant_configuration().client.transport.timeout == 5


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"host": "api.example.com"}, "https://api.example.com"),
        ({"host": "api.example.com", "port": 8443}, "https://api.example.com:8443"),
        ({"host": "https://api.example.com/v2"}, "https://api.example.com/v2"),
        ({"host": "https://api.example.com/v2", "port": 8443}, "https://api.example.com:8443/v2"),
        ({"host": "127.0.0.1", "schema": "http", "port": 80}, "http://127.0.0.1:80"),
        ({"host": "http://internal", "allow_http": True}, "http://internal"),
        ({"host": None}, ""),
    ],
)
def test_base_url(parts, url):
    assert settings(**parts).base_url == url


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"host": "http://api.example.com"}, "unencrypted"),
        ({"host": "api.example.com", "schema": "http"}, "unencrypted"),
        ({"host": "ftp://api.example.com"}, "base URL"),
        ({"oauth_url": "http://login.example.com/token"}, "'oauth_url'"),
        ({"oauth_url": None}, "'issuer'"),
        ({"oauth_url": None, "issuer": "http://login.example.com"}, "'issuer'"),
        ({"login": ""}, "client id"),
        ({"password": ""}, "auth_method to 'none'"),
        ({"refresh_when": "interval"}, "'refresh_interval'"),
        ({"expires_at": "tomorrow"}, "'expires_at'"),
        ({"expires_at": "nan"}, "'expires_at'"),
        ({"allowed_hosts": "ftp://x"}, "'allowed_hosts'"),
        ({"cert": ["a", "b", "c"]}, "'cert'"),
        ({"host": "https:/api.example.com"}, "'host' is 'https:/api.example.com', but"),
        ({"host": "https://http/api"}, "'host'"),
        ({"host": "https://api.example.com/v1?x=hidden"}, "'host' is 'https://api.example.com/v1' with a query"),
        ({"host": "https://api.example.com#top"}, "'host'"),
        ({"host": "https://api.example.com:1", "port": 2}, "'host'"),
        ({"host": "api.example.com", "schema": "api.xro"}, "'schema' is 'api.xro'"),
        ({"verify": "ture"}, "the key 'verify' of its extra is \"ture\", but has to be true, false or the path of a"),
        ({"verify": "/no/such/ca.pem"}, '"/no/such/ca.pem"'),
        ({"cert": "/no/such/cert.pem"}, "'cert'"),
        ({"cert": [__file__, "/no/such/key.pem"]}, "/no/such/key.pem"),
    ],
)
def test_what_is_wrong_is_said_with_the_connection_and_the_key(parts, says):
    with pytest.raises(ConfigurationError, match="'xero'") as caught:
        settings(**parts).grant_configuration()
    assert says in str(caught.value)
    assert "s3cr3t-value" not in str(caught.value)


def test_a_url_is_shown_without_its_user_and_query():
    with pytest.raises(ConfigurationError) as caught:
        settings(oauth_url="http://me:hidden@login.example.com/token?key=hidden").grant_configuration()
    assert "hidden" not in str(caught.value)


def test_loopback_needs_no_tls():
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert settings(oauth_url=f"http://{host}:8080/token").grant_configuration().client.token_url


def test_client_and_refresh_token_may_be_kept_in_the_store():
    found = settings(login=None, password=None, refresh_token=None).grant_configuration(
        {"client_id": "kept-id", "client_secret": "kept-secret", "refresh_token": "kept-token"}
    )
    assert (found.client.client_id, found.client.client_secret) == ("kept-id", "kept-secret")
    assert found.entered.refresh_token == "kept-token"


def test_the_end_of_a_line_belongs_to_nothing_that_is_kept():
    found = settings(login=None, password=None, refresh_token=None).grant_configuration(
        {"client_id": "kept-id\n", "client_secret": "kept-secret\r\n", "refresh_token": "kept-token\n"}
    )
    assert (found.client.client_id, found.client.client_secret) == ("kept-id", "kept-secret")
    assert found.entered.refresh_token == "kept-token"


def test_what_the_connection_says_wins_over_what_is_kept():
    found = settings().grant_configuration({"client_id": "kept", "client_secret": "kept", "refresh_token": "kept"})
    assert (found.client.client_id, found.client.client_secret) == ("id", "s3cr3t-value")
    assert found.entered.refresh_token == "first"


@pytest.mark.parametrize(
    ("entered", "seconds"),
    [
        (1893456000, 1893456000.0),
        ("1893456000", 1893456000.0),
        (1893456000000, 1893456000.0),
        ("2030-01-01T00:00:00Z", 1893456000.0),
        ("2030-01-01T00:00:00", 1893456000.0),
        ("Tue, 01 Jan 2030 00:00:00 GMT", 1893456000.0),
    ],
)
def test_expiry_as_entered(entered, seconds):
    assert settings(expires_at=entered).grant_configuration().entered.expires_at == seconds


def test_a_public_client_needs_no_secret():
    account = settings(password=None, auth_method="none").grant_configuration()
    assert account.client.client_secret is None


@pytest.mark.parametrize(
    ("given", "read"), [("true", True), (False, False), ("false", False), (__file__, __file__), ("/", "/")]
)
def test_verify(given, read):
    assert settings(verify=given).transport.verify == read


def test_nothing_secret_in_a_repr():
    found = settings(access_token="the-access-token")
    account = found.grant_configuration()
    for shown in (repr(found), repr(account), repr(account.client), repr(account.entered)):
        assert "s3cr3t-value" not in shown
        assert "first" not in shown
        assert "the-access-token" not in shown


def test_what_may_be_secret_in_the_api_headers_and_proxies_is_masked():
    headers = {
        "Ocp-Apim-Subscription-Key": "0123456789abcdef",
        "Authorization-App": "Basic Y2xpZW50",
        "Accept": "application/json",
        "Api-Version": "2024-01-31",
        "X-Flag": "on",
    }
    proxies = {"https": "http://user:pr0xy%40pass@proxy.example.com:3128", "http": "proxy.example.com:3128"}
    secrets = settings(headers=headers, proxies=proxies).secrets
    assert {"0123456789abcdef", "Basic Y2xpZW50", "Y2xpZW50", "pr0xy%40pass", "pr0xy@pass"} <= set(secrets)
    assert not {"application/json", "2024-01-31", "on", "proxy.example.com:3128", ""} & set(secrets)


@pytest.fixture
def unwarned(monkeypatch):
    monkeypatch.setattr("airflow_oauth_provider.connection.settings._warned", set())


@pytest.mark.usefixtures("unwarned")
def test_keys_that_mean_nothing_are_warned_of_once(caplog):
    for _ in range(2):
        settings(leewy=600, allowed_host="x.example.com", qwertz="s3cr3t-value")
    (warning,) = caplog.messages
    assert "'leewy' means nothing here. Did you mean 'leeway'?" in warning
    assert "'allowed_host' means nothing here. Did you mean 'allowed_hosts'?" in warning
    assert "'qwertz' means nothing here." in warning
    assert "'xero'" in warning
    assert "s3cr3t-value" not in warning


@pytest.mark.usefixtures("unwarned")
def test_keys_of_httphook_and_of_presets_mean_something(caplog):
    settings(verify_ssl=True, max_redirects=3, stream=False, provider="zoho", dc="eu", oauth_url=None)
    assert caplog.messages == []


def test_what_is_missing_is_said_with_the_key_that_may_have_been_meant():
    with pytest.raises(ConfigurationError, match="Did you mean 'oauth_url'"):
        settings(oauth_url=None, oauth_ulr="https://login.example.com/token").grant_configuration()
    account = settings(refresh_token=None, refresh_tokn="first").grant_configuration()
    assert "Did you mean 'refresh_token'?" in messages.no_refresh_token(account)


def test_what_is_missing_is_said_with_the_place_where_it_may_be():
    place = "the Vault secret secret/xero"
    with pytest.raises(
        ConfigurationError, match="'login', or under the key 'client_id' in the Vault secret secret/xero"
    ):
        settings(login=None).grant_configuration({}, place)
    with pytest.raises(ConfigurationError, match="'client_secret' in the Vault secret secret/xero"):
        settings(password=None).grant_configuration({}, place)
    assert place in messages.no_refresh_token(settings(refresh_token=None).grant_configuration({}, place))


@pytest.mark.parametrize("conn_type", ["http", "", None, "OAuth2"])
def test_another_type_of_connection_is_named(conn_type):
    with pytest.raises(ConfigurationError, match=r"'xero': its type is .*'oauth2'"):
        settings(conn_type=conn_type)


@pytest.mark.parametrize("wrapped", ["{}\n", " {}", "\t{}\r\n", "{} "])
def test_line_ends_and_blanks_around_client_id_and_secret_are_not_theirs(wrapped):
    read = settings(login=wrapped.format("id"), password=wrapped.format("s3cr3t-value"))
    client = read.grant_configuration().client
    assert (client.client_id, client.client_secret) == ("id", "s3cr3t-value")
    assert "s3cr3t-value" in read.secrets


@pytest.mark.parametrize("blank", [" ", "\n", "\t"])
def test_a_blank_client_id_is_none(blank):
    with pytest.raises(ConfigurationError, match="no client id"):
        settings(login=blank).grant_configuration()


@pytest.mark.parametrize(
    "address",
    ["http:/proxy", "http//proxy:3128", "proxy:port", "ftp://proxy", "https://", "http://user:p4ss@/x", "", 3128, None],
)
def test_a_proxy_that_is_none_is_named_and_not_shown(address):
    with pytest.raises(ConfigurationError, match=r"'xero': the key 'proxies'.*'https'.*http://proxy") as caught:
        settings(proxies={"http": "http://good.example:3128", "https": address})
    assert "p4ss" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["http://proxy:3128", "https://u:p%40ss@proxy.example.com:8080/", "proxy.example.com:3128", "http://[::1]:8"],
)
def test_usable_proxies(address):
    assert settings(proxies={"https": f" {address} "}).transport.proxies == {"https": address}


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS5H", "socks4a"])
def test_a_socks_proxy_needs_its_package(monkeypatch, scheme):
    from airflow_oauth_provider.connection import settings as module

    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"'proxies'.*PySocks.*pip install"):
        settings(proxies={"https": f"{scheme}://u:p4ss@proxy:1080"})
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    assert settings(proxies={"https": f"{scheme}://proxy:1080"}).transport.proxies


@pytest.mark.parametrize(
    ("secret", "encoding", "hint"),
    [
        ("a+b", "percent", "'raw'"),
        ("a/b=", "percent", "'raw'"),
        ("a%b", "raw", "'percent'"),
        ("plain", "percent", None),
    ],
)
def test_a_secret_with_awkward_characters_that_is_refused(secret, encoding, hint):
    refusal = errors.InvalidClientResponse("https://as: invalid_client", code="invalid_client")
    configuration = settings(password=secret, basic_encoding=encoding).grant_configuration()
    text = str(messages.configuration_error(configuration, refusal))
    assert ("basic_encoding" in text) == (hint is not None)
    assert hint is None or hint in text
    assert secret not in text
