"""What a server says about time: when it may be asked again (RFC 9110 section 10.2.3, rate-limit headers).

One parser and one clock for the token endpoint and for APIs. A moment is told by the server's clock, so it is compared
with the server's ``Date``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: The longest pause that is believed, in seconds (ten years): beyond it lies a mistake.
LONGEST = 10 * 365 * 86400.0

#: Numbers from here on are moments, in seconds since 1970; below it they are seconds from now.
_EARLIEST_MOMENT = 1e9
_EARLIEST_MOMENT_IN_MS = 1e12
#: Characters of a field that are looked at; more is no time.
_LONGEST_FIELD = 512
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?")

#: A date in ISO 8601 whose zone has its name, such as "2026-11-25 12:00:00 UTC".
_ISO_WITH_ZONE_NAME = re.compile(r"^([0-9]{4}-[0-9-]{5}[ T][0-9:.]{5,20}) ?(?:UTC|GMT)$")

_RESET_NAMES = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-requests-reset")
_REMAINING_NAMES = (
    "ratelimit-remaining",
    "x-ratelimit-remaining",
    "x-rate-limit-remaining",
    "x-ratelimit-requests-remaining",
)
_WINDOW_NAMES = frozenset({"ratelimit", *_REMAINING_NAMES})


def read_wait(status: int, headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that an error response wants the next request to wait; None where it does not say.

    :param status: HTTP status; nothing below 400 asks to wait.
    :param headers: with names in lower case, or in any case if the mapping does not care.
    :param now: the server's clock, in seconds since 1970; None: its ``Date``, else this machine's clock.
    """
    if status < 400:
        return None
    now = _server_time(headers) if now is None else now
    wait = _read_time(headers.get("retry-after"), now)
    if wait is None and is_rate_limit(status, headers):
        wait = _read_window(headers, now)[1]
    return wait


def read_exhaustion(headers: Mapping[str, str], now: float | None = None) -> float:
    """Return for how many seconds no further request is allowed, as the rate-limit headers tell it; else 0.

    Understood are ``RateLimit-Remaining``/``-Reset`` (draft-ietf-httpapi-ratelimit-headers up to 06), ``RateLimit``
    (later drafts: ``"default";r=0;t=30``, and ``limit=10, remaining=0, reset=30``), ``X-RateLimit-…`` and
    ``X-Rate-Limit-…``. The end of the window may be seconds from now, seconds or milliseconds since 1970, or a date.

    :param headers: see :func:`read_wait`.
    :param now: see :func:`read_wait`.
    """
    if _WINDOW_NAMES.isdisjoint(map(str.lower, headers)):  # as most answers: nothing need be parsed
        return 0.0
    remaining, wait = _read_window(headers, _server_time(headers) if now is None else now)
    return wait if remaining == 0 and wait is not None else 0.0


def is_rate_limit(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether a response refuses the request for now only: 429, or a 403 that says when or that nothing remains.

    GitHub, among others, answers 403 to whoever has used up its window.
    """
    if status == 403:
        now = _server_time(headers)
        return _read_time(headers.get("retry-after"), now) is not None or _read_window(headers, now)[0] == 0
    return status == 429


def _server_time(headers: Mapping[str, str]) -> float:
    served = _read_date(headers.get("date") or "")
    return time.time() if served is None else served


def _read_window(headers: Mapping[str, str], now: float) -> tuple[float | None, float | None]:
    """Return how many requests remain, and the seconds until the window ends."""
    combined = (headers.get("ratelimit") or "")[:_LONGEST_FIELD]
    if combined:
        windows = [
            (_read_number(window.get("r", window.get("remaining"))), _read_number(window.get("t", window.get("reset"))))
            for window in _split_windows(combined)
        ]
        # Several limits may hold: the one that ends last among those that are used up.
        used_up = [window for window in windows if window[0] == 0]
        return max(used_up, key=lambda window: window[1] or 0.0) if used_up else (windows or [(None, None)])[0]
    left = (_read_first(headers.get(name)) for name in _REMAINING_NAMES)
    ends = (_read_time(headers.get(name), now) for name in _RESET_NAMES)
    return next((n for n in left if n is not None), None), next((n for n in ends if n is not None), None)


def _split_windows(combined: str) -> Iterator[dict[str, str]]:
    """Yield the parameters of each item of ``RateLimit``; without semicolons, all of it is one item."""
    items = combined.split(",") if ";" in combined else [combined.replace(",", ";")]
    for item in items:
        pairs = [part.partition("=") for part in item.split(";")]
        yield {name.strip().lower(): value.strip() for name, equals, value in pairs if equals}


def _read_first(value: str | None) -> float | None:
    """Return the first number of a list of windows such as "0, 120;w=60": it is the one in force."""
    numbers = [_read_number(item.partition(";")[0]) for item in (value or "")[:_LONGEST_FIELD].split(",")]
    return None if None in numbers else numbers[0]


def _read_time(value: str | None, now: float) -> float | None:
    """Return the seconds from ``now`` on that a field names as a number, a moment or a date; None for anything else."""
    text = (value or "").strip()
    if (moment := _read_date(text)) is not None and _read_number(text) is None:
        return min(max(0.0, moment - now), LONGEST)
    number = _read_first(text)
    if number is None:
        return None
    if number >= _EARLIEST_MOMENT:
        while number >= _EARLIEST_MOMENT_IN_MS:  # or in microseconds, or nanoseconds
            number /= 1000
        number -= now
    return min(max(0.0, number), LONGEST)


def _read_number(value: str | None) -> float | None:
    """Return a number; None unless all of ``value`` is one."""
    text = (value or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _read_date(value: str) -> float | None:
    """Return an HTTP date or one in ISO 8601 as seconds since 1970; UTC where it names no zone."""
    text = value.strip()
    if not text or len(text) > _LONGEST_FIELD or text.isdigit():
        return None
    text = _ISO_WITH_ZONE_NAME.sub(r"\1+00:00", text)
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = parse(text)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None
