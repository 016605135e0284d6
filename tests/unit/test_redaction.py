"""What looks secret, in names and in texts; and that no text, however made, takes long to look at."""

from __future__ import annotations

import json
from base64 import b64encode
from urllib.parse import quote

import pytest

from airflow_oauth_provider.connection.credentials import find_private_headers
from airflow_oauth_provider.exceptions import ConfigurationError, StoreError
from airflow_oauth_provider.oauth2 import redaction
from airflow_oauth_provider.oauth2.redaction import (
    MAX_TEXT,
    is_public_header,
    is_secret_name,
    make_printable,
    redact,
    redact_members,
    show_url,
)

SECRET = "S3cr3t+of/client=="
SECRET_NAMES = """
access_token accessToken X-Conversion-Token refresh-token client_secret clientSecret apikey api_key X-API-Key
apiKey X-Notif-Key sharedKey Ocp-Apim-Subscription-Key sig signature password passwd passphrase pwd Set-Cookie
Authorization auth PIN otp sessionId sid JWT bearer client_assertion authorization_code device_code
code_verifier
"""
PUBLIC_NAMES = """
code errorCode error_code status_code message error error_description token_type tokenType keyword monkey
author authority design signal shipping compass scope expires_in token_endpoint
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_of_secrets(name):
    assert is_secret_name(name)
    assert not is_public_header(name)


@pytest.mark.parametrize("name", PUBLIC_NAMES.split())
def test_names_that_only_sound_alike(name):
    assert not is_secret_name(name)


def test_public_headers_are_known_by_their_name_and_not_by_a_part_of_it():
    public = ["Accept", "accept-language", "Content-Type", "If-Match", "User-Agent", "X-Api-Version", "Prefer", "Range"]
    private = ["X-Conversion-Token", "X-Notif-Key", "Version-Key", "X-Accept", "X-Preferred-Customer", "Content-Token"]
    assert all(map(is_public_header, public))
    assert not any(map(is_public_header, private))
    assert set(find_private_headers(dict.fromkeys([*public, *private], "v"))) == set(private)


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ('{"access_token": "abc", "code": "E1"}', '"code": "E1"', "abc"),
        ('{"apiKey" : "a\\"bc\\\\", "m": "n"}', '"m": "n"', "bc"),
        ("{'client_secret': 'x y z', 'errorCode': 'E2'}", "'errorCode': 'E2'", "y"),
        ('{"message": "{\\"token\\": \\"abc\\"} refused"}', "refused", "abc"),
        ('{"refresh_token": "cut off in the mid', "refresh_token", "mid"),
        ("token=abc&page=2", "page=2", "abc"),
        ("X-Api-Key: abc; page: 2", "page: 2", "abc"),
        ("authorization: Bearer abc, next", "next", "abc"),
        ("the token: expired", "expired", "secret"),
    ],
)
def test_members_and_fields(text, kept, gone):
    shown = redact_members(text)
    assert kept in shown
    assert gone not in shown


@pytest.mark.parametrize(
    "encode", [str, quote, lambda s: b64encode(s.encode()).decode(), json.dumps, lambda s: s.encode().hex()]
)
def test_a_secret_in_any_encoding(encode):
    assert SECRET not in redact(f"you sent {encode(SECRET)} to us", [SECRET])
    assert "S3cr3t" not in redact(f"you sent {encode(SECRET)} to us", [SECRET])


@pytest.mark.parametrize("length", range(1, 40))
def test_half_a_secret_at_the_end_of_what_is_looked_at(length):
    """Masking makes the text shorter, so that what stood at its end comes to be shown."""
    secret = "correct horse battery staple, and so on"
    shown = redact("x" * length + secret * MAX_TEXT, [secret], limit=MAX_TEXT)
    assert set(shown) == {"x", "*"}


HOSTILE = {
    "quotes": '"', "escapes": '"\\', "backslashes": "\\", "words": "token-", "fields": "token=", "members": '"token":"',
    "short members": '"k":', "names": "key", "runs": "a", "spaces": " ", "colons": "a:", "entities": "&amp;",
    "percent": "%25", "base64": "AAAAAAAA ", "hex": "deadbeef ", "angles": "<a at 0x", "call": "A(", "mixed": "'\"\\'",
    "underscores": "_" , "digits": "1", "bearer": "authorization: bearer ",
}  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_of_growing_length_ends(piece):
    """Were one of the expressions quadratic, the longest text would take hours, and the test its timeout."""
    for length in (100, 10_000, 1_000_000, 10_000_000):
        text = (piece * length)[:length]
        assert len(redact(text, [SECRET], limit=300)) <= 300
        assert len(redact_members(text)) <= 3 * MAX_TEXT
        assert len(make_printable(text)) <= 200
        assert len(show_url(f"https://h/{text}")) <= 500
        is_secret_name(text)


def test_every_expression_on_unbounded_hostile_text(monkeypatch):
    """The bound is one guard, linear expressions are the other: each alone suffices."""
    monkeypatch.setattr(redaction, "MAX_TEXT", 10**9)
    for piece in HOSTILE.values():
        text = (piece * 60_000)[:60_000]
        redact_members(text)
        make_printable(text)
        redact(text, limit=300)


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b]0;title\x07code", "a\u202ecode", "co\x00de\r\n", "\u200bcode", "\x9b31mcode"]
)
def test_nothing_reaches_a_terminal_but_text(text):
    assert make_printable(text).isprintable()
    assert redact(text).isprintable()
    assert "code" in make_printable(text).replace(" ", "")


def test_an_error_names_its_connection_once():
    error = ConfigurationError("there is no client id.", conn_id="xero")
    assert str(error) == "Connection 'xero': there is no client id."
    error.name_connection("xero")
    assert str(error) == "Connection 'xero': there is no client id."
    # A text that only quotes the name does not begin with it.
    unnamed = StoreError("'xero' is not there")
    unnamed.name_connection("xero")
    assert str(unnamed) == "Connection 'xero': 'xero' is not there"


@pytest.mark.parametrize(
    "secret",
    ["eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "sk_live_51HxT4bK9aQ2", "1/fFAGRNJru1FTz70BzhT3Zg", "a1" * 8],
)
def test_what_looks_like_a_token_is_hidden_although_nobody_has_named_it(secret):
    said = redact(f"no such token: {secret}, sorry")
    assert secret not in said
    assert said == f"no such token: {redaction.MASK}, sorry"


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b64encode(b64encode(text.encode())).decode(),
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: "".join(f"&#{ord(char)};" for char in text),
        lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
        lambda text: " ".join(text),
        lambda text: text.upper(),
    ],
    ids=["base64 twice", "percent twice", "references", "escapes", "spaced", "upper case"],
)
def test_a_secret_in_an_encoding_that_nobody_sends_hides_the_whole_text(encode):
    secret = "pa ss/wo+rd"
    assert redact(f"you sent {encode(secret)} to us", [secret]) == redaction.MASK
