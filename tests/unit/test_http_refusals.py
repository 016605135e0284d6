"""What is refused before a request leaves, and what errors say of requests that failed."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError
from urllib3.exceptions import ProxyError as PoolProxyError

from airflow_oauth_provider.connection.dialect import BearerUsage
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.http.auth import OAuth2Auth
from airflow_oauth_provider.http.errors import api_error, failure_text, never_connected, presentable, show_target
from airflow_oauth_provider.http.session import OAuth2Session, check_headers, check_proxy
from tests.unit.test_auth import API, make

SECRET = "".join(["s3", "cr3t", "-of-mine"])


# -- header fields -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        f"{SECRET}\n",
        f"{SECRET}\r\nX-More: 1",
        f"\n{SECRET}",
        f" {SECRET}",
        f"\t{SECRET}",
        f"{SECRET}\0",
        f"{SECRET}\x7f",
        f"{SECRET}\u2028",
        f"{SECRET}…",
        f"{SECRET}\n".encode(),
        [SECRET],
        7,
    ],
)
def test_a_header_that_cannot_be_sent_is_named_and_not_shown(value):
    with pytest.raises(ConfigurationError, match=r"'api'.*'X-Subscription'") as caught:
        check_headers("api", {"Accept": "x", "X-Subscription": value})
    assert SECRET not in str(caught.value)
    session, network, _ = make(lambda _: (200, {}))
    with pytest.raises(ConfigurationError, match="'xero'"):
        session.get(f"{API}/a", headers={"X-Subscription": value})
    session.headers["X-Subscription"] = value
    with pytest.raises(ConfigurationError, match="'xero'"):
        session.get(f"{API}/a")
    assert network.requests == []


@pytest.mark.parametrize("name", ["", "a b", "X:", "X\n", "é", b"X\r"])
def test_a_header_name_that_is_none(name):
    with pytest.raises(ConfigurationError, match="'api'"):
        check_headers("api", {name: "1"})


@pytest.mark.parametrize("value", ["", "a b", "a\tb", "Ä", b"bytes", 'a, b; c="d"', None])
def test_what_can_be_sent(value):
    check_headers("api", {"X-A": value})


@pytest.mark.parametrize("token", ["t\n", "t\r\nX: 1", " t", "t t", "t\u00e4", "\0", ""])
def test_a_token_that_cannot_stand_in_a_header_is_refused_unseen(token):
    session, network, tokens = make(lambda _: (200, {}))
    token = token and f"{SECRET}{token}"
    tokens.access_token = lambda **_: token
    with pytest.raises(ConfigurationError, match=r"'xero': its access token") as caught:
        session.get(f"{API}/a")
    assert SECRET not in str(caught.value)
    assert network.requests == []


def test_a_token_in_the_query_is_masked_in_the_form_that_logs_have():
    masked = []
    token = "ab+/=c d"
    BearerUsage(in_query="key").mask_with(masked.append)(token)
    assert masked == [token, quote(token, safe="")]
    masked.clear()
    BearerUsage().mask_with(masked.append)(token)
    assert masked == [token]
    request = requests.Request("GET", f"{API}/a").prepare()
    BearerUsage(in_query="key").put(request, token)
    assert request.url.endswith(quote(token, safe=""))


# -- proxies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["http:/proxy", "http:///", "http://", "ftp://proxy:1", "proxy:port", "http://[::1"])
def test_a_proxy_that_is_no_address_is_named(proxy):
    with pytest.raises(ConfigurationError, match=r"'api': the proxy .* is no address"):
        check_proxy("api", "https://api.example.com/", {"https": proxy}, allow_http=False)


def test_a_proxys_password_is_not_shown():
    with pytest.raises(ConfigurationError) as caught:
        check_proxy("api", "https://api.example.com/", {"https": f"ftp://me:{SECRET}@proxy:1"}, allow_http=False)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "socks4a"])
def test_a_socks_proxy_without_its_library_says_what_to_install(scheme, monkeypatch):
    monkeypatch.setattr("airflow_oauth_provider.http.session.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=rf"{scheme} proxy .*requests\[socks\]"):
        check_proxy("api", "https://api.example.com/", {"https": f"{scheme}://proxy:1080"}, allow_http=False)


@pytest.mark.parametrize(
    ("url", "proxy", "allow_http", "refused"),
    [
        ("http://127.0.0.1:8080/", "http://proxy.example:3128", False, True),
        ("http://localhost/", "proxy.example:3128", False, True),
        ("http://127.0.0.1/", "https://proxy.example:3128", False, True),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:3128", False, False),
        ("http://127.0.0.1:8080/", "http://[::1]:3128", False, False),
        ("http://127.0.0.1:8080/", "http://proxy.example:3128", True, False),
        ("https://api.example.com/", "http://proxy.example:3128", False, False),
    ],
)
def test_plain_http_goes_to_no_proxy_beyond_this_machine(url, proxy, allow_http, refused):
    for proxies in ({"http": proxy, "https": proxy}, {"all": proxy}):
        if refused:
            with pytest.raises(ConfigurationError, match=r"'api'.*unencrypted to the proxy proxy\.example"):
                check_proxy("api", url, proxies, allow_http=allow_http)
        else:
            check_proxy("api", url, proxies, allow_http=allow_http)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environments_proxy_counts_too(monkeypatch, variable):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://proxy.example:3128")
    session, network, _ = make(lambda _: (200, {}), allowed=("http://127.0.0.1:9",))
    with pytest.raises(ConfigurationError, match="unencrypted"):
        session.get("http://127.0.0.1:9/x")
    assert network.requests == []
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    session, *_ = make(lambda _: (200, {}), allowed=("http://127.0.0.1:9",))
    assert session.get("http://127.0.0.1:9/x").status_code == 200


def test_a_connection_that_allows_http_may():
    session, network, _ = make(lambda _: (200, {}), allowed=("http://127.0.0.1:9",))
    free = OAuth2Session(5, allow_http=True)
    free.mount("http://", network)
    free.auth = session.auth
    free.proxies = {"http": "http://proxy.example:3128"}
    assert free.get("http://127.0.0.1:9/x").status_code == 200


# -- what errors say -----------------------------------------------------------------------------------------------


def answered(status, body=b"", **more):
    response = requests.Response()
    response.status_code, response._content, response.url = status, body, f"{API}/x?code=abc&page=2&key={SECRET}"
    response.reason = more.pop("reason", "Reason")
    response.headers.update(more)
    response.request = requests.Request("GET", response.url).prepare()
    return response


def test_codes_of_an_error_are_shown_and_secrets_are_not():
    body = (
        b'{"error": {"code": "quota_exceeded", "errorCode": "E-17", "access_token": "hidden-1", "apiKey":"hidden 2"}}'
    )
    text = str(api_error(answered(400, body), "api"))
    assert "quota_exceeded" in text
    assert "E-17" in text
    assert "hidden" not in text
    assert SECRET not in text
    assert "page=2" in text


@pytest.mark.parametrize("query", ["code=abcdef", "state=abcdef", "access_token=abcdef", "X-Amz-Signature=abcdef"])
def test_an_authorization_code_in_a_query_is_a_secret(query):
    assert "abcdef" not in show_target(f"{API}/callback?{query}")


def test_a_proxy_that_refuses_is_named_as_the_proxy():
    assert "proxy, which wants a user" in str(api_error(answered(407), "api"))
    reason = OSError("Tunnel connection failed: 407 Proxy Authentication Required")
    error = requests.exceptions.ProxyError(
        MaxRetryError(None, f"/x?key={SECRET}", PoolProxyError("Unable to connect to proxy", reason))
    )
    text = failure_text("GET", f"{API}/x", error, "api")
    assert "'proxies'" in text
    assert "407" in text


def test_too_many_redirects_are_a_sentence():
    text = failure_text("GET", f"{API}/x", requests.TooManyRedirects("Exceeded 30 redirects."), "api")
    assert text == (
        f"Connection 'api': GET {API}/x was redirected more than 'max_redirects' times: the addresses lead in a "
        "circle, or more redirects have to be allowed"
    )


def test_an_error_made_presentable_keeps_why_there_was_no_connection():
    """HttpHook looks there for whether to go on to the next host that DNS names."""
    reason = NewConnectionError(None, f"refused {SECRET}1234567890abc")
    request = requests.Request("GET", f"{API}/x").prepare()
    error = requests.ConnectionError(MaxRetryError(None, f"/x?key={SECRET}", reason), request=request)
    clean = presentable(error, "GET", "api", lambda request: request)
    from airflow.providers.http.hooks import http as provider

    assert getattr(provider, "_is_connect_failure", never_connected)(clean)
    assert never_connected(clean)
    assert SECRET not in f"{clean} {clean.args[0]} {clean.args[0].reason}"
    assert str(clean).startswith("Connection 'api': GET")
    lost = presentable(requests.ConnectionError("broke", request=request), "GET", "api", lambda request: request)
    assert not never_connected(lost)
    assert not hasattr(lost.args[0], "reason")


@pytest.mark.parametrize("stream", [b"a generator", None])
def test_a_body_that_cannot_be_sent_again_gives_the_answer(stream):
    from airflow_oauth_provider.http.retry import RetryPolicy, Sender

    for status in (429, 503):
        session, network, _ = make(lambda _, status=status: (status, {"Retry-After": "1"}))
        data = (part for part in [b"a", b"b"]) if stream else None
        slept = []
        request = session.prepare_request(requests.Request("PUT", f"{API}/a", data=data))
        response = Sender(RetryPolicy(attempts=3), sleep=slept.append).send(session, request, {}, "xero")
        assert response.status_code == status
        assert len(network.requests) == (1 if stream else 3)


def test_what_the_caller_takes_as_it_is_is_not_asked_for_again():
    from airflow_oauth_provider.http.retry import RetryPolicy

    policy = RetryPolicy(accepted=("404", "5"))
    assert policy.after_status("GET", 503, {}, 1) is None
    assert policy.after_status("GET", 429, {}, 1) is not None
    assert RetryPolicy(ends_at=0.0).after_status("GET", 503, {}, 1) is None
    assert RetryPolicy(ends_at=0.0).after_failure("GET", 1, was_sent=False) is None


def test_a_reason_of_any_length_is_shortened(caplog):
    caplog.set_level(logging.DEBUG)
    text = str(api_error(answered(500, reason="x" * 60_000 + "\x1b[31m"), "api"))
    assert len(text) < 500
    assert "\x1b" not in text


def test_an_auth_of_another_kind_leaves_the_session_alone():
    assert OAuth2Session(5).guard is None
    session, *_ = make(lambda _: (200, {}))
    assert isinstance(session.guard, OAuth2Auth)
