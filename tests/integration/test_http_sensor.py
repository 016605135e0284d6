"""OAuth2HttpSensor: poking here, and deferred."""

from __future__ import annotations

import time

import pytest
from airflow.exceptions import AirflowException
from requests import Response

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.sensors.http import OAuth2HttpSensor
from airflow_oauth_provider.triggers.events import pack_pages
from tests.http_support import CONN_ID, CONTEXT, TaskDeferred, api_calls, connect, run_deferred
from tests.servers.scripted import Answer, Fault


@pytest.fixture
def server(scripted_server, monkeypatch):
    connect(monkeypatch, scripted_server)
    return scripted_server


def sensor(**arguments):
    arguments = {"task_id": "task", "oauth2_conn_id": CONN_ID, "endpoint": "/items", "poke_interval": 0.05, **arguments}
    return OAuth2HttpSensor(**arguments)


def test_it_waits_on_the_session_that_it_has(server):
    server.faults.append(Fault("/api", status=404, times=3))
    sensor().execute(CONTEXT)
    calls = api_calls(server)
    assert len(calls) == 4
    assert len({call.connection for call in calls}) == 1
    assert server.spends == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_statuses_that_mean_not_yet(server, deferrable):
    server.faults += [Fault("/api", status=409), Fault("/api", status=425)]
    run_deferred(sensor(response_error_codes_allowlist=[409, "425"], deferrable=deferrable))
    assert len(api_calls(server)) == 3


@pytest.mark.parametrize("deferrable", [False, True])
def test_other_errors_fail(server, deferrable):
    server.faults.append(Fault("/api", status=403, body={"error": "404 is what this text begins with"}))
    with pytest.raises(ApiError, match="403"):
        run_deferred(sensor(deferrable=deferrable))


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_check_decides(server, deferrable):
    """Unlike the stock sensor, also deferred."""
    states = iter(["queued", "running", "done"])
    server.routes["/api/job"] = lambda _: Answer(200, {"state": next(states)})
    _, triggers = run_deferred(
        sensor(endpoint="/job", response_check=lambda r, params: r.json()["state"] == "done", deferrable=deferrable)
    )
    assert len(api_calls(server)) == 3
    assert len(triggers) == (3 if deferrable else 0)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        (None, "404:Not Found"),
        (["404:"], "404:Not Found"),
        ([409], "409:Conflict"),
        (["5"], "503:Service Unavailable"),
    ],
)
def test_a_check_that_raises_what_is_allowed_means_not_yet(server, deferrable, allowed, said):
    """As with the stock sensor: a check that asks another address may meet such a status."""
    answers = iter([AirflowException(said), ApiError(said, status_code=int(said[:3])), None])

    def check(_):
        if (error := next(answers)) is not None:
            raise error
        return True

    run_deferred(sensor(response_check=check, response_error_codes_allowlist=allowed, deferrable=deferrable))
    assert len(api_calls(server)) == 3


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("allowed", "error"),
    [
        (None, AirflowException("500:Internal Server Error")),
        (["404:"], AirflowException("4040 of them")),
        ([], AirflowException("404:Not Found")),
        (None, ValueError("404:Not Found")),
    ],
)
def test_a_check_that_raises_anything_else_fails_the_task(server, deferrable, allowed, error):
    def check(_):
        raise error

    with pytest.raises(type(error), match=str(error)):
        run_deferred(sensor(response_check=check, response_error_codes_allowlist=allowed, deferrable=deferrable))
    assert len(api_calls(server)) == 1


def test_the_timeout_counts_from_the_beginning(server):
    with pytest.raises(TaskDeferred) as deferred:
        sensor(deferrable=True, timeout=100).execute(CONTEXT)
    assert 99 < deferred.value.timeout.total_seconds() <= 100
    arguments = {**deferred.value.kwargs, "began": time.time() - 60}
    event = {"status": "success", "responses": []}
    answer = Response()
    answer.status_code, answer._content, answer.url = 200, b"{}", "http://x"
    event["responses"] = pack_pages([answer])
    waiting = sensor(deferrable=True, timeout=100, response_check=lambda _: False)
    with pytest.raises(TaskDeferred) as again:
        waiting.execute_complete(CONTEXT, event=event, **{k: v for k, v in arguments.items() if k == "began"})
    assert 38 < again.value.timeout.total_seconds() <= 41


def test_unchecked_answers_go_to_the_check(server):
    server.routes["/api/gone"] = lambda _: Answer(410, {})
    for deferrable in (False, True):
        run_deferred(
            sensor(
                endpoint="/gone",
                extra_options={"check_response": False},
                response_check=lambda response: response.status_code == 410,
                deferrable=deferrable,
            )
        )
    assert len(api_calls(server)) == 2
