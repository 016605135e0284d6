"""What other clients get wrong, one test a case, by the hook and over HTTP.

Four more cases have tests where their mechanism is: locks between processes and without fencing
(``tests/unit/test_refresh_once.py``, ``test_refresh_kept.py``), odd lifetimes and statuses that mean "expired"
(``tests/integration/test_dialects.py``).
"""

from __future__ import annotations

import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import pytest

from airflow_oauth_provider.exceptions import OAuth2Error, ReauthorizationRequired, TokenRequestError
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from tests.http_support import CONN_ID, api_calls, connect
from tests.servers.scripted import Answer, Fault


@pytest.fixture
def use(scripted_server, monkeypatch):
    """Define the connection; gives a function that makes a hook, as each task does, and the store."""

    def connected(**extra):
        store = connect(monkeypatch, scripted_server, **extra)
        return (lambda: OAuth2Hook(CONN_ID, method="GET")), store

    return connected


def token_requests(server):
    return server.requests_to("/token")


USELESS = {
    "an error under 200": (200, {"error": "invalid_request", "error_description": "no"}),
    "null under 200": (200, {"access_token": None, "expires_in": 3600}),
    "no error under 400": (400, {"message": "no", "expires_in": 3600}),
    "a token under 400": (400, {"access_token": "surprise", "expires_in": 3600}),
}


@pytest.mark.parametrize("case", USELESS)
def test_what_is_no_success_is_no_token(scripted_server, use, case):
    hook, store = use()
    status, body = USELESS[case]
    scripted_server.faults.append(Fault(status=status, body=body, times=9))
    with pytest.raises(OAuth2Error):
        hook().run("items")
    assert store.record.access_token is None
    assert api_calls(scripted_server) == []


def test_an_omitted_refresh_token_stays_and_a_rotated_one_is_kept(scripted_server, use):
    hook, store = use()
    scripted_server.rules.send_refresh_token = False
    for _ in range(2):
        assert hook().refresh().rotated is False
    scripted_server.rules.send_refresh_token = True
    for _ in range(2):
        assert hook().refresh().rotated is True
    assert scripted_server.grants.is_usable_refresh_token(store.record.refresh_token)
    assert scripted_server.reuses == 0


def test_a_lifetime_that_is_not_said_is_neither_for_ever_nor_an_error(scripted_server, use):
    hook, _ = use()
    scripted_server.rules.expires_in = False
    task = hook()
    assert task.run("items").status_code == 200
    scripted_server.grants.expire_access_tokens()
    assert task.run("items").status_code == 200
    assert scripted_server.spends == 2


def test_scopes_are_one_parameter(scripted_server, use):
    hook, _ = use(scope="read write")
    hook().refresh()
    (request,) = token_requests(scripted_server)
    assert request.body.decode().count("scope=") == 1
    assert request.form["scope"] == "read write"


def test_a_server_that_does_not_answer_is_not_waited_for_nor_asked_for_minutes(scripted_server, use):
    hook, _ = use(timeout=1)
    never = threading.Event()
    scripted_server.faults.append(Fault(hold=never, works=False, times=9))
    try:
        with pytest.raises(TokenRequestError):
            hook().get_access_token()
    finally:
        never.set()
    assert len(token_requests(scripted_server)) == 2  # the second, since the first may have rotated unseen


def test_nothing_of_a_call_reaches_the_token_endpoint_and_credentials_go_one_way(scripted_server, use):
    hook, _ = use(auth_method="client_secret_basic")
    hook().run("items", data={"page": "2"}, headers={"X-Tenant": "me"})
    (request,) = token_requests(scripted_server)
    assert set(request.form) == {"grant_type", "refresh_token"}
    assert request.query == {}
    assert request.header("X-Tenant") is None
    assert request.header("Authorization").startswith("Basic ")


def test_no_log_and_no_error_shows_a_token_though_the_server_echoes_the_request(scripted_server, use, caplog):
    caplog.set_level(logging.DEBUG)
    hook, store = use(auth_method="client_secret_post")
    hook().refresh()

    def echo(request):
        return Answer(400, {"error": "invalid_grant", "error_description": request.body.decode()})

    first = store.record.refresh_token
    scripted_server.routes["/token"] = echo
    with pytest.raises(ReauthorizationRequired) as caught:
        hook().refresh()
    shown = caplog.text + str(caught.value) + repr(caught.value)
    for secret in (*scripted_server.grants.issued, first):
        assert secret not in shown


def test_many_workers_that_meet_a_401_share_one_refresh(scripted_server, use):
    hook, _ = use()
    workers = [hook() for _ in range(8)]
    assert {worker.run("items").status_code for worker in workers} == {200}
    scripted_server.grants.expire_access_tokens()
    with ThreadPoolExecutor(len(workers)) as pool:
        answers = list(pool.map(lambda worker: worker.run("items").status_code, workers))
    assert answers == [200] * len(workers)
    assert (scripted_server.spends, scripted_server.reuses) == (2, 0)


def test_a_dead_grant_is_called_once(scripted_server, use):
    hook, _ = use()
    scripted_server.grants.revoke_all()
    for _ in range(5):
        with pytest.raises(ReauthorizationRequired):
            hook().run("items")
    assert len(token_requests(scripted_server)) == 1


def test_testing_the_connection_spends_nothing(scripted_server, use):
    hook, store = use()
    worked, says = hook().test_connection()
    assert worked, says
    # One empty request, and one with a refresh token that was made up.
    empty, made_up = [request.body for request in token_requests(scripted_server)]
    assert empty == b""
    assert not scripted_server.grants.is_usable_refresh_token(dict(parse_qsl(made_up.decode()))["refresh_token"])
    assert scripted_server.spends == 0
    assert store.record is None


def test_a_long_task_goes_on_with_what_others_have_put_in_place(scripted_server, use, monkeypatch):
    hook, _ = use()
    scripted_server.rules.old_access_dies = True
    task = hook()
    task.run("items")
    hook().refresh()
    assert task.run("items").status_code == 200
    assert scripted_server.spends == 2
    # And with a client secret that was changed since.
    name = f"AIRFLOW_CONN_{CONN_ID.upper()}"
    scripted_server.client_secret = "another"
    monkeypatch.setenv(name, json.dumps({**json.loads(os.environ[name]), "password": "another"}))
    assert task.refresh().action == "refreshed"


def test_a_refresh_that_fails_for_a_moment_does_not_fail_a_task_whose_token_works(scripted_server, use):
    hook, _ = use()
    task = hook()
    task.run("items")
    scripted_server.faults.append(Fault(status=500, times=9))
    status = task.refresh()
    assert (status.action, bool(status.warning)) == ("reused", True)
    assert task.run("items").status_code == 200
