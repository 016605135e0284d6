"""The device authorization grant, against a server that says one thing after the other."""

from __future__ import annotations

import pytest

from airflow_oauth_provider.oauth2 import client_auth, device, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.grants import GrantOptions
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.oauth2.transport import HttpResponse

CLIENT = Client("the-client", "https://login.example.com/token", "s3cr3t")
URL = "https://login.example.com/device"
CODES = b"""{"device_code": "dev1ce-c0de", "user_code": "WDJB-MJHT", "verification_uri": "https://example.com/d",
             "expires_in": 60, "interval": 2}"""
PENDING = errors.ErrorResponse("pending", code="authorization_pending")
SLOW = errors.ServerFailure("slow_down", status=400)
TOKENS = TokenResponse("at")


def authorize(monkeypatch, body, status=200):
    sent = []

    def post(client, url, fields, headers):
        sent.append((url, fields, headers))
        return HttpResponse(url, status, {"content-type": "application/json"}, body)

    monkeypatch.setattr(client_auth, "post_form", post)
    return device.begin(CLIENT, URL, GrantOptions("read")), sent


def poll(monkeypatch, answers, expires_in=60.0):
    slept = []
    answers = iter(answers)

    def request(client, parameters):
        assert parameters == [("grant_type", device.GRANT_TYPE), ("device_code", "dev1ce-c0de")]
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(device, "request_token", request)
    codes = device.DeviceAuthorization("dev1ce-c0de", "u", "https://e/d", expires_in=expires_in, interval=2.0)
    return device.wait(CLIENT, codes, sleep=slept.append, clock=lambda: sum(slept)), slept


def test_the_codes(monkeypatch):
    codes, sent = authorize(monkeypatch, CODES)
    assert (codes.user_code, codes.verification_uri, codes.expires_in, codes.interval) == (
        "WDJB-MJHT",
        "https://example.com/d",
        60,
        2,
    )
    assert "dev1ce" not in repr(codes)
    url, fields, headers = sent[0]
    assert url == URL
    assert fields == [("scope", "read"), ("client_id", "the-client")]
    assert headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("name", ["verification_url"])
def test_googles_spelling_and_missing_times(monkeypatch, name):
    codes, _ = authorize(monkeypatch, b'{"device_code": "a", "user_code": "b", "%s": "https://e"}' % name.encode())
    assert (codes.verification_uri, codes.interval) == ("https://e", 5)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error": "unauthorized_client"}', errors.UnauthorizedClientResponse),
        (503, b"", errors.ServerFailure),
        (404, b"<html>", errors.UnexpectedResponse),
        (200, b'{"user_code": "b"}', errors.UnexpectedResponse),
        # A person is told to open them.
        (200, CODES.replace(b"https://example.com/d", b"javascript:alert(1)"), errors.UnexpectedResponse),
        (200, CODES.replace(b"https://example.com/d", b"/d"), errors.UnexpectedResponse),
    ],
)
def test_no_codes(monkeypatch, status, body, kind):
    with pytest.raises(kind):
        authorize(monkeypatch, body, status)


def test_polling_waits_first_slows_down_when_told_and_backs_off(monkeypatch):
    answers = [PENDING, SLOW, PENDING, errors.NotConnected("gone"), errors.LostResponse("lost"), TOKENS]
    answer, slept = poll(monkeypatch, answers, 600.0)
    assert answer is TOKENS
    assert slept == [2, 2, 7, 7, 14, 28]


@pytest.mark.parametrize(
    "refusal",
    [
        errors.ErrorResponse("no", code="access_denied"),
        errors.ErrorResponse("late", code="expired_token"),
        errors.InvalidClientResponse("no", code="invalid_client"),
        errors.NotConnected("certificate", lasting=True),
    ],
)
def test_polling_ends_with_a_refusal(monkeypatch, refusal):
    with pytest.raises(type(refusal)) as caught:
        poll(monkeypatch, [PENDING, refusal])
    assert caught.value is refusal


def test_polling_ends_when_the_code_does(monkeypatch):
    with pytest.raises(errors.ErrorResponse, match="ran out") as caught:
        poll(monkeypatch, [PENDING] * 100)
    assert caught.value.code == "expired_token"
