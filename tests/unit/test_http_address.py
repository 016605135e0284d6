"""Addresses: what is checked is what is sent, and an origin is the same in all its spellings."""

from __future__ import annotations

import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url
from yarl import URL

from airflow_oauth_provider.connection.address import (
    _read_origin,
    normalize_prepared,
    normalize_url,
    origin_of,
    parse_allowed,
    upgrade_origin,
)
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.exceptions import ConfigurationError, ForeignOrigin
from airflow_oauth_provider.http.access import join_url
from tests.unit.test_auth import API, OTHER, make

GOOD = ("https", "good.example", 443)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil\\@good.example/",
        "https://evil\\\\good.example/",
        "https://evil#@good.example/",
        "https://evil?@good.example/",
        "https://evil/@good.example/",
        "https://good.example@evil/",
        "https://good.example:pw@evil/",
        "https://good.example%2f@evil/",
        "https://good.example%40evil/",
        "https://good.example.evil/",
        "https://evil\n.good.example/",
        "https:///good.example/",
        "https:good.example/",
        "//good.example/",
        "ftp://good.example/",
        "https://[good.example]/",
        "https://good.example:444/",
        "https://good.example:99999/",
        "https://\uff45vil.example/",
    ],
)
def test_an_address_that_is_not_certainly_good_is_foreign(url):
    assert origin_of(url) != GOOD


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example",
        "HTTPS://GOOD.example./x",
        "https://good.example:443/?a=b#c",
        "https://user:password@good.example/",
    ],
)
def test_the_same_origin_in_other_words(url):
    assert origin_of(url) == GOOD


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://münchen.example/a", "https://xn--mnchen-3ya.example/b"),
        ("https://MÜNCHEN.example", "https://münchen.example/"),
        ("https://例え.example", "https://xn--r8jz45g.example:443"),
    ],
)
def test_a_name_beyond_ascii_is_not_foreign_to_itself(one, other):
    assert origin_of(one) == origin_of(other) is not None
    session, network, _ = make(lambda _: (200, {}), allowed=(one,))
    assert session.get(f"{one.rstrip('/')}/x").status_code == 200
    assert session.get(other).status_code == 200
    assert {urlsplit(request[1]).hostname for request in network.requests} == {origin_of(one)[1]}


@given(st.text(alphabet="https:/\\@#?.%0aevilgod[]:8 \t\né", max_size=40))
@example("/evil\\@good.example/")
@example("%8a")
def test_all_who_read_a_prepared_address_read_the_same_host(rest):
    try:
        url = normalize_url(f"http://{rest}")
    except requests.RequestException:
        return
    origin = origin_of(url)
    if origin is None:
        return
    hosts = (urlsplit(url).hostname, parse_url(url).host, URL(url, encoded=True).raw_host)
    # A percent sign and what is behind it may stay in upper case, as the zone of an address: it is the same host.
    assert {str(host).strip("[]").rstrip(".").lower() for host in hosts} == {origin[1]}
    assert "@" not in urlsplit(url).netloc
    assert origin_of(normalize_url(url)) == origin


@given(st.sampled_from(["http://", "https://"]), st.text("aB.-:/?#@%[]{}|\\19é \n\t", max_size=20))
@example("https://", "a/../b/./%7e%2f{}|")
@example("https://", "user:a@b/%zz")
def test_what_requests_has_prepared_is_normal_already_or_made_so(scheme, rest):
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare_url(scheme + rest, {"a": "b"})
        normal = normalize_url(prepared.url)
    except requests.RequestException:
        return
    assert normalize_prepared(prepared.url) == normal


@given(st.sampled_from(["http://", "https://"]), st.text("ab.-:/?#@%[]\\19é \n\t", max_size=20))
def test_only_the_beginning_of_a_plain_address_need_be_read(scheme, rest):
    assert origin_of(scheme + rest) == _read_origin(scheme + rest)


@pytest.mark.parametrize(
    ("base", "endpoint", "url"),
    [
        ("https://a.example", "x", "https://a.example/x"),
        ("https://a.example/", "/x", "https://a.example/x"),
        ("https://a.example//", "//x", "https://a.example/x"),
        ("https://a.example/v1/", "x/", "https://a.example/v1/x/"),
        ("https://a.example/v1", "//evil.example/x", "https://a.example/v1/evil.example/x"),
        ("https://a.example", "?a=1", "https://a.example/?a=1"),
        ("https://a.example/v1", "", "https://a.example/v1"),
        ("https://a.example/v1/", None, "https://a.example/v1/"),
        ("https://a.example", "HTTPS://b.example/x", "HTTPS://b.example/x"),
    ],
)
def test_one_slash_stands_between_base_and_endpoint(base, endpoint, url):
    assert join_url(base, endpoint) == url


# -- redirects -----------------------------------------------------------------------------------------------------


def redirect(target, status=302):
    return lambda request: (status, {"Location": target}) if request.url.endswith("/a") else (200, {})


@pytest.mark.parametrize(
    ("allowed", "start", "target", "keeps"),
    [
        ("http://api.example.com", "http://api.example.com/a", "https://api.example.com/b", True),
        ("http://api.example.com:8080", "http://api.example.com:8080/a", "https://api.example.com:8080/b", True),
        ("http://api.example.com", "http://api.example.com/a", "https://api.example.com:8443/b", False),
        ("http://api.example.com", "http://api.example.com/a", "https://www.api.example.com/b", False),
        ("https://api.example.com", "https://api.example.com/a", "http://api.example.com/b", False),
        ("https://api.example.com", "https://api.example.com/a", "//api.example.com/b", True),
        ("https://api.example.com", "https://api.example.com/a", "b", True),
        ("https://api.example.com", "https://api.example.com/a", "https://evil.example\\@api.example.com/b", True),
        ("https://api.example.com", "https://api.example.com/a", "https://api.example.com@evil.example/b", False),
    ],
)
def test_which_redirects_keep_the_token(allowed, start, target, keeps):
    """Of the last but one, browsers would take the part before the @ for the host: what counts is where it goes."""
    session, network, _ = make(redirect(target), allowed=(allowed,))
    assert session.get(start).status_code == 200
    assert [request[2] for request in network.requests] == ["Bearer t1", "Bearer t1" if keeps else None]
    assert not keeps or urlsplit(network.requests[1][1]).netloc == urlsplit(allowed).netloc


@pytest.mark.parametrize("target", ["https://other.example.net/b", "https://api.example.com:8443/b"])
@pytest.mark.parametrize("allowed", [(API,), (API, OTHER)])
def test_a_redirect_to_another_origin_drops_the_calls_own_authorization_and_cookies(target, allowed):
    seen = []

    def api(request):
        seen.append({name: request.headers.get(name) for name in ("Authorization", "Cookie", "X-Kept")})
        return redirect(target)(request)

    from airflow_oauth_provider.connection.dialect import BearerUsage

    session, *_ = make(api, allowed=allowed, usage=BearerUsage(header_name="X-Token", header_prefix=""))
    session.cookies.set("of_session", "1")
    session.get(f"{API}/a", headers={"Authorization": "Basic b3du", "X-Kept": "1"}, cookies={"of_call": "1"})
    assert seen[0]["Authorization"] == "Basic b3du"
    assert "of_call=1" in seen[0]["Cookie"]
    assert "of_session=1" in seen[0]["Cookie"]
    assert seen[1] == {"Authorization": None, "Cookie": None, "X-Kept": "1"}


def test_a_redirect_within_the_origin_keeps_both():
    seen = []

    def api(request):
        seen.append((request.headers.get("X-Token"), request.headers.get("Authorization"), request.headers["Cookie"]))
        return redirect("/b")(request)

    from airflow_oauth_provider.connection.dialect import BearerUsage

    session, *_ = make(api, usage=BearerUsage(header_name="X-Token", header_prefix=""))
    session.get(f"{API}/a", headers={"Authorization": "Basic b3du"}, cookies={"of_call": "1"})
    assert seen == [("t1", "Basic b3du", "of_call=1")] * 2


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/b/caf\u00c3\u00a9", "/b/caf%C3%A9"),  # UTF-8, read as Latin-1 by http.client
        ("/b/caf\u00e9", "/b/caf%E9"),  # Latin-1
        ("/b/a b", "/b/a%20b"),
        ("/b/\u00ff\u00fe", "/b/%FF%FE"),
    ],
)
def test_a_location_that_is_no_ascii_is_followed(location, path):
    session, network, _ = make(redirect(location))
    assert session.get(f"{API}/a").status_code == 200
    assert network.requests[1][1] == f"{API}{path}"


@pytest.mark.parametrize("target", ["http://", "https://[::1/", "https://x:99999/"])
def test_a_redirect_to_no_address_is_an_error_that_names_the_connection(target):
    session, network, _ = make(redirect(target))
    with pytest.raises((requests.RequestException, ValueError)):
        session.get(f"{API}/a")
    assert len(network.requests) == 1


@pytest.mark.parametrize("hops", [1, 3])
def test_the_401_flow_runs_for_each_hop_of_a_redirect(hops):
    """A redirect that takes tokens too may turn one down: the refresh happens there, not after the last one."""

    def api(request):
        if request.headers.get("Authorization") != "Bearer t2":
            return 401, {}
        number = int(request.url.rpartition("/")[2])
        return (302, {"Location": f"/{number + 1}"}) if number < hops else (200, {})

    session, network, tokens = make(api)
    response = session.get(f"{API}/0")
    assert response.status_code == 200
    assert tokens.rejections == ["t1"]
    assert [request[1:3] for request in network.requests] == [
        (f"{API}/0", "Bearer t1"),
        *((f"{API}/{number}", "Bearer t2") for number in range(hops + 1)),
    ]


# -- allowed_hosts -------------------------------------------------------------------------------------------------


def settings(host="https://api.example.com", **extra):
    connection = SimpleNamespace(
        conn_type="oauth2",
        host=host,
        schema=None,
        port=None,
        login="id",
        password="hidden-secret",
        extra=json.dumps(extra),
    )
    return read_settings("api", connection)


@pytest.mark.parametrize("entry", ["*.example.com", "https://*.example.com", "*", "https://api.*.com", "a*.example"])
def test_a_wildcard_is_refused(entry):
    assert parse_allowed(entry) is None
    with pytest.raises(ConfigurationError, match=r"'api'.*allowed_hosts.*wildcard"):
        settings(allowed_hosts=entry)


@pytest.mark.parametrize("entry", ["http://files.example.com", "HTTP://10.0.0.7:8080", "http://localhost.evil.example"])
def test_plain_http_is_held_against_allow_http_as_the_host_is(entry):
    with pytest.raises(ConfigurationError, match=r"'api'.*allowed_hosts.*unencrypted"):
        settings(allowed_hosts=entry)
    with pytest.raises(ConfigurationError, match="unencrypted"):
        settings(host=entry)
    assert origin_of(entry) in settings(allowed_hosts=entry, allow_http=True).allowed_origins


@pytest.mark.parametrize("entry", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "files.example.com"])
def test_loopback_and_https_need_no_leave(entry):
    assert parse_allowed(entry) in settings(allowed_hosts=entry).allowed_origins


def test_an_upgrade_is_of_the_same_host():
    assert upgrade_origin(("http", "a", 80)) == ("https", "a", 443)
    assert upgrade_origin(("http", "a", 8080)) == ("https", "a", 8080)
    assert upgrade_origin(("https", "a", 443)) == ("https", "a", 443)


def test_a_hostile_address_of_the_call_is_refused_before_anything_leaves():
    session, network, _ = make(lambda _: (200, {}))
    for url in ("https://evil.example\\@api.example.com/x", "https://api.example.com@evil.example/", "http:////x"):
        with pytest.raises((ForeignOrigin, requests.RequestException)):
            session.post(url, data="body")
    assert network.requests == []
