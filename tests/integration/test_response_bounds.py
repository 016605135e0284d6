"""What an authorization server sends has bounds, on every endpoint; what leaves for it goes where it is meant to."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import zlib
from dataclasses import replace
from urllib.request import urlopen

import pytest

from airflow_oauth_provider.cli.authorize import Loopback
from airflow_oauth_provider.connection.dialect import BearerUsage
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2 import authorization_code, device, discovery, errors
from airflow_oauth_provider.oauth2.assertions import BadKeyError, SigningKey
from airflow_oauth_provider.oauth2.client import Client, Transport, is_secure
from airflow_oauth_provider.oauth2.grants import GrantOptions
from airflow_oauth_provider.oauth2.token_endpoint import introspect, request_token
from airflow_oauth_provider.oauth2.transport import MAX_RESPONSE_BYTES, decode_content, exchange
from airflow_oauth_provider.tokens.revocation import request_revocation

TOKEN = json.dumps({"access_token": "abc", "refresh_token": "def", "token_type": "Bearer"}).encode()
MEGABYTE = 1024 * 1024


class Server:
    """A server on this machine that answers each request with ``answer``, bytes or an iterator of them."""

    def __init__(self) -> None:
        self.answer: object = b""
        self.requests: list[bytes] = []
        self.sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._handle(connection)

    def _handle(self, connection: socket.socket) -> None:
        request = connection.recv(65536)
        head, _, body = request.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length and (more := connection.recv(65536)):
            request, body = request + more, body + more
        self.requests.append(request)
        for piece in [self.answer] if isinstance(self.answer, bytes) else self.answer:
            connection.sendall(piece)
            self.sent += len(piece)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def endless(start: bytes, piece: bytes):
    yield start
    while True:
        yield piece


def bomb(size: int, codings: int = 1) -> bytes:
    content = b"{" + b" " * size + TOKEN[1:]
    for _ in range(codings):
        content = gzip.compress(content)
    return content


def ask_each(server: Server) -> dict[str, object]:
    """Ask every endpoint of the server; gives what each raised."""
    client = Client(
        "id", f"{server.url}/token", "secret", introspection_url=f"{server.url}/i", revocation_url=f"{server.url}/r",
        transport=Transport(timeout=20),
    )  # fmt: skip
    calls = {
        "token": lambda: request_token(client, [("grant_type", "client_credentials")]),
        "introspection": lambda: introspect(client, "t"),
        "revocation": lambda: request_revocation(client, "t", "access_token"),
        "device": lambda: device.begin(client, f"{server.url}/d", GrantOptions()),
        "discovery": lambda: discovery.discover(server.url, client.transport),
    }
    raised: dict[str, object] = {}
    for name, call in calls.items():
        try:
            call()
        except errors.OAuth2ProtocolError as failure:
            raised[name] = failure
    return raised


@pytest.mark.parametrize("codings", [1, 2])
def test_what_blows_up_is_left_packed(server, codings):
    packed = bomb(200 * MEGABYTE, codings)
    assert len(packed) < MAX_RESPONSE_BYTES
    server.answer = answer(packed, Content_Encoding=", ".join(["gzip"] * codings))
    raised = ask_each(server)
    # A revocation that succeeded has nothing to say.
    assert raised.keys() >= {"token", "introspection", "device", "discovery"}
    assert {name: str(failure) for name, failure in raised.items() if "longer than" not in str(failure)} == {}


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_the_body_of_a_redirect_is_not_read(server, status):
    """``requests`` reads it whole, and unpacks it, even where it does not follow."""
    head = f"HTTP/1.1 {status}\r\nLocation: {server.url}/x\r\nContent-Encoding: gzip\r\n\r\n".encode()
    server.answer = endless(head, bomb(20 * MEGABYTE))
    with pytest.raises(errors.UnexpectedResponse, match="redirects to"):
        request_token(Client("id", f"{server.url}/token", "secret"), [("grant_type", "client_credentials")])
    assert server.sent < 64 * MEGABYTE
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 65536),
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 60_000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536),
        (b"HTTP/1.1 200 ", b"x" * 65536),
        (b"", b"x" * 65536),
    ],
    ids=["body", "chunks", "size of a chunk", "extension of a chunk", "fields", "field", "reason", "status line"],
)
def test_what_has_no_end_is_broken_off(server, start, piece):
    """At its bound, long before its time is up."""
    for name in ("POST", "GET"):
        server.answer, server.sent = endless(start, piece), 0
        with pytest.raises(errors.OAuth2ProtocolError, match=r"longer than|could not be read|broke"):
            exchange(Transport(timeout=600), name, f"{server.url}/token", {}, b"")
        assert server.sent < 32 * MEGABYTE


@pytest.mark.parametrize(
    ("codings", "pack"),
    [
        ("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]), ("", bytes), ("identity", bytes),
        ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    ],
)  # fmt: skip
def test_packed_responses_are_read(server, codings, pack):
    server.answer = answer(pack(TOKEN), Content_Encoding=codings)
    token = request_token(Client("id", f"{server.url}/token", "secret"), [("grant_type", "client_credentials")])
    assert (token.access_token, token.refresh_token) == ("abc", "def")


@pytest.mark.parametrize("codings", ["br", "zstd", "compress", "gzip, gzip, gzip", "nonsense"])
def test_a_coding_that_was_not_asked_for(codings):
    with pytest.raises(errors.UnexpectedResponse, match="not asked for"):
        decode_content(TOKEN, codings, "https://x", 200)


class TestWhereSecretsGo:
    @pytest.mark.parametrize("proxies", [{}, {"http": "proxy"}, {"all": "proxy"}])
    def test_what_stays_on_this_machine_goes_by_no_proxy(self, server, monkeypatch, proxies):
        proxy = Server()
        proxy.answer = answer(TOKEN)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        server.answer = answer(TOKEN)
        transport = Transport(timeout=20, proxies=dict.fromkeys(proxies, proxy.url))
        client = Client("id", f"{server.url}/token", "the-client-secret", transport=transport)
        request_token(client, [("grant_type", "client_credentials")])
        proxy.close()
        assert (len(server.requests), proxy.requests) == (1, [])

    @pytest.mark.parametrize("host", ["localhost", "xero.localhost", "127.0.0.1"])
    def test_a_name_of_this_machine_that_leads_elsewhere(self, server, monkeypatch, host):
        """Who answers for the name decides where ``x.localhost`` leads, and there is no TLS to notice."""
        address = ("192.0.2.7", server.port)
        server.answer = answer(TOKEN)
        monkeypatch.setattr(socket.socket, "getpeername", lambda _: address)
        with pytest.raises(errors.NotConnected, match="is not this machine"):
            exchange(Transport(timeout=20), "POST", f"http://127.0.0.1:{server.port}/token", {}, b"client_secret=x")
        assert not any(b"client_secret" in request for request in server.requests)

    @pytest.mark.parametrize(
        "url",
        [
            "http://evil.example\\@localhost/token", "https://a\\b/", "https://a b/", "https://a\n/", "https://a/\x1b[2J",
            "javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "http://127.0.0.1.evil.example/", "//a/b",
            "", "https:///x", "ftp://a/", "https://", "\x00https://a/", "HTTP://evil.example",
        ],
    )  # fmt: skip
    def test_what_is_no_place_for_secrets(self, url):
        assert not is_secure(url)
        with pytest.raises(errors.NotConnected):
            exchange(Transport(timeout=1), "POST", url, {}, b"")
        with pytest.raises(errors.NotConnected, match="no browser is sent there"):
            authorization_code.begin(Client("id", "https://a/t"), url, "http://127.0.0.1/", GrantOptions())


class TestMetadata:
    @pytest.fixture(autouse=True)
    def _forget(self):
        discovery._known.clear()
        yield
        discovery._known.clear()

    @pytest.mark.parametrize(
        "other",
        [
            {"verify": False}, {"verify": "/ca.pem"}, {"proxies": {"https": "http://p"}}, {"trust_env": False},
            {"cert": "/c.pem"}, {"cert": ("/c.pem", "/k.pem")},
        ],
    )  # fmt: skip
    def test_what_one_connection_has_seen_counts_for_no_other_trust(self, monkeypatch, other):
        """Forged metadata, fetched without checks, would lead the secret of a connection with checks elsewhere."""
        asked = []

        def fetch(issuer, transport):
            asked.append(transport)
            forged = transport != Transport()
            return discovery.Metadata(issuer, "https://evil/" if forged else "https://good/", {})

        monkeypatch.setattr(discovery, "_fetch", fetch)
        weak = replace(Transport(), **other)
        assert discovery.discover("https://as", weak).token_endpoint == "https://evil/"
        assert discovery.discover("https://as", Transport()).token_endpoint == "https://good/"
        # The timeout is no matter of trust, and each way is remembered.
        assert discovery.discover("https://as", replace(Transport(), timeout=1)).token_endpoint == "https://good/"
        assert discovery.discover("https://as", weak).token_endpoint == "https://evil/"
        assert asked == [weak, Transport()]

    def test_memory_has_a_bound(self, monkeypatch):
        monkeypatch.setattr(discovery, "_fetch", lambda issuer, _: discovery.Metadata(issuer, "https://t/", {}))
        for number in range(1000):
            discovery.discover(f"https://as{number}", Transport())
        assert len(discovery._known) == discovery.MAX_REMEMBERED

    @pytest.mark.parametrize(
        "document",
        [
            b"[" * 200_000, b'{"issuer": ' + b'{"a":' * 100_000, b"null", b"[]", b'"x"', b"NaN", b"", b"\xff\xfe", b"{",
            b'{"issuer": 5}', b'{"issuer": "https://other"}', b"{}", b"1" * 10_000,
        ],
    )  # fmt: skip
    def test_documents_that_are_none(self, server, document):
        server.answer = answer(document)
        with pytest.raises(errors.NotConnected):
            discovery.discover(server.url, Transport(timeout=20))

    @pytest.mark.parametrize(
        "endpoint",
        ["javascript:x", "file:///t", "http://evil/t", "http://evil\\@localhost/", 5, None, ["https://t"], {}],
    )
    def test_endpoints_that_are_none(self, server, endpoint):
        server.answer = answer(json.dumps({"issuer": server.url, "token_endpoint": endpoint}).encode())
        with pytest.raises(errors.NotConnected, match="no https token endpoint"):
            discovery.discover(server.url, Transport(timeout=20))
        document = {"issuer": server.url, "token_endpoint": f"{server.url}/t", "revocation_endpoint": endpoint}
        server.answer = answer(json.dumps(document).encode())
        client = Client("id", "", issuer=server.url, transport=Transport(timeout=20))
        with pytest.raises(errors.NotConnected, match="publishes no revocation_endpoint"):
            discovery.find_endpoint(client, "revocation_endpoint")


class TestDevice:
    def begin(self, server, **members):
        codes = {"device_code": "dc", "user_code": "AB-CD", "verification_uri": "https://as/device"}
        server.answer = answer(json.dumps({**codes, **members}).encode())
        return device.begin(Client("id", f"{server.url}/t"), f"{server.url}/d", GrantOptions())

    @pytest.mark.parametrize("interval", [1e-300, 0.001, "0.0000001", 5e-324, 1, -1, 0, 1e9, "nan", None, "soon", True])
    def test_intervals(self, server, interval):
        authorization = self.begin(server, interval=interval)
        assert device.MIN_INTERVAL <= authorization.interval <= device.MAX_INTERVAL

    @pytest.mark.parametrize(
        "evil", ["\x1b[2J\x1b[1;1H", "\x1b]8;;http://evil\x07", "\x9b2J", "\r\n", "\u202e", "\x08" * 20]
    )
    def test_what_is_shown_is_fit_for_a_terminal(self, server, evil):
        authorization = self.begin(
            server,
            user_code=f"AB{evil}CD",
            verification_uri=f"https://as/device{evil}",
            verification_uri_complete=f"https://as/device{evil}?x",
        )
        shown = authorization.user_code + authorization.verification_uri + authorization.verification_uri_complete
        assert shown.isprintable()

    @pytest.mark.parametrize(
        "uri", ["javascript:alert(1)", "file:///etc/passwd", "data:,x", "as/device", "\x1bhttps://as"]
    )
    def test_where_nobody_is_sent(self, server, uri):
        with pytest.raises(errors.UnexpectedResponse, match="no web address"):
            self.begin(server, verification_uri=uri)
        assert self.begin(server, verification_uri_complete=uri).verification_uri_complete == ""


@pytest.mark.parametrize(
    "members",
    [{"kid": 5}, {"kid": ["a"]}, {"kid": None}, {"alg": 5}, {"kty": {}}, {"crv": 1}, {"d": 7}, {"kid": {"a": 1}}],
)
def test_a_jwk_whose_texts_are_none(members):
    jwk = {"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ", "d": "ZA", **members}
    with pytest.raises(BadKeyError, match="is no text") as caught:
        SigningKey(json.dumps(jwk)).check()
    assert "ZA" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"a":' * 100_000, "{" * 10, '{"kty": "RSA", "d": NaN}', "{}", '{"d": 1e999}'])
def test_a_jwk_that_is_none(text):
    with pytest.raises(BadKeyError):
        SigningKey(text).check()


@pytest.mark.parametrize("token", ["a\nb", "a\r\nX-Evil: 1", "x yz", "a\x00", "é", "", "\n", "a\x7f"])
def test_a_token_that_no_header_carries_is_not_quoted(token):
    with pytest.raises(ConfigurationError, match="no header can carry") as caught:
        BearerUsage().headers(token)
    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize("token", ["abc\n", "\r\nabc", " abc\t"])
def test_line_ends_around_a_token_that_was_entered(token):
    assert BearerUsage().headers(token) == {"Authorization": "Bearer abc"}


class TestLoopback:
    """The redirect address of a sign-in on this machine (RFC 8252 section 7.3)."""

    @pytest.mark.parametrize("start", [b"", b"GET /callback", b"GET /callback HTTP/1.1\r\nX: "])
    def test_a_client_that_drips_does_not_stretch_the_timeout(self, start):
        """The drip goes on until the listener is gone, however long the connection is served."""
        over, ended = threading.Event(), threading.Event()

        def refuse(url):
            raise authorization_code.NotOurs("no state")

        def drip(port):
            with socket.create_connection(("127.0.0.1", port)) as client, contextlib.suppress(OSError):
                client.sendall(start)
                while not over.wait(0.1):
                    client.sendall(b"x")
            ended.set()

        with Loopback() as loopback:
            port = int(loopback.redirect_uri.rpartition(":")[2].partition("/")[0])
            threading.Thread(target=drip, args=[port], daemon=True).start()
            with pytest.raises(errors.OAuth2ProtocolError, match="Nobody signed in within"):
                loopback.wait(refuse, 0.5)
            # The client saw its connection end; nobody has told it to stop.
            assert ended.wait(30)
        over.set()

    def test_a_browser_comes_after_one_that_drips(self):
        over = threading.Event()

        def drip(port):
            with socket.create_connection(("127.0.0.1", port)) as client, contextlib.suppress(OSError):
                while not over.wait(0.1):
                    client.sendall(b"x")

        def browse(port):
            with contextlib.suppress(OSError):
                urlopen(f"http://127.0.0.1:{port}/callback?code=abc", timeout=60).read()

        with Loopback() as loopback:
            port = int(loopback.redirect_uri.rpartition(":")[2].partition("/")[0])
            for work in (drip, browse):
                threading.Thread(target=work, args=[port], daemon=True).start()
            assert loopback.wait(lambda url: url, 60) == "/callback?code=abc"
        over.set()
