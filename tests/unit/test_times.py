"""Times that servers write: dates, and when they may be asked again, in all the forms in which servers say it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from airflow_oauth_provider.oauth2.times import (
    LONGEST,
    is_rate_limit,
    parse_date,
    parse_lifetime,
    parse_time,
    read_exhaustion,
    read_wait,
)

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "milliseconds", "seconds"),
    [
        (3600, False, 3600),
        ("3600", False, 3600),
        (0.5, False, 0.5),
        (3_600_000, True, 3600),
        ("1500", True, 1.5),
        (LONGEST + 1, False, LONGEST),
        (LONGEST + 1, True, LONGEST / 1000 + 0.001),
        (10 * LONGEST * 1000, True, LONGEST),
        (0, False, None),
        (-1, True, None),
        (10**400, False, None),
        ("nan", False, None),
        ("inf", False, None),
        ("soon", False, None),
        (True, False, None),
        (None, False, None),
    ],
)
def test_lifetimes(value, milliseconds, seconds):
    found = parse_lifetime(value, milliseconds=milliseconds)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1000.0 + 90, 90),
        ("1090", 90),
        ((1_700_000_000.0 + 90) * 1000, None),
        ("1970-01-01T00:18:10Z", 90),
        ("1970-01-01T00:18:10", 90),
        ("1970-01-01T01:18:10+01:00", 90),
        ("Thu, 01 Jan 1970 00:18:10 GMT", 90),
        (999, None),
        ("yesterday", None),
        (None, None),
        (True, None),
        ({}, None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_dates(value, seconds):
    found = parse_date(value, server_now=1000.0)
    if seconds is None and isinstance(value, float):
        assert found == LONGEST
    else:
        assert found == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_700_000_000, 1_700_000_000),
        ("1700000000.5", 1_700_000_000.5),
        (1_700_000_000_500, 1_700_000_000.5),
        (1e11, 1e8),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000.5),
    ],
)
def test_moments(value, seconds):
    assert parse_time(value) == seconds


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
    assert read_wait(503, CaseInsensitiveDict(headers)) == seconds


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
    assert read_exhaustion(CaseInsensitiveDict(headers), NOW.timestamp()) == pytest.approx(seconds)


def test_a_429_without_retry_after_goes_by_the_rate_limit():
    headers = CaseInsensitiveDict({"X-RateLimit-Reset": "8"})
    assert read_wait(429, headers) == 8
    assert read_wait(503, headers) is None
    assert read_wait(200, CaseInsensitiveDict({"Retry-After": "5"})) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2030-01-01T12:00:40Z", 40),
        ("2030-01-01T14:00:40+02:00", 40),
        ("2030-01-01 12:00:40", 40),
        ("Tue, 01 Jan 2030 12:00:40 GMT", 40),
        ("Tuesday, 01-Jan-30 12:00:40 GMT", 40),
        ("40", 40),
        (" 40.5 ", 40.5),
        (f"{int(NOW.timestamp()) + 40}", 40),
        (f"{int(NOW.timestamp()) + 40}000", 40),
        (f"{int(NOW.timestamp()) + 40}000000", 40),
        (f"{int(NOW.timestamp()) + 40}000000000", 40),
        ("2030-01-01 12:00:40 UTC", 40),
        ("2030-01-01T12:00:40 GMT", 40),
        ("2030-01-01 12:00:40.5 UTC", 40.5),
        ("2030-01-01 12:00:40 XYZ", None),
        ("1" * 400, None),
        ("2030-01-01T11:00:00Z", 0),
        ("2026, next year", None),
        ("2030 hours", None),
        ("30 s", None),
        ("5;or so", None),
        ("5;w=60", 5),
        ("1e3", None),
        ("1_000", None),
        ("inf", None),
        ("NaN", None),
        ("٣", None),
        ("0x10", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
def test_a_time_is_read_whole_or_not_at_all(name, value, seconds):
    assert read_wait(429, CaseInsensitiveDict({name: value}), NOW.timestamp()) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"a";r=5;t=10, "b";r=0;t=60', 60),
        ('"a";r=0;t=10, "b";r=0;t=60, "c";r=1;t=90', 60),
        ('"a";t=10;r=0', 10),
        ('"a";r=0', 0),
        ('"a";r=0 or so;t=10', 0),
        ("limit=10, remaining=1, reset=5", 0),
    ],
)
def test_several_windows(value, seconds):
    assert read_exhaustion({"ratelimit": value}, NOW.timestamp()) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("6m0s", 360),
        ("500ms", 0.5),
        ("59.829s", 59.829),
        ("1h2m3.5s", 3723.5),
        ("2d", 172800),
        ("9" * 9 + "d", 315360000),
        ("1m30", None),
        ("s", None),
        ("-2s", None),
        ("2sec", None),
        ("2 s", None),
        ("1m 30s", None),
        ("1.s", None),
        ("1_0s", None),
    ],
)
def test_a_window_may_end_after_a_duration_and_retry_after_knows_none(value, seconds):
    wanted = None if seconds is None else pytest.approx(seconds)
    for name in ("x-ratelimit-reset", "x-ratelimit-reset-requests", "x-ratelimit-reset-after"):
        assert read_wait(429, {name: value}, NOW.timestamp()) == wanted
    assert read_wait(429, {"ratelimit": f'"a";r=0;t={value}'}, NOW.timestamp()) == wanted
    assert read_wait(429, {"retry-after": value}, NOW.timestamp()) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        # OpenAI
        (
            {
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360,
        ),
        # Anthropic
        (
            {
                "Anthropic-RateLimit-Tokens-Remaining": "0",
                "Anthropic-RateLimit-Tokens-Reset": "2030-01-01T12:00:30Z",
                "Anthropic-RateLimit-Requests-Remaining": "7",
                "Anthropic-RateLimit-Requests-Reset": "2030-01-01T12:00:01Z",
            },
            30,
        ),
        # Kong: one end for windows of several lengths
        ({"X-RateLimit-Remaining-Second": "4", "X-RateLimit-Remaining-Minute": "0", "RateLimit-Reset": "12"}, 12),
        ({"X-RateLimit-Remaining-Minute": "0", "X-RateLimit-Reset-Minute": "9", "X-RateLimit-Reset-Hour": "99"}, 9),
        # Discord
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.5"}, 1.5),
        ({"X-App-Rate-Limit-Remaining": "0", "X-App-Rate-Limit-Reset": "3"}, 3),
        ({"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": "60", "X-RateLimit-Remaining-Day": "0"}, 60),
        ({"X-RateLimit-Remaining-Minute": "0"}, 0),
        ({"RateLimit": '"a;r=0";r=5;t=30'}, 0),
        ({"RateLimit": '"a,b;r=0;t=9";r=0;t=30'}, 30),
        ({"RateLimit": "limit=10, remaining=0, reset=2030-01-01T12:00:07Z"}, 7),
        ({"RateLimit": f'"a";r=0;t={int(NOW.timestamp()) + 8}'}, 8),
        ({"RateLimit": '"a";r="0";t="9"'}, 9),
    ],
)
def test_windows_with_names_of_their_own(headers, seconds):
    headers = CaseInsensitiveDict(headers)
    assert read_exhaustion(headers, NOW.timestamp()) == pytest.approx(seconds)
    assert is_rate_limit(403, headers) is (seconds > 0 or (len(headers) == 1 and "RateLimit" not in headers))


@pytest.mark.parametrize(
    "name", ["X-Records-Remaining", "X-RateLimit-Limit", "X-Limit", "Remaining", "X-RateLimitReset"]
)
def test_other_fields_are_no_window(name):
    headers = CaseInsensitiveDict({name: "0"})
    assert (read_exhaustion(headers), is_rate_limit(403, headers), read_wait(429, headers)) == (0, False, None)


def test_a_refusal_although_something_is_left_goes_by_the_first_window():
    assert read_wait(429, {"ratelimit": '"a";r=5;t=10, "b";r=3;t=60'}, NOW.timestamp()) == 10


@pytest.mark.parametrize(
    ("status", "headers", "limited"),
    [
        (429, {}, True),
        (403, {}, False),
        (403, {"Retry-After": "5"}, True),
        (403, {"Retry-After": "never"}, False),
        (403, {"X-RateLimit-Remaining": "0"}, True),
        (403, {"X-RateLimit-Remaining": "12", "X-RateLimit-Reset": "9"}, False),
        (401, {"Retry-After": "5"}, False),
    ],
)
def test_what_is_a_rate_limit(status, headers, limited):
    assert is_rate_limit(status, CaseInsensitiveDict(headers)) is limited


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("999999999", 315360000),  # seconds from now on, of which ten years are believed
        ("1000000000", 10),  # a moment, from 2001 on
        ("999999999999", 315360000),
        ("1000000000000", 10),  # in milliseconds
        ("999999999999999", 999999999999.999 - 999999990.0),
        ("1000000000000000", 10),
        ("1000000005.5", 15.5),
        ("2030-01-01T12:00:40Z", 315360000),
        ("Sun, 09 Sep 2001 01:46:41 GMT", 11),
        ("5" + " " * 600, 5),
        ("05" + ",5" * 255, 5),  # 512 characters
        ("5" + ",5" * 256, None),  # one more
        ("00000000000000000005", 5),
        ("000000000000000000005", None),  # 21 digits
    ],
)
def test_numbers_are_seconds_moments_or_mistakes(value, seconds):
    wanted = None if seconds is None else pytest.approx(min(seconds, 315360000))
    assert read_wait(429, {"retry-after": value}, 999999990.0) == wanted


@pytest.mark.parametrize(("status", "seconds"), [(399, None), (400, 5), (500, 5)])
def test_only_errors_ask_to_wait(status, seconds):
    assert read_wait(status, {"retry-after": "5"}) == seconds


@pytest.mark.parametrize("status", [402, 404, 428, 430, 503])
def test_what_else_is_no_rate_limit(status):
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}
    assert not is_rate_limit(status, headers)
    assert read_wait(status, headers) is None
    assert is_rate_limit(429, headers)


@pytest.mark.parametrize("name", ["ratelimit", "x-ratelimit", "x-rate-limit", "x-ratelimit-requests"])
def test_all_names_of_a_window(name):
    for left, reset, seconds in (("0", "0.5", 0.5), ("1", "0.5", 0.0), ("0", "-0.5", 0.0)):
        assert read_exhaustion({f"{name}-remaining": left, f"{name}-reset": reset}, 5.0) == seconds


SECONDS = st.integers(0, 10**6)


@given(seconds=SECONDS, skew=st.integers(-(10**6), 10**6))
def test_dates_count_by_the_servers_clock(seconds, skew):
    served = NOW + timedelta(seconds=skew)
    for date in (served + timedelta(seconds=seconds),):
        for text in (format_datetime(date, usegmt=True), date.isoformat(), date.isoformat().replace("+00:00", "Z")):
            headers = {"retry-after": text, "date": format_datetime(served, usegmt=True)}
            assert read_wait(503, headers) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "ratelimit", "x-ratelimit-reset", "date"]), st.text()))
def test_any_text_is_a_time_or_none(headers):
    for status in (403, 429, 503):
        wait = read_wait(status, headers, NOW.timestamp())
        assert wait is None or (math.isfinite(wait) and wait >= 0)
    assert read_exhaustion(headers) >= 0


@given(number=SECONDS, unit=st.sampled_from(["s", " s", "x", " requests", "%", "-", "/60", " or more", "ms"]))
def test_a_number_with_something_behind_it_is_none(number, unit):
    assert read_wait(503, {"retry-after": f"{number}{unit}"}) is None
