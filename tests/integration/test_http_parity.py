"""The triggerer reads what the worker reads: odd answers, byte by byte, over both drivers.

A server of its own sends bytes that no framework would let through.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import dns.resolver
import pytest
import requests
from requests.cookies import RequestsCookieJar

from airflow_oauth_provider.exceptions import ApiError, ConfigurationError, ForeignOrigin, UnrewindableBody
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.http import srv
from airflow_oauth_provider.http.aio_transport import Connections
from airflow_oauth_provider.http.body import RATIO_COUNTS_FROM
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.pagination import LinkHeader, NextUrl
from airflow_oauth_provider.triggers.events import pack_pages, unpack_pages
from tests.http_support import CONN_ID, CONTEXT, api_calls, connect, ids_of, proxy_to, run_deferred, run_trigger
from tests.servers.scripted import Answer, Fault, ScriptedServer
from tests.unit.test_http_srv import record, rrset


@contextmanager
def raw_server(answer):
    """Yield the URL of a server that sends what ``answer`` returns for a request's head, and the heads it got."""
    heads = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection):
            with connection:
                data = b""
                while b"\r\n\r\n" not in data and (got := connection.recv(65536)):
                    data += got
                heads.append(data.partition(b"\r\n\r\n")[0])
                try:
                    connection.sendall(answer(heads[-1].split(b" ")[1].decode()))
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads


def message(body=b"{}", status=b"200 OK", *headers):
    head = b"\r\n".join([b"HTTP/1.1 " + status, b"Connection: close", b"Content-Length: %d" % len(body), *headers])
    return head + b"\r\n\r\n" + body


def shown(response):
    return {
        "status": response.status_code,
        "reason": response.reason,
        "text": response.text,
        "encoding": response.encoding,
        "headers": {name.lower(): value for name, value in response.headers.items() if name.lower() != "set-cookie"},
        "url": response.url,
    }


def fetch(deferrable, **arguments):
    options = {"endpoint": "/a", "method": "GET", "response_filter": shown, "max_attempts": 1, **arguments}
    operator = OAuth2HttpOperator(task_id="task", oauth2_conn_id=CONN_ID, deferrable=deferrable, **options)
    if not deferrable:
        return operator.execute(CONTEXT)
    return run_deferred(operator)[0]


LONG = b"x" * 60_000


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(message(b"{}", b"200 OK", b"X-Long: " + LONG), id="long-field"),
        pytest.param(message(b"{}", b"200 " + LONG), id="long-reason"),
        pytest.param(
            message(b"{}", b"200 OK", b"X-Name: caf\xe9", b"X-Utf: caf\xc3\xa9", b"X-Odd: \xff\xfe\x80"),
            id="latin-1-fields",
        ),
        pytest.param(message(b"{}", b"200 Gar\xe7on"), id="latin-1-reason"),
        pytest.param(message(b"{}", b"200 \xed\xa0\x80"), id="surrogate-reason"),
        pytest.param(message(b"{}", b"200"), id="no-reason"),
        pytest.param(message("é".encode("latin-1"), b"200 OK", b"Content-Type: text/plain"), id="text-default"),
        pytest.param(message("é".encode(), b"200 OK", b"Content-Type: application/json"), id="json-default"),
        pytest.param(message("é".encode("cp1252"), b"200 OK", b"Content-Type: text/csv; charset=cp1252"), id="cp1252"),
        pytest.param(message("é".encode(), b"200 OK"), id="no-type"),
        pytest.param(
            message(b"\xff\xfe", b"200 OK", b"Content-Type: text/plain; charset=nonsense"), id="unknown-charset"
        ),
        pytest.param(
            message(b"\\ud800", b"200 OK", b"Content-Type: text/plain; charset=unicode-escape"),
            id="half-of-a-character",
        ),
        pytest.param(message(b"abc\xe9", b"200 OK", b"Content-Type: text/plain; charset="), id="empty-charset"),
        pytest.param(message(b"abc", b"200 OK", b"Content-Type: text/plain; charset=idna"), id="charset-idna"),
        pytest.param(message(b"abc", b"200 OK", b"Content-Type: text/plain; charset=undefined"), id="no-charset"),
        pytest.param(message(b"{}", b"200 OK", b"Content-Encoding: utf-8"), id="no-coding"),
        pytest.param(message(b"{}", b"200 OK", *(b"X-%d: 1" % number for number in range(90))), id="90-fields"),
        pytest.param(message(b"{}", b"200 OK", b"X-Twice: a", b"X-Twice: b", b"x-twice: c"), id="field-thrice"),
        pytest.param(message(gzip.compress(b"[1]" * 500), b"200 OK", b"Content-Encoding: gzip"), id="gzip"),
        pytest.param(
            message(gzip.compress(gzip.compress(b"[1]")), b"200 OK", b"Content-Encoding: gzip, gzip"), id="gzip-twice"
        ),
    ],
)
def test_both_read_the_same(scripted_server, monkeypatch, answer):
    with raw_server(lambda _: answer) as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        here, there = fetch(False), fetch(True)
    assert json.loads(json.dumps(here)).keys() == there.keys()
    text = here.pop("text"), there.pop("text")
    assert here == there
    assert text[0] == text[1]


CLOSE, SEVEN, CHUNKED = b"Connection: close", b"Content-Length: 7", b"Transfer-Encoding: chunked"


def raw(*fields, body=b'{"a":1}', first=b"HTTP/1.1 200 OK"):
    return b"\r\n".join([first, CLOSE, b"X-Mark: m", *fields]) + b"\r\n\r\n" + body


#: What ``http.client`` reads and ``aiohttp`` refuses.
LAX = {
    "bytes behind the body": raw(SEVEN, body=b'{"a":1}xxx'),
    "the length twice": raw(SEVEN, SEVEN),
    "the length twice in a field": raw(b"Content-Length: 7, 7"),
    "a length with a sign": raw(b"Content-Length: +7"),
    "a length that is none": raw(b"Content-Length: unknown"),
    "an empty length": raw(b"Content-Length: "),
    "a length beside chunks": raw(SEVEN, CHUNKED, body=b'7\r\n{"a":1}\r\n0\r\n\r\n'),
    "a length beside identity": raw(SEVEN, b"Transfer-Encoding: identity"),
    "bytes behind the chunks": raw(CHUNKED, body=b'7\r\n{"a":1}\r\n0\r\n\r\njunk'),
    "a 204 with a body": raw(SEVEN, first=b"HTTP/1.1 204 No Content"),
    "a 204 with chunks": raw(CHUNKED, first=b"HTTP/1.1 204 No Content", body=b"0\r\n\r\n"),
    "a blank behind a name": raw(SEVEN, b"X-Odd : v"),
    "a blank within a name": raw(SEVEN, b"X Odd: v"),
    "a name of other bytes": raw(SEVEN, b"X-\xe9: v"),
    "a field without a colon": raw(SEVEN, b"X-Odd"),
    "a field without a name": raw(SEVEN, b": v"),
    "a carriage return in a value": raw(SEVEN, b"X-Odd: a\rb"),
    "another version": raw(SEVEN, first=b"HTTP/1.2 200 OK"),
    "tabs in the status line": raw(SEVEN, first=b"HTTP/1.1\t200\tOK"),
    "two blanks in the status line": raw(SEVEN, first=b"HTTP/1.1  200  OK"),
}


@pytest.mark.parametrize("answer", LAX.values(), ids=LAX)
def test_both_read_what_only_one_parser_takes(scripted_server, monkeypatch, answer):
    with raw_server(lambda _: answer) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        here, there = fetch(False), fetch(True)
    assert json.loads(json.dumps(here)) == there
    assert here["text"] in ('{"a":1}', "")
    assert {head.split(b"Authorization: ")[1].split(b"\r\n")[0] for head in heads} == {
        b"Bearer " + OAuth2Hook(CONN_ID).get_access_token().encode()
    }


def test_a_server_that_only_one_parser_takes_is_asked_once_a_page(scripted_server, monkeypatch):
    def answer(target):
        following = {"/a": "/b", "/b": "/c"}.get(target)
        body = json.dumps({"next": following, "at": target}).encode()
        return message(body, b"200 OK", b"Content-Length: %d" % len(body), b"Set-Cookie: c=%s" % target[1:].encode())

    paged = {"pagination": NextUrl("next"), "response_filter": lambda pages: [page.json()["at"] for page in pages]}
    with raw_server(answer) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        assert fetch(True, **paged) == ["/a", "/b", "/c"]
        asked = [head.split(b" ")[1] for head in heads]
        assert asked == [b"/a", b"/a", b"/b", b"/c"]  # the first one by both
        cookies = [re.findall(rb"Cookie: ([^\r]*)", head) for head in heads]
        assert cookies[2:] == [[b"c=a"], [b"c=b"]]


@pytest.mark.parametrize(
    "cookie",
    [
        b"a=1",
        b'a="with a blank"',
        b"a=b=c",
        b"a",
        b"a=caf\xe9",
        b'a={"j":1}',
        b"a[b]=1; HttpOnly; SameSite=None",
        b"a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        b"a=1; Max-Age=0",
        b"a=1; Secure",
        b"a=1; Path=/elsewhere",
        b"a=1; Domain=example.com",
        b"z=1",
    ],
)
@pytest.mark.parametrize("given", [{}, {"headers": {"Cookie": "z=9"}}, {"request_kwargs": {"cookies": {"z": "9"}}}])
def test_both_send_the_same_cookies(scripted_server, monkeypatch, cookie, given):
    def answer(target):
        if target == "/a":
            return message(b"", b"302 Found", b"Location: /b", b"Set-Cookie: " + cookie)
        body = json.dumps({"next": {"/b": "/c"}.get(target)}).encode()
        return message(body, b"200 OK", b"Set-Cookie: page=" + target[1:].encode())

    sent = []
    with raw_server(answer) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        for deferrable in (False, True):
            heads.clear()
            fetch(deferrable, pagination=NextUrl("next"), response_filter=len, **given)
            sent.append([(head.split(b" ")[1], re.findall(rb"Cookie: ([^\r]*)", head)) for head in heads])
    assert sent[0] == sent[1]
    assert [place for place, _ in sent[0]] == [b"/a", b"/b", b"/c"]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("data", "params", "query"),
    [
        (None, {"a": "1"}, "a=1"),
        ({}, {"a": ["1", "2"]}, "a=1&a=2"),
        ({"b": "2"}, {"a": "1"}, "a=1&b=2"),
        ({"a": "2"}, {"a": "1"}, "a=2"),
        ("b=2", None, "b=2"),
        (None, "a=1", "a=1"),
        (None, [["a", "1"], ["a", "2"]], "a=1&a=2"),
    ],
)
def test_a_query_may_stand_in_params(scripted_server, monkeypatch, deferrable, data, params, query):
    with raw_server(lambda _: message()) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        fetch(deferrable, data=data, request_kwargs={"params": params})
    assert heads[0].startswith(f"GET /a?{query} ".encode())


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_query_in_two_places_that_cannot_be_joined_is_refused(scripted_server, monkeypatch, deferrable):
    connect(monkeypatch, scripted_server)
    with pytest.raises(ConfigurationError, match="'data' and in 'params'"):
        fetch(deferrable, data="a=1", request_kwargs={"params": {"b": "2"}})


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_next_link_in_other_bytes_is_followed_as_a_location_is(scripted_server, monkeypatch, deferrable):
    links = {"/a": b"</b?q=caf\xc3\xa9>; rel=next", "/b?q=caf%C3%A9": b"</c?q=caf\xe9>; rel=next"}
    with raw_server(lambda target: message(b"[1]", b"200 OK", b"Link: " + links.get(target, b""))) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        fetch(deferrable, pagination=LinkHeader(), response_filter=len)
    assert [head.split(b" ")[1] for head in heads] == [b"/a", b"/b?q=caf%C3%A9", b"/c?q=caf%E9"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_is_sent_is_latin_1(scripted_server, monkeypatch, deferrable):
    with raw_server(lambda _: message()) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        fetch(deferrable, headers={"X-Name": "caf\xe9"}, extra_options={"timeout": [5, 5]})
    assert b"X-Name: caf\xe9\r\n" in heads[0] + b"\r\n"
    assert len(heads) == 1


def test_a_post_is_not_sent_again_for_the_sake_of_a_parser(scripted_server, monkeypatch):
    with raw_server(lambda _: LAX["the length twice"]) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises(ApiError, match="Duplicate Content-Length"):
            fetch(True, method="POST", data="x")
    assert len(heads) == 1


def test_a_head_that_breaks_off_is_not_quoted(scripted_server, monkeypatch):
    with raw_server(lambda _: b"HTTP/1.1 200 OK\r\nX-Session: s3cr3t-value\r\nConte") as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises(ApiError, match="before the head of its answer was whole") as caught:
            fetch(True)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (b"text/plain", "é€"),
        (b"text/html", "é" * 3000),
        (b"text/plain; charset=idna", "plain"),
        (b"text/plain; charset=undefined", "plain"),
        (b"text/plain; charset=nonsense", "é"),
    ],
)
def test_an_error_shows_the_text_whatever_its_charset(scripted_server, monkeypatch, deferrable, content_type, text):
    with raw_server(lambda _: message(text.encode(), b"404 Not Found", b"Content-Type: " + content_type)) as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises(ApiError, match=f"^404:Not Found.*{text[:400]}"):
            fetch(deferrable)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("charset", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_secret_of_an_error_is_starred_in_any_charset(scripted_server, monkeypatch, deferrable, charset):
    body = '{"code": "E42", "api_key": "s3cr3t-value", "note": "é"}'.encode(charset)
    with raw_server(lambda _: message(body, b"400 Bad", b"Content-Type: application/json")) as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises(ApiError, match=r'"code": "E42", "api_key": "\*\*\*", "note": "é"'):
            fetch(deferrable)


@pytest.mark.parametrize("status", [b"103 Early Hints", b"101 Switching Protocols"])
def test_a_hint_is_not_taken_for_the_answer(scripted_server, monkeypatch, status):
    with raw_server(lambda _: b"HTTP/1.1 " + status + b"\r\n\r\n" + message(b"{}")) as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises(ApiError, match=f"^{status[:3].decode()}:"):
            fetch(False)


def test_a_redirect_does_not_lose_a_body_that_cannot_be_sent_again(scripted_server, monkeypatch):
    with raw_server(lambda _: message(b"", b"307 Moved", b"Location: /b")) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises(UnrewindableBody, match="redirects"):
            fetch(False, method="POST", data=iter([b"a", b"b"]))
    assert len(heads) == 1


@pytest.mark.parametrize("streams", [False, True])
def test_a_body_that_breaks_off_names_connection_and_address(scripted_server, monkeypatch, tmp_path, streams):
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nabc"
    with raw_server(lambda _: broken) as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        options = {"output": f"file://{tmp_path}/out", "response_filter": None} if streams else {}
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match=rf"'{CONN_ID}': GET {url}/a got no answer"):
            fetch(False, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (b"/b/caf\xc3\xa9", "/b/caf%C3%A9"),
        (b"/b/caf\xe9", "/b/caf%E9"),
        (b"b c", "/b%20c"),
        (b"/b#part", "/b"),
        (b" /b \t", "/b"),
    ],
)
def test_both_follow_the_same(scripted_server, monkeypatch, location, path):
    def answer(target):
        return message(b"", b"302 Found", b"Location: " + location) if target == "/a" else message(b"{}")

    with raw_server(answer) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        here, there = fetch(False), fetch(True)
    assert here == there
    targets = [head.split(b" ")[1].decode() for head in heads]
    assert targets == ["/a", path, "/a", path]
    assert all(b"authorization: bearer" in head.lower() for head in heads)


BOMB = gzip.compress(b"\0" * (10 * RATIO_COUNTS_FROM))


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(message(BOMB, b"200 OK", b"Content-Encoding: gzip"), id="bomb"),
        pytest.param(message(BOMB, b"500 Oh", b"Content-Encoding: gzip"), id="bomb-of-an-error"),
        pytest.param(message(gzip.compress(BOMB), b"200 OK", b"Content-Encoding: gzip, gzip"), id="bomb-in-a-bomb"),
        pytest.param(message(BOMB, b"302 Found", b"Content-Encoding: gzip", b"Location: /b"), id="bomb-of-a-redirect"),
        pytest.param(message(BOMB, b"302 Found", b"Content-Encoding: gzip"), id="bomb-of-no-redirect"),
        pytest.param(message(b"x", b"200 OK", b"Content-Encoding: br"), id="brotli"),
        pytest.param(message(b"{}", b"200 OK", *(b"X-%d: 1" % number for number in range(200))), id="200-fields"),
        pytest.param(message(b"{}", b"200 OK", b"X-Long: " + b"x" * 70_000), id="too-long-field"),
    ],
)
def test_neither_takes_more_than_it_should(scripted_server, monkeypatch, answer, deferrable):
    with raw_server(lambda _: answer) as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises((ApiError, requests.RequestException), match="'api': GET"):
            fetch(deferrable)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_body_that_breaks_off_in_its_compression_is_fetched_again(scripted_server, monkeypatch, deferrable):
    monkeypatch.setattr("airflow_oauth_provider.http.retry.RetryPolicy._pause", lambda *_: 0.01)
    whole = gzip.compress(json.dumps({"n": list(range(500))}).encode())
    bodies = iter([whole[:-20], whole])
    with raw_server(lambda _: message(next(bodies), b"200 OK", b"Content-Encoding: gzip")) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        assert json.loads(fetch(deferrable, max_attempts=2)["text"])["n"][-1] == 499
    assert len(heads) == 2


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_401_before_a_redirect_is_refreshed_before_it_is_followed(scripted_server, monkeypatch, deferrable):
    server = scripted_server
    connect(monkeypatch, server)
    fetch(deferrable, endpoint="/items")
    server.grants.expire_access_tokens()
    server.requests.clear()
    fetch(deferrable, endpoint="/redirect?to=/api/items")
    # A response of 401 comes from the first hop or from the second; neither is asked more than once more.
    assert server.spends == 2
    assert len(api_calls(server)) == 3


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_401_behind_a_redirect_is_answered_there(scripted_server, monkeypatch, deferrable):
    """The flow runs for each hop: what was redirected is not asked for again, which might do it twice."""
    answers = iter([message(b"", b"307 Other", b"Location: /b"), message(b"no", b"401 Expired"), message(b"{}")])
    with raw_server(lambda _: next(answers)) as (url, heads):
        connect(monkeypatch, scripted_server, host=url)
        assert fetch(deferrable, method="POST", data="x")["status"] == 200
    assert [head.split(b" ")[1] for head in heads] == [b"/a", b"/b", b"/b"]
    tokens = [head.lower().partition(b"authorization: ")[2].partition(b"\r\n")[0] for head in heads]
    assert tokens[0] == tokens[1] != tokens[2]
    assert scripted_server.spends == 2


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    "document",
    [b"[" * 100_000, b'{"a":' * 50_000, b'{"next":' + b"[" * 5_000 + b"]" * 5_000 + b"}"],
    ids=["arrays", "objects", "whole"],
)
def test_json_of_any_depth_is_an_error(scripted_server, monkeypatch, deferrable, document):
    with raw_server(lambda _: message(document)) as (url, _):
        connect(monkeypatch, scripted_server, host=url)
        with pytest.raises(ApiError):
            fetch(deferrable, pagination=NextUrl("next"), response_filter=lambda pages: len(pages))


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    "address",
    ["http://evil.example\\@{host}/x", "http://{host}@evil.example/", "//evil.example/x", "http://evil.example"],
)
def test_a_hostile_next_address_leaves_for_nowhere_else(scripted_server, monkeypatch, address, deferrable):
    looked_up = []
    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **o: looked_up.append(host) or original(host, *a, **o))
    host = scripted_server.api_url.removeprefix("http://").partition("/")[0]
    scripted_server.routes["/api/items"] = lambda _: Answer(200, {"items": [], "next": address.format(host=host)})
    connect(monkeypatch, scripted_server)
    with pytest.raises(ForeignOrigin):
        fetch(deferrable, endpoint="/items", pagination=NextUrl("next"), response_filter=lambda pages: len(pages))
    assert not [name for name in looked_up if "evil" in str(name)]


def test_no_cookie_gets_into_an_event(scripted_server, monkeypatch):
    session = "-".join(["of", "the", "session"])
    scripted_server.routes["/api/login"] = lambda _: Answer(200, {"ok": True}, {"Set-Cookie": f"sid={session}"})
    connect(monkeypatch, scripted_server)
    operator = OAuth2HttpOperator(
        task_id="task", oauth2_conn_id=CONN_ID, method="GET", endpoint="/login", deferrable=True
    )
    _, triggers = run_deferred(operator)
    event = run_trigger(triggers[0])
    assert session not in json.dumps(event)
    assert "set-cookie" not in json.dumps(event).lower()


def test_events_hold_no_halves_of_characters():
    response = requests.Response()
    response.status_code, response.url, response.reason = 200, "http://x/\ud800", "\udfff\0"
    response.headers["X-\ud83d"] = "\ud800"
    response.encoding, response._content = "\ud800", b"{}"
    packed = pack_pages([response])
    text = json.dumps(packed, ensure_ascii=False)
    text.encode("utf-8")
    assert "\\u0000" not in text
    assert unpack_pages(json.loads(text))[0].status_code == 200


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": b"bytes", "method": "POST"},
        {"data": {"a": "1"}, "request_kwargs": {"files": {"f": b"1"}}, "method": "POST"},
        {"headers": {"X": b"1"}},
        {"extra_options": {"cert": object}},
    ],
)
def test_what_cannot_be_sent_to_the_triggerer_runs_in_the_worker(scripted_server, monkeypatch, arguments):
    connect(monkeypatch, scripted_server)
    operator = OAuth2HttpOperator(
        task_id="task", oauth2_conn_id=CONN_ID, **{"method": "GET", "endpoint": "/echo", **arguments}, deferrable=True
    )
    if "extra_options" in arguments:
        assert "extra_options" in (operator._why_not_deferred() or "")
        return
    _, triggers = run_deferred(operator)
    assert triggers == []
    assert len(api_calls(scripted_server)) == 1


# -- SRV -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_host_that_cannot_be_reached_is_followed_by_the_next_one(scripted_server, monkeypatch, deferrable):
    if not _knows_srv():
        return  # HttpHook does it from 6.2 on; srv_lookup is refused before
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()[1]
    answer = SimpleNamespace(rrset=rrset(record("localhost", dead, 1), record("localhost", scripted_server.port, 2)))
    monkeypatch.setattr(dns.resolver, "resolve", lambda *_: answer)
    allowed = f"http://localhost:{dead},http://localhost:{scripted_server.port}"
    connect(
        monkeypatch,
        scripted_server,
        host="http://_http._tcp.api.example.com",
        srv_lookup=True,
        allow_http=True,
        allowed_hosts=allowed,
    )
    page = fetch(deferrable, endpoint="/api/items", response_filter=lambda response: ids_of(response.json()))
    assert page == list(range(10))
    answer.rrset = rrset(record("localhost", dead, 1), record("localhost", dead, 2))
    with pytest.raises((ApiError, requests.ConnectionError), match=rf"'api': GET http://localhost:{dead}"):
        fetch(deferrable, endpoint="/api/items")


def _knows_srv():
    from airflow.providers.http.hooks.http import HttpHook

    return hasattr(HttpHook, "_get_srv_base_urls")


@pytest.mark.parametrize(("name", "is_good"), [("localhost", True), ("api.example.com", False)])
def test_a_server_has_to_prove_the_connections_name(name, is_good):
    """Not the name that DNS has given, which is the address that is connected to."""
    with ScriptedServer(tls=True) as server:
        session = requests.Session()
        session.trust_env = False
        session.verify = server.ca_file
        session.mount("https://", srv.CertifiedAdapter(name))
        url = f"https://127.0.0.1:{server.port}/api/open"
        if is_good:
            assert session.get(url).status_code in (401, 404)
        else:
            with pytest.raises(requests.exceptions.SSLError):
                session.get(url)


@pytest.mark.parametrize("value", ["plain", "caf\xe9"])  # the latter is sent in a thread
@pytest.mark.parametrize(("name", "is_good"), [(None, True), ("localhost", True), ("api.example.com", False)])
def test_the_triggerer_demands_that_name_too_whoever_sends(name, is_good, value):
    async def exchange(server):
        url = f"https://127.0.0.1:{server.port}/api/open"
        request = requests.Request("GET", url, headers={"X-Name": value}).prepare()
        settings = {"verify": server.ca_file, "cert": None, "proxies": {}}
        connections = Connections("api")
        try:
            return await connections.exchange(request, settings, 30, RequestsCookieJar(), name)
        finally:
            await connections.close()

    with ScriptedServer(tls=True) as server:
        if is_good:
            assert asyncio.run(exchange(server)).status_code in (401, 404)
        else:
            with pytest.raises(requests.exceptions.SSLError):
                asyncio.run(exchange(server))


# -- proxies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_proxy_that_wants_a_password_is_named(scripted_server, monkeypatch, deferrable):
    answer = message(b"no", b"407 Proxy Authentication Required")
    with raw_server(lambda _: answer) as (url, _):
        for host in ("http://127.0.0.1:9", "https://api.example.com"):
            connect(monkeypatch, scripted_server, host=host)
            with pytest.raises((ApiError, requests.RequestException), match=r"proxy, which wants .*'proxies'"):
                fetch(deferrable, extra_options={"proxies": {"http": url, "https": url}})


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("proxy", ["http:/proxy", "socks5h://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_a_configuration_error(scripted_server, monkeypatch, deferrable, proxy):
    monkeypatch.setattr("airflow_oauth_provider.http.session.find_spec", lambda _: None)
    connect(monkeypatch, scripted_server)
    with pytest.raises(ConfigurationError, match=r"'api'.*proxy"):
        fetch(deferrable, extra_options={"proxies": {"http": proxy}})


@pytest.mark.parametrize("deferrable", [False, True])
def test_one_log_line_tells_of_a_fetch(scripted_server, monkeypatch, deferrable):
    from airflow_oauth_provider.http.walk import Progress

    lines, original = [], Progress.__init__
    log = SimpleNamespace(info=lambda text, *values: lines.append(text % values))
    monkeypatch.setattr(Progress, "__init__", lambda self, _: original(self, log))
    connect(monkeypatch, scripted_server)
    fetch(deferrable, endpoint="/items", data={"limit": "5", "api_key": "hidden"})
    (line,) = lines
    assert line.startswith(f"GET {scripted_server.api_url}/items?limit=5&api_key=*** answered 200: 1 page, ")
    assert re.search(r"\d B in \d+\.\d s", line)


# -- the sensor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("allowed", [["503"], ["5"], ["503:"], [503]])
def test_a_sensor_asks_once_a_poke_for_what_means_not_yet(scripted_server, monkeypatch, deferrable, allowed):
    from airflow_oauth_provider.sensors.http import OAuth2HttpSensor

    connect(monkeypatch, scripted_server)
    scripted_server.faults.append(Fault("/api", status=503, times=2))
    sensor = OAuth2HttpSensor(
        task_id="task",
        oauth2_conn_id=CONN_ID,
        endpoint="/items",
        poke_interval=0.05,
        response_error_codes_allowlist=allowed,
        deferrable=deferrable,
    )
    pauses = []
    monkeypatch.setattr("airflow_oauth_provider.http.retry.RetryPolicy._pause", lambda *_: pauses.append(1) or 0.01)
    run_deferred(sensor)
    assert len(api_calls(scripted_server)) == 3
    assert pauses == []


def test_a_sensors_attempts_end_with_its_timeout(scripted_server, monkeypatch):
    from airflow_oauth_provider.sensors.http import OAuth2HttpSensor

    connect(monkeypatch, scripted_server)
    scripted_server.faults.append(Fault("/api", status=503, times=99, headers={"Retry-After": "60"}))
    sensor = OAuth2HttpSensor(task_id="task", oauth2_conn_id=CONN_ID, endpoint="/items", poke_interval=1, timeout=20)
    with pytest.raises(ApiError, match="503"):
        sensor.execute(CONTEXT)
    assert len(api_calls(scripted_server)) == 1


def test_the_proxy_of_this_machine_still_works(scripted_server, monkeypatch):
    connect(monkeypatch, scripted_server)
    with proxy_to(scripted_server) as (url, asked):
        fetch(False, endpoint="/items", extra_options={"proxies": {"http": url}})
    assert asked == [f"{scripted_server.api_url}/items"]
