"""The device authorization grant (RFC 8628) on the wire: with oidc-provider, and with what that one never says."""

from __future__ import annotations

import time

import pytest

from airflow_oauth_provider.oauth2 import device, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.grants import GrantOptions
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.scripted import Answer
from tests.servers.sign_in import approve_device, refuse_device


@pytest.fixture(scope="module")
def server():
    with AuthorizationServer(device_code_lifetime=600) as server:
        yield server


def begin(server):
    registered = server.client("basic")
    client = Client(registered.client_id, server.token_url, registered.client_secret)
    return client, device.begin(client, server.device_url, GrantOptions("read"))


def test_polling_until_the_person_has_approved(server):
    client, codes = begin(server)
    waits = []

    def approve_after_two_polls(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            approve_device(server, codes.verification_uri_complete)

    answer = device.wait(client, codes, sleep=approve_after_two_polls)
    assert answer.refresh_token
    assert waits == [codes.interval] * 3
    said = [entry["error"] for entry in server.token_log()[-3:]]
    assert said == ["authorization_pending", "authorization_pending", None]


def test_a_person_who_refuses(server):
    client, codes = begin(server)
    refuse_device(server, codes.verification_uri_complete)
    with pytest.raises(errors.ErrorResponse, match="access_denied"):
        device.wait(client, codes, sleep=lambda _: None)


def test_a_code_that_has_run_out(server):
    server.configure(device_code_lifetime=1)
    try:
        client, codes = begin(server)
    finally:
        server.configure(device_code_lifetime=600)
    assert codes.expires_in == 1
    with pytest.raises(errors.ErrorResponse, match="before the code ran out"):
        device.wait(client, codes, sleep=pytest.fail)
    # By a clock that stands still, the client asks again and again: the server has the last word.
    with pytest.raises(errors.ErrorResponse) as caught:
        device.wait(client, codes, sleep=lambda _: time.sleep(0.2), clock=lambda: -codes.interval)
    assert caught.value.code == "expired_token"


@pytest.mark.parametrize("code", ["expired_token", "access_denied"])
def test_slow_down_adds_five_seconds_and_a_refusal_ends_it(scripted_server, code):
    said = ["authorization_pending", "slow_down", "authorization_pending", "slow_down", code]
    scripted_server.routes["/device"] = lambda _: Answer(
        200,
        {"device_code": "0a1b2c3d4e5f", "user_code": "u", "verification_uri": "https://v.example", "expires_in": 600},
    )
    scripted_server.routes["/token"] = lambda _: Answer(400, {"error": said.pop(0)})
    client = Client("airflow", scripted_server.token_url, scripted_server.client_secret)
    codes = device.begin(client, f"{scripted_server.url}/device", GrantOptions())
    waits = []
    with pytest.raises(errors.ErrorResponse) as caught:
        device.wait(client, codes, sleep=waits.append)
    assert (caught.value.code, waits) == (code, [5, 5, 10, 10, 15])
