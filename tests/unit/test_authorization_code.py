"""The pure steps of the authorization-code grant."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from airflow_oauth_provider.oauth2 import authorization_code, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.grants import GrantOptions
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration
from airflow_oauth_provider.tokens.record import DeadGrant, Record, fingerprint

CLIENT = Client("the client", "https://login.example.com/token", "s3cr3t", issuer="https://login.example.com")
REDIRECT = "http://127.0.0.1:4711/callback"


def begin(client=CLIENT, url="https://login.example.com/authorize", **more):
    options = GrantOptions("read offline_access", resources=("https://api.example.com", "https://b.example.com"))
    return authorization_code.begin(client, url, REDIRECT, options, **more)


def answer(pending, **values):
    parts = {"code": "the code", "state": pending.state, "iss": "https://login.example.com"} | values
    return f"{REDIRECT}?{urlencode({name: value for name, value in parts.items() if value is not None})}"


def test_the_request():
    pending = begin(parameters={"access_type": "offline", "state": "mine", "code_challenge_method": "plain"})
    query = parse_qsl(urlsplit(pending.url).query)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest()).rstrip(b"=").decode()
    assert query == [
        ("response_type", "code"),
        ("client_id", "the client"),
        ("redirect_uri", REDIRECT),
        ("state", pending.state),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
        ("scope", "read offline_access"),
        ("resource", "https://api.example.com"),
        ("resource", "https://b.example.com"),
        ("access_type", "offline"),
    ]
    assert "s3cr3t" not in pending.url
    assert pending.verifier not in pending.url
    assert pending.verifier not in repr(pending)
    assert 43 <= len(pending.verifier) <= 128  # RFC 7636 section 4.1


def test_an_endpoint_with_a_query_keeps_it():
    assert begin(url="https://login.example.com/authorize?tenant=a").url.startswith(
        "https://login.example.com/authorize?tenant=a&response_type=code&"
    )


def test_each_sign_in_is_another():
    one, two = begin(), begin()
    assert one.state != two.state
    assert one.verifier != two.verifier


def test_the_code():
    pending = begin()
    assert authorization_code.accept(pending, answer(pending)) == "the code"
    assert authorization_code.accept(pending, answer(pending).partition("?")[2]) == "the code"
    assert authorization_code.redeem(pending, "the code", ("https://api.example.com",)) == [
        ("grant_type", "authorization_code"),
        ("code", "the code"),
        ("redirect_uri", REDIRECT),
        ("code_verifier", pending.verifier),
        ("resource", "https://api.example.com"),
    ]


@pytest.mark.parametrize("state", [None, "", "another", "ünï"])
def test_another_state(state):
    pending = begin()
    with pytest.raises(authorization_code.NotOurs):
        authorization_code.accept(pending, answer(pending, state=state, error="access_denied"))


@pytest.mark.parametrize(
    ("issuer", "required", "right"),
    [
        ("https://login.example.com", True, True),
        ("https://login.example.com/", True, False),  # compared as text (RFC 9207 section 2.4)
        ("https://evil.example.com", False, False),
        ("", False, False),
        (None, True, False),
        (None, False, True),
    ],
)
@pytest.mark.parametrize("error", [None, "access_denied"])
def test_the_issuer(issuer, required, right, error):
    pending = begin(issuer_required=required)
    with pytest.raises(errors.OAuth2ProtocolError) if error or not right else _nothing() as caught:
        authorization_code.accept(pending, answer(pending, iss=issuer, error=error))
    if not right:
        assert isinstance(caught.value, authorization_code.WrongIssuer)


def test_without_a_known_issuer_none_is_compared():
    pending = begin(Client("id", "https://login.example.com/token"))
    assert authorization_code.accept(pending, answer(pending)) == "the code"


def test_a_parameter_twice():
    pending = begin()
    with pytest.raises(errors.UnexpectedResponse):
        authorization_code.accept(pending, answer(pending) + "&code=another")


def test_a_refusal_shows_what_the_server_says_without_anything_that_looks_like_a_secret():
    pending = begin()
    said = answer(pending, code=None, error="access_denied", error_description="no: eyJhbGciOi1NiJ9aaaabbbb\x1b[31m")
    with pytest.raises(errors.ErrorResponse, match="access_denied") as caught:
        authorization_code.accept(pending, said)
    assert "eyJ" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_neither_code_nor_error():
    pending = begin()
    with pytest.raises(errors.UnexpectedResponse):
        authorization_code.accept(pending, answer(pending, code=None))


class _nothing:  # noqa: N801
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


# What becomes of the record.

TOKENS = TokenResponse("at", expires_in=60, refresh_token="from the sign-in")


def account(entered):
    return GrantConfiguration("xero", CLIENT, entered=EnteredTokens(entered))


@pytest.mark.parametrize("entered", ["first", "entered since", None])
@pytest.mark.parametrize("dead", [False, True])
def test_the_sign_in_wins_over_what_the_connection_still_holds(entered, dead):
    old = Record(generation=7, entered_fingerprint=fingerprint("first"), refresh_token="r7")
    if dead:
        old = Record(
            generation=7,
            entered_fingerprint=fingerprint("first"),
            refresh_token="r7",
            dead=DeadGrant(fingerprint("r7"), "invalid_grant", 1.0),
        )
    new = precedence.record_sign_in(precedence.current(account(entered), old), TOKENS, 1000.0)
    for still in ("first", entered):
        assert precedence.current(account(still), new) is new
    assert new.dead is None
    assert precedence.has_moved_on(old, new)
    # A person who enters one later means it.
    assert precedence.current(account("later"), new).refresh_token == "later"


def test_the_first_sign_in_of_all():
    new = precedence.record_sign_in(precedence.current(account(None), None), TOKENS, 1000.0)
    assert precedence.current(account(None), new) is new
    assert (new.generation, new.refresh_token, new.expires_at) == (1, "from the sign-in", 1060)
