"""When a request is sent again, and when it may leave."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from requests.structures import CaseInsensitiveDict

from airflow_oauth_provider.http.rate_limit import RateLimit
from airflow_oauth_provider.http.retry import RetryPolicy, retry_after, told_to_wait, used_up

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "-1"}, 0),
        ({"Retry-After": "Tue, 01 Jan 2030 12:00:30 GMT", "Date": "Tue, 01 Jan 2030 12:00:00 GMT"}, 30),
        ({"Retry-After": "Tue, 01 Jan 2030 11:00:00 GMT", "Date": "Tue, 01 Jan 2030 12:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(CaseInsensitiveDict(headers)) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "9"}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}, 9),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW.timestamp()) + 20)}, 20),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((int(NOW.timestamp()) + 20) * 1000)}, 20),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "7"}, 7),
        ({"RateLimit-Remaining": "0, 0;w=60", "RateLimit-Reset": "4"}, 4),
        ({"RateLimit": "limit=10, remaining=0, reset=5"}, 5),
        ({"RateLimit": '"default";r=0;t=6'}, 6),
        ({"RateLimit": '"default";r=3;t=6'}, 0),
        ({"X-RateLimit-Remaining": "0"}, 0),
    ],
)
def test_rate_limit_headers(headers, seconds):
    assert used_up(CaseInsensitiveDict(headers), lambda: NOW) == pytest.approx(seconds)


def test_a_429_without_retry_after_goes_by_the_rate_limit():
    headers = CaseInsensitiveDict({"X-RateLimit-Reset": "8"})
    assert told_to_wait(429, headers) == 8
    assert told_to_wait(503, headers) is None
    assert told_to_wait(200, CaseInsensitiveDict({"Retry-After": "5"})) is None


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
    ],
)
def test_which_answers_are_repeated(method, status, repeated):
    assert (RetryPolicy().after_status(method, status, {}, 1) is not None) == repeated
    assert RetryPolicy().after_status(method, status, {}, 5) is None


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
