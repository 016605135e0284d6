"""Whatever the token endpoint answers: a token or a typed error, and no secret in any text.

``OAUTH2_FUZZ_CASES`` asks for more of it, ``OAUTH2_FUZZ_SEED`` for others.
"""

from __future__ import annotations

import html
import io
import json
import logging
import os
import random
import traceback
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
import requests
import urllib3.exceptions
from urllib3 import HTTPResponse

from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.oauth2 import discovery, dpop, errors
from airflow_oauth_provider.oauth2.client import Client, Transport
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from tests.unit.fakes import World

CASES = int(os.environ.get("OAUTH2_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("OAUTH2_FUZZ_SEED", "1"))

# Awkward on purpose: no digits to catch the eye, characters that every encoding treats otherwise.
SECRET = 'opensesame:+/ %&ü"<'
REFRESH_TOKEN = "refresh/me+now=please~ß&'>"
ACCESS_TOKEN = "access-token-7f3a-that-nobody-may-see"
NEW_REFRESH_TOKEN = "new-refresh-token-91c2-that-nobody-may-see"


def lower_hex(text: str) -> str:
    return "".join(f"%{byte:02x}" if byte in b"+/ %&=<>\"':" or byte > 127 else chr(byte) for byte in text.encode())


ENCODINGS = {
    "raw": str,
    "percent": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "lower-case percent": lower_hex,
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "HTML": html.escape,
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64url": lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "Basic": lambda text: b64encode(f"client:{quote(text, safe='')}".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "repr": lambda text: repr(text)[1:-1],
}
FORBIDDEN = {
    encode(secret)
    for secret in (SECRET, REFRESH_TOKEN, ACCESS_TOKEN, NEW_REFRESH_TOKEN)
    for encode in ENCODINGS.values()
}


class FakeAdapter:
    """Answers what a test wants, or raises it; the real ``requests`` and ``urllib3`` do the rest."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.failure: Exception | None = None

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
        if self.failure is not None:
            raise self.failure
        raw = HTTPResponse(
            io.BytesIO(self.body), headers=self.headers, status=self.status, preload_content=False,
            decode_content=False,
        )  # fmt: skip
        response = requests.Response()
        response.status_code, response.raw, response.request = self.status, raw, request
        response.headers = requests.structures.CaseInsensitiveDict(self.headers)
        response.url = request.url or ""
        return response

    def close(self) -> None:
        pass


@pytest.fixture
def adapter(monkeypatch):
    fake = FakeAdapter()
    monkeypatch.setattr(requests.Session, "get_adapter", lambda *_, **__: fake)
    return fake


class Generator:
    """Answers, from sound to absurd."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def answer(self, adapter: FakeAdapter) -> None:
        pick = self.random
        adapter.failure = self.failure() if pick.random() < 0.03 else None
        adapter.status = pick.choice(
            [200, 200, 200, 200, 201, 204, 302, 400, 400, 400, 401, 403, 404, 408, 429, 500, 503, 520]
        )
        adapter.headers = {"Content-Type": self.content_type(), **self.other_headers()}
        body = pick.choice([self.members, self.members, self.members, self.form, self.page, self.noise])()
        if pick.random() < 0.15:
            body = self.mutated(body)
        adapter.body = body

    def failure(self) -> Exception:
        url = f"https://as.example/token?x={quote(SECRET)}"
        return self.random.choice(
            [
                requests.exceptions.ConnectionError(f"failed: {url} {REFRESH_TOKEN}"),
                requests.exceptions.ReadTimeout(f"{SECRET}"),
                requests.exceptions.ConnectTimeout(f"{url}"),
                requests.exceptions.SSLError(f"{SECRET} {url}"),
                requests.exceptions.ProxyError(f"{url}"),
                requests.exceptions.ChunkedEncodingError(f"{REFRESH_TOKEN}"),
                requests.exceptions.ContentDecodingError(f"{REFRESH_TOKEN}"),
                requests.exceptions.InvalidHeader(f"{SECRET}"),
                urllib3.exceptions.ProtocolError(f"{SECRET}", ConnectionResetError()),
                urllib3.exceptions.IncompleteRead(3, 9),
                urllib3.exceptions.DecodeError(f"{SECRET}"),
                OSError(f"{SECRET}"),
            ]
        )

    def content_type(self) -> str:
        return self.random.choice(
            ["application/json", "application/json;charset=UTF-8", "text/html", "text/plain", "", ";;;",
             "application/x-www-form-urlencoded", "application/json; charset=utf-16", "\xff"]
        )  # fmt: skip

    def other_headers(self) -> dict[str, str]:
        retry = ["5", "0", "-1", "²", "9" * 400, "1.5", "soon", "Wed, 21 Oct 2099 07:28:00 GMT", "Mon, 99 Foo", "",
                 self.echo(), "Wed, 21 Oct 2015 07:28:00 +9999", "Wed, 21 Oct 99999 07:28:00 GMT", " 7 ",
                 "٣", "\x00"]  # fmt: skip
        encodings = ["gzip", "deflate", "br", "identity", "nonsense"]
        headers = {}
        if self.random.random() < 0.3:
            headers["Retry-After"] = self.random.choice(retry)
        if self.random.random() < 0.03:
            headers["Content-Encoding"] = self.random.choice(encodings)
        if self.random.random() < 0.1:
            headers["Date"] = self.random.choice(retry)
        if self.random.random() < 0.1:
            headers["Location"] = self.echo()
        if self.random.random() < 0.1:
            headers["WWW-Authenticate"] = f'Bearer error="{self.echo()}"'
        return headers

    def echo(self) -> str:
        secret = self.random.choice([SECRET, REFRESH_TOKEN])
        said = self.random.choice(list(ENCODINGS.values()))(secret)
        return self.random.choice(["", "bad token ", "grant_type=refresh_token&refresh_token=", "x" * 190]) + said

    def value(self, depth: int = 0) -> object:
        pick = self.random
        simple = [
            None, True, False, 0, -1, 1, 3600, 3600.5, 1e308, 10**400, "", "3600", "null", "None", "NaN", "١٢", "²",
            "1e3", "-5", " 60 ", "2030-01-01T00:00:00Z", ACCESS_TOKEN, NEW_REFRESH_TOKEN, self.echo(), "\ud800", "\x00",
            "a b", "tok\r\nen: x", "é", "x" * 5000, [], {},
        ]  # fmt: skip
        if depth < 3 and pick.random() < 0.1:
            return [self.value(depth + 1) for _ in range(pick.randrange(4))]
        if depth < 3 and pick.random() < 0.1:
            return {str(self.value(3))[:20]: self.value(depth + 1) for _ in range(pick.randrange(4))}
        return pick.choice(simple)

    def members(self) -> bytes:
        pick = self.random
        sound = {
            "access_token": ACCESS_TOKEN, "refresh_token": NEW_REFRESH_TOKEN, "expires_in": 3600,
            "token_type": "Bearer", "scope": "a b", "error": "invalid_grant",
            "error_description": self.echo(), "error_uri": self.echo(),
            "error_subtype": "x", "suberror": self.echo(), "refresh_token_expires_in": 9, "id_token": "e.y.j",
            "data": {"access_token": ACCESS_TOKEN}, "errors": [self.echo()], "message": self.echo(), "ok": False,
        }  # fmt: skip
        chosen = {}
        for name, value in sound.items():
            if pick.random() < 0.4:
                chosen[name] = value if pick.random() < 0.6 else self.value()
        if "error" in chosen and pick.random() < 0.5:
            chosen["error"] = pick.choice([*errors.ERROR_CLASSES, *errors.PASSING_CODES, self.echo(), "x" * 999, ""])
        document = chosen if pick.random() < 0.9 else self.value()
        text = json.dumps(document, ensure_ascii=pick.random() < 0.5)
        return self.wrap(text).encode("utf-8", "surrogatepass")

    def wrap(self, text: str) -> str:
        """Put JSON where it does not belong, as gateways and frameworks do."""
        pick = self.random
        if pick.random() < 0.8:
            return text
        deep = pick.choice(["[", '{"a":']) * 50_000
        return pick.choice(
            [f"[{text}]", f"[1, {text}]", json.dumps(text), json.dumps(f"[{text}]"), f"\ufeff{text}", f")]}}',\n{text}",
             f"{text}{text}", f"{text}\x00", f"<b>Notice</b>{text}", f"{text[:-1]}, \"x\": undefined}}",
             f"{text[:-1]}, \"x\": NaN, \"y\": 1e999}}", f"{text[:-1]}, \"x\": {'9' * 5000}}}",
             f"{text[:-1]}, \"x\": {deep}", f'"{{"{deep}', f"]]]]{deep}", f'{{"x": y"{deep}',
             f"{text[:-1]}, \"access_token\": null}}", f"{text[:-1]}, \"x\": \"a\nb\"}}"]
        )  # fmt: skip

    def form(self) -> bytes:
        fields = {"access_token": ACCESS_TOKEN, "expires_in": "60", "error": self.echo(), "refresh_token": self.echo()}
        return "&".join(f"{n}={quote(v)}" for n, v in fields.items() if self.random.random() < 0.6).encode()

    def page(self) -> bytes:
        return f"<!doctype html><html><body>Error: {self.echo()}</body></html>".encode()

    def noise(self) -> bytes:
        pick = self.random
        return pick.choice(
            [b"", b"null", b"[]", b'"' + SECRET.encode() + b'"', b"NaN", b"[" * 100_000, b"{" * 500, b"1" * 5000,
             pick.randbytes(pick.randrange(200)), b"\xef\xbb\xbf{}", b"\xff\xfe", self.echo().encode(), b"x" * 1_100_000
             if pick.random() < 0.05 else b"\x1f\x8b"]
        )  # fmt: skip

    def mutated(self, body: bytes) -> bytes:
        pick, data = self.random, bytearray(body)
        for _ in range(pick.randrange(1, 4)):
            if not data:
                break
            at = pick.randrange(len(data))
            kind = pick.randrange(3)
            if kind == 0:
                data[at] = pick.randrange(256)
            elif kind == 1:
                del data[at:]
            else:
                data[at:at] = pick.randbytes(2)
        return bytes(data)


def check_silent(what: str, where: object) -> None:
    for secret in FORBIDDEN:
        assert secret not in what, f"a secret shows in {where}"


def test_every_answer_is_a_token_or_a_typed_error(adapter, caplog):
    caplog.set_level(logging.DEBUG)
    generator = Generator(SEED)
    client = Client("client", "https://as.example/token", client_secret=SECRET)
    parameters = [("grant_type", "refresh_token"), ("refresh_token", REFRESH_TOKEN)]
    ends: dict[str, int] = {}
    for case in range(CASES):
        generator.answer(adapter)
        try:
            token = request_token(client, parameters)
        except errors.OAuth2ProtocolError as error:
            text = "".join(traceback.format_exception(error))
            check_silent(text + repr(error), f"the error of case {case}")
            kind = type(error).__name__
        else:
            kind = type(token).__name__
            assert isinstance(token, TokenResponse)
            assert token.access_token.isascii()
            assert token.access_token.isprintable()
            assert token.expires_in is None or 0 < token.expires_in < 1e9
            assert token.refresh_token is None or token.refresh_token.encode()
            check_silent(repr(token).replace(repr(token.scope), "").replace(repr(token.token_type), ""), "a repr")
        ends[kind] = ends.get(kind, 0) + 1
    check_silent(caplog.text, "the log")
    # That the generator reaches everything is part of the test.
    assert set(ends) >= {
        "TokenResponse", "InvalidGrantResponse", "InvalidClientResponse", "ErrorResponse", "ServerFailure",
        "LostResponse", "NotConnected",
    }  # fmt: skip


@pytest.mark.parametrize("resend", [True, False])
def test_every_answer_leaves_the_grant_with_a_refresh_token(adapter, caplog, resend):
    """The same through the whole of a refresh: typed errors, no secret, and never a record without a refresh token."""
    caplog.set_level(logging.DEBUG)
    generator = Generator(SEED + 1 + resend)
    for case in range(max(500, CASES // 10)):
        world = World()
        manager, seam = world.worker()
        entered = world.connection.configuration.entered.refresh_token
        seam.always["token"] = lambda _: request_token(
            Client("client", "https://as.example/token", client_secret=SECRET),
            [("grant_type", "refresh_token"), ("refresh_token", REFRESH_TOKEN)],
        )
        generator.answer(adapter)
        try:
            manager.access_token()
        except OAuth2Error as error:
            check_silent("".join(traceback.format_exception(error)) + repr(error), f"the error of case {case}")
            if not 200 <= adapter.status < 300:
                assert world.record.refresh_token == entered
        assert world.record.refresh_token
    check_silent(caplog.text, "the log")


def test_every_challenge_is_read_in_time_and_means_one_of_two_things():
    """``WWW-Authenticate`` of an API (RFC 9110 section 11.6.1): several challenges, escapes, and nonsense."""
    pick = random.Random(SEED)
    pieces = [
        "DPoP ", "Bearer ", 'error="use_dpop_nonce"', "error=use_dpop_nonce", 'error = "use_dpop_nonce"', ", ", " ",
        "=", 'error_description="say error=\\"x\\""', "algs=", "error", "\\", "\t", "é", "\x00", "a" * 100,
        "error=" * 50, " " * 3000, '"',
    ]  # fmt: skip
    for _ in range(CASES):
        challenge = "".join(pick.choice(pieces) for _ in range(pick.randrange(12)))
        assert dpop.asks_for_nonce(200, challenge) is False
        assert dpop.asks_for_nonce(401, challenge) in (True, False)
        if "use_dpop_nonce" not in challenge:
            assert dpop.asks_for_nonce(401, challenge) is False
    for piece in pieces:
        dpop.asks_for_nonce(401, (piece * 65536)[:65536])
    assert dpop.asks_for_nonce(401, 'Bearer realm="x", DPoP algs="ES256", error="use_dpop_nonce"')
    assert dpop.asks_for_nonce(401, None) is False


def test_every_metadata_is_endpoints_or_a_typed_error(adapter, monkeypatch):
    """RFC 8414 section 3.2: whatever comes, an endpoint is https, or nothing of it is used."""
    generator, pick = Generator(SEED), random.Random(SEED)
    names = ["token_endpoint", "revocation_endpoint", "introspection_endpoint", "authorization_endpoint"]
    urls = [
        "https://as.example/x",
        "http://as.example/x",
        "javascript:x",
        "file:///x",
        "https://a\\@b/",
        "",
        5,
        None,
        [],
        {},
    ]
    found = 0
    for _ in range(CASES // 5):
        discovery._known.clear()
        generator.answer(adapter)
        if pick.random() < 0.7:
            document = {"issuer": "https://as.example", **{name: pick.choice(urls) for name in names}}
            if pick.random() < 0.3:
                document["mtls_endpoint_aliases"] = pick.choice(
                    [{name: pick.choice(urls) for name in names}, [], 5, "x"]
                )
            adapter.status, adapter.failure = 200, None
            adapter.headers = {"Content-Type": generator.content_type()}
            adapter.body = generator.wrap(json.dumps(document)).encode("utf-8", "surrogatepass")
        cert = pick.choice([None, "/c.pem"])
        client = Client("client", "", issuer="https://as.example", transport=Transport(cert=cert))
        for name in names:
            try:
                endpoint = discovery.find_endpoint(client, name)
            except errors.NotConnected as failure:
                check_silent(str(failure), "the error")
            else:
                assert endpoint == "https://as.example/x"
                found += 1
    assert found > 10
