"""The flows, stepped through without a network: what they want done, and what comes of it."""

from __future__ import annotations

import asyncio
import io

import pytest
import requests

from airflow_oauth_provider.connection.address import origin_of
from airflow_oauth_provider.exceptions import UnrewindableBody
from airflow_oauth_provider.http.auth import OAuth2Auth
from airflow_oauth_provider.http.flow import RefreshToken, Send, Sleep, drive, drive_async
from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy, attempt_flow
from tests.unit.test_auth import API, Tokens


def request_of(method="GET", data=None):
    return requests.Request(method, f"{API}/a", data=data).prepare()


def response_to(request, status=200, **headers):
    response = requests.Response()
    response.status_code, response.request, response.url, response.raw = status, request, request.url, io.BytesIO()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def in_a_thread(flow, perform):
    return drive(flow, perform)


def on_an_event_loop(flow, perform):
    async def performing(step):
        await asyncio.sleep(0)
        return perform(step)

    return asyncio.run(drive_async(flow, performing))


both = pytest.mark.parametrize("run", [in_a_thread, on_an_event_loop])


def auth():
    return OAuth2Auth(Tokens(), "xero", [origin_of(API)])


@both
def test_a_401_asks_for_a_token_and_sends_once_more(run):
    steps, auth_ = [], auth()
    request = request_of("POST", b"payload")
    auth_.authorize(request, "t1")

    def perform(step):
        steps.append(step)
        if isinstance(step, RefreshToken):
            return "t2"
        assert step.request.headers["Authorization"] == "Bearer t2"
        assert step.request.body == b"payload"
        return response_to(step.request)

    first = response_to(request, 401)
    response = run(auth_.answer_flow(first), perform)
    assert [type(step) for step in steps] == [RefreshToken, Send]
    assert steps[0].rejected == "t1"
    assert steps[1].instead_of is first
    assert (response.status_code, response.history) == (200, [first])
    assert request.headers["Authorization"] == "Bearer t1", "the first request stays what it was"


@both
def test_an_answer_that_counts_asks_for_nothing(run):
    def perform(step):
        raise AssertionError(step)

    for status in (200, 403, 500):
        request = request_of()
        auth_ = auth()
        auth_.authorize(request, "t1")
        assert run(auth_.answer_flow(response_to(request, status)), perform).status_code == status
    assert run(auth().answer_flow(response_to(request_of(), 401)), perform).status_code == 401, (
        "it had no token of ours"
    )


@both
@pytest.mark.parametrize("what", [RefreshToken, Send])
def test_an_error_of_a_step_is_the_flows(run, what):
    request = request_of()
    auth_ = auth()
    auth_.authorize(request, "t1")

    def perform(step):
        if isinstance(step, what):
            raise ZeroDivisionError
        return "t2"

    with pytest.raises(ZeroDivisionError):
        run(auth_.answer_flow(response_to(request, 401)), perform)


@both
def test_a_body_that_is_spent_is_found_before_the_request_is_sent_again(run):
    request = request_of("POST", (part for part in [b"a"]))
    auth_ = auth()
    auth_.authorize(request, "t1")
    with pytest.raises(UnrewindableBody):
        run(auth_.answer_flow(response_to(request, 401)), lambda step: "t2")


def attempts(run, outcomes, method="GET", **policy):
    """Run the flow of attempts on outcomes: statuses or errors."""
    outcomes, slept = iter(outcomes), []

    def perform(step):
        if isinstance(step, Sleep):
            slept.append(step.seconds)
            return None
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return response_to(step.request, *outcome)

    throttle = RateLimit(clock=lambda: sum(slept))
    response = run(attempt_flow(request_of(method), "xero", RetryPolicy(**policy), throttle), perform)
    return response.status_code, [second for second in slept if second], len(list(outcomes))


@both
def test_attempts_pass_over_what_passes(run):
    broken, timeout = requests.ConnectionError("broke"), requests.ReadTimeout("slow")
    status, slept, left = attempts(run, [(503,), broken, timeout, (502,), (200,)])
    assert (status, len(slept), left) == (200, 4, 0)
    assert attempts(run, [(503,)] * 9)[::2] == (503, 4)
    assert attempts(run, [(404,), (200,)]) == (404, [], 1)
    assert attempts(run, [(503,), (200,)], method="POST")[0] == 503


@both
@pytest.mark.parametrize("error", [requests.exceptions.SSLError("bad"), requests.exceptions.InvalidProxyURL("bad")])
def test_what_does_not_get_better_is_not_tried_again(run, error):
    with pytest.raises(type(error)):
        attempts(run, [error, (200,)])


@both
def test_the_last_failure_is_raised(run):
    with pytest.raises(requests.ConnectionError, match="second"):
        attempts(run, [requests.ConnectionError("first"), requests.ConnectionError("second")], attempts=2)


@both
def test_a_step_that_is_broken_off_ends_the_flow(run):
    with pytest.raises(KeyboardInterrupt):
        run(attempt_flow(request_of(), "xero", RetryPolicy(), RateLimit()), interrupt)


def interrupt(step):
    raise KeyboardInterrupt
