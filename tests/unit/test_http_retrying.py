"""When a request is sent again, and when it may leave."""

from __future__ import annotations

import pytest

from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy


@pytest.mark.parametrize(
    ("method", "status", "repeated"),
    [
        ("GET", 503, True),
        ("put", 502, True),
        ("DELETE", 504, True),
        ("GET", 500, False),
        ("GET", 404, False),
        ("POST", 503, False),
        ("PATCH", 502, False),
        ("POST", 429, True),
        ("GET", 403, False),
    ],
)
def test_which_answers_are_repeated(method, status, repeated):
    assert (RetryPolicy().after_status(method, status, {}, 1) is not None) == repeated
    assert RetryPolicy().after_status(method, status, {}, 5) is None


@pytest.mark.parametrize(
    "headers",
    [{"retry-after": "7"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "7"}, {"ratelimit": '"d";r=0;t=7'}],
)
def test_a_403_that_says_when_is_a_rate_limit(headers):
    assert 7 <= RetryPolicy().after_status("POST", 403, headers, 1) <= 7.25
    assert RetryPolicy(max_retry_after=5).after_status("GET", 403, headers, 1) is None


@pytest.mark.parametrize("told", ["0", "-3", "0.01", "Tue, 01 Jan 2030 11:00:00 GMT", "2026-11-25T12:00:00Z", "soon"])
@pytest.mark.parametrize("status", [403, 429, 503])
def test_who_names_no_time_to_come_gets_our_own_pause(told, status):
    headers = {"retry-after": told, "x-ratelimit-remaining": "0", "date": "Tue, 01 Jan 2030 12:00:00 GMT"}
    assert RetryPolicy().after_status("GET", status, headers, 1) >= 0.5
    assert RetryPolicy().after_status("GET", status, headers, 4) >= 4


def test_which_failures_are_repeated():
    policy = RetryPolicy()
    assert policy.after_failure("POST", 1, was_sent=True) is None
    assert policy.after_failure("POST", 1, was_sent=False) is not None
    assert policy.after_failure("GET", 1, was_sent=True) is not None
    assert RetryPolicy(non_idempotent=True).after_failure("POST", 1, was_sent=True) is not None


def test_pauses_grow_and_differ():
    pauses = [[RetryPolicy(attempts=20).after_failure("GET", n, was_sent=True) for _ in range(50)] for n in (1, 3, 12)]
    for found, bound in zip(pauses, (1, 4, 30), strict=True):
        assert bound / 2 <= min(found) < max(found) <= bound


def test_a_throttle():
    now = [100.0]
    throttle = RateLimit(4, clock=lambda: now[0])
    assert [throttle.reserve() for _ in range(3)] == pytest.approx([0, 0.25, 0.5])
    throttle.hold(10)
    assert throttle.reserve() == pytest.approx(10)
    throttle.hold(1_000)
    assert throttle.reserve() == pytest.approx(10.25), "longer than anyone waits: the next answer decides"
    now[0] = 200
    assert throttle.reserve() == 0
