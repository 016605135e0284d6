"""Times that servers write: lifetimes, dates, and when they may be asked again (RFC 9110 section 10.2.3, rate limits).

The token endpoint and APIs are read alike. A moment is told by the server's clock, so it is compared with the server's
``Date``.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: The longest lifetime or pause that is believed, in seconds (ten years). Beyond it lies a mistake: milliseconds, say.
LONGEST = 10 * 365 * 86400.0
#: Seconds since 1970 have ten digits until the year 2286; a greater number is milliseconds.
MILLISECONDS_FROM = 1e11

#: Numbers in header fields are moments from here on, in seconds since 1970; below it they are seconds from now.
_EARLIEST_MOMENT = 1e9
_EARLIEST_MOMENT_IN_MS = 1e12
#: Characters of a field that are looked at; more is no time.
_LONGEST_FIELD = 512
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?")
#: The same with what a list of windows says of one: "120;w=60".
_NUMBER_WITH_PARAMETERS = re.compile(rf"({_NUMBER.pattern})(?:\s*;\s*[\w-]+=[^;]*)*+")
#: A duration with its units, such as OpenAI's "6m0s" and "500ms".
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:d|h|ms|m|s))+")
_PART_OF_DURATION = re.compile(r"([0-9.]{1,19})(d|h|ms|m|s)")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

#: A date in ISO 8601 whose zone has its name, such as "2026-11-25 12:00:00 UTC".
_ISO_WITH_ZONE_NAME = re.compile(r"^([0-9]{4}-[0-9-]{5}[ T][0-9:.]{5,20}) ?(?:UTC|GMT)$")

#: Names of fields about a window, whose own name, if it has one, stands in front or behind: "RateLimit-Reset",
#: "X-RateLimit-Remaining-Minute", "Anthropic-RateLimit-Requests-Remaining", "X-RateLimit-Reset-After".
_WINDOW_FIELD = re.compile(r"((?:[\w-]{1,40}-)?rate-?limit)-(?:([\w-]{1,40})-)?(remaining|reset)(?:-([\w-]{1,40}))?")
#: The quoted name of a window in the field ``RateLimit``.
_NAME_OF_WINDOW = re.compile(r'(^|,)\s*"[^"]*"')


def parse_lifetime(value: object, *, milliseconds: bool = False) -> float | None:
    """Return a lifetime in seconds, or None where ``value`` does not name one.

    :param value: the ``expires_in`` member: a number, or, from servers that err, a string. Zero and less mean
        "unknown" as well: a token that is dead on arrival cannot have been meant.
    :param milliseconds: whether that is its unit.
    """
    number = _parse_number(value)
    if number is None or number <= 0:
        return None
    return min(number / 1000 if milliseconds else number, LONGEST)


def parse_date(value: object, *, server_now: float) -> float | None:
    """Return the seconds from ``server_now`` to a date; None where ``value`` is none, or one that has passed.

    :param value: see :func:`parse_time`.
    :param server_now: the server's clock, in seconds since 1970: the date was made by that clock.
    """
    at = parse_time(value)
    return None if at is None or at <= server_now else min(at - server_now, LONGEST)


def parse_time(value: object) -> float | None:
    """Return a date as seconds since 1970; None where ``value`` is none.

    :param value: ISO 8601 (UTC where it names no zone), an HTTP date, or seconds or milliseconds since 1970.
    """
    at = _parse_number(value)
    if at is None:
        return _read_date(value) if isinstance(value, str) else None
    return at / 1000 if at >= MILLISECONDS_FROM else at


def read_server_time(headers: Mapping[str, str]) -> float:
    """Return the server's clock when it answered, in seconds since 1970; this machine's where it does not say.

    :param headers: see :func:`read_wait`.
    """
    served = _read_date(headers.get("date"))
    return time.time() if served is None else served


def read_wait(status: int, headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that an error response wants the next request to wait; None where it does not say.

    :param status: HTTP status; nothing below 400 asks to wait.
    :param headers: with names in lower case, or in any case if the mapping does not care.
    :param now: the server's clock, in seconds since 1970; None: its ``Date``, else this machine's clock.
    """
    if status < 400:
        return None
    now = read_server_time(headers) if now is None else now
    wait = _read_time(headers.get("retry-after"), now)
    if wait is None and is_rate_limit(status, headers):
        wait = _read_window(headers, now)[1]
    return wait


def read_exhaustion(headers: Mapping[str, str], now: float | None = None) -> float:
    """Return for how many seconds no further request is allowed, as the rate-limit headers tell it; else 0.

    Understood are ``RateLimit-Remaining``/``-Reset`` (draft-ietf-httpapi-ratelimit-headers up to 06), ``RateLimit``
    (later drafts: ``"default";r=0;t=30``, and ``limit=10, remaining=0, reset=30``), ``X-RateLimit-…``,
    ``X-Rate-Limit-…``, and these names with a window's own name in them (``X-RateLimit-Remaining-Tokens``). The end of
    the window may be seconds from now, seconds or milliseconds since 1970, a date, or a duration such as ``6m0s``.

    :param headers: see :func:`read_wait`.
    :param now: see :func:`read_wait`.
    """
    if not _may_be_used_up(headers):  # as most answers: nothing need be parsed
        return 0.0
    remaining, wait = _read_window(headers, read_server_time(headers) if now is None else now)
    return wait if remaining == 0 and wait is not None else 0.0


def _may_be_used_up(headers: Mapping[str, str]) -> bool:
    """Tell in a few microseconds whether it is worth the while to read the fields."""
    names = "".join(headers).lower()
    if "remaining" in names:
        for name, value in headers.items():
            if "remaining" in name.lower() and value.lstrip(" +-").startswith("0"):
                return True
    return "ratelimit" in names and headers.get("ratelimit") is not None


def is_rate_limit(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether a response refuses the request for now only: 429, or a 403 that says when or that nothing remains.

    GitHub, among others, answers 403 to whoever has used up its window.
    """
    if status == 403:
        now = read_server_time(headers)
        return _read_time(headers.get("retry-after"), now) is not None or _read_window(headers, now)[0] == 0
    return status == 429


def _read_window(headers: Mapping[str, str], now: float) -> tuple[float | None, float | None]:
    """Return how many requests remain, and the seconds until the window ends."""
    combined = (headers.get("ratelimit") or "")[:_LONGEST_FIELD]
    windows = list(_split_windows(combined, now)) if combined else list(_find_windows(headers, now))
    # Several limits may hold: the one that ends last among those that are used up.
    used_up = [window for window in windows if window[0] == 0]
    return max(used_up, key=lambda window: window[1] or 0.0) if used_up else (windows or [(None, None)])[0]


def _split_windows(combined: str, now: float) -> Iterator[tuple[float | None, float | None]]:
    """Yield what the items of ``RateLimit`` say; without semicolons, all of it is one item."""
    combined = _NAME_OF_WINDOW.sub(r"\1", combined)
    for item in combined.split(",") if ";" in combined else [combined.replace(",", ";")]:
        pairs = [part.partition("=") for part in item.split(";")]
        window = {name.strip().lower(): value.strip().strip('"') for name, equals, value in pairs if equals}
        remaining = _read_first(window.get("r", window.get("remaining")))
        yield remaining, _read_end(window.get("t", window.get("reset")), now)


def _find_windows(headers: Mapping[str, str], now: float) -> Iterator[tuple[float | None, float | None]]:
    """Yield the windows that fields of their own tell of; those without a name come first, and lend their end."""
    left: dict[tuple[str, str], float | None] = {}
    ends: dict[tuple[str, str], float | None] = {}
    for field, value in headers.items():
        found = _WINDOW_FIELD.fullmatch(field.lower()) if "limit" in field.lower() else None
        if found is None:
            continue
        family, before, kind, behind = found.groups()
        name = "" if behind == "after" else before or behind or ""
        if kind == "remaining":
            left[family, name] = _read_first(value)
        else:
            ends[family, name] = _read_end(value, now)
    common = next((end for (_, name), end in ends.items() if not name and end is not None), None)
    for key in sorted({*left, *ends}, key=lambda key: key[1] != ""):
        end = ends.get(key)
        yield left.get(key), common if end is None else end


def _read_first(value: str | None) -> float | None:
    """Return the first number of a list of windows such as "0, 120;w=60": it is the one in force."""
    members = (value or "").strip()[:_LONGEST_FIELD].split(",")
    matches = [match for member in members if (match := _NUMBER_WITH_PARAMETERS.fullmatch(member.strip()))]
    return float(matches[0][1]) if len(matches) == len(members) else None


def _read_end(value: str | None, now: float) -> float | None:
    """Return the seconds until a window ends; see :func:`read_exhaustion`."""
    text = (value or "").strip()[:_LONGEST_FIELD]
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART_OF_DURATION.findall(text))
        return min(seconds, LONGEST)
    return _read_time(text, now)


def _read_time(value: str | None, now: float) -> float | None:
    """Return the seconds from ``now`` on that a field names as a number, a moment or a date; None for anything else."""
    number = _read_first(value)
    if number is None:
        moment = _read_date(value)
        return None if moment is None else min(max(0.0, moment - now), LONGEST)
    if number >= _EARLIEST_MOMENT:
        while number >= _EARLIEST_MOMENT_IN_MS:  # or in microseconds, or nanoseconds
            number /= 1000
        number -= now
    return min(max(0.0, number), LONGEST)


def _read_date(value: str | None) -> float | None:
    """Return an HTTP date or one in ISO 8601 as seconds since 1970; UTC where it names no zone."""
    text = (value or "").strip()
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


def _parse_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
