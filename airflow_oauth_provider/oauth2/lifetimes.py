"""Dates and lifetimes, in all the forms in which servers write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Longest lifetime that is believed, in seconds (ten years); beyond it lies a mistake such as milliseconds.
MAX_LIFETIME = 10 * 365 * 86400.0

#: Seconds since 1970 have ten digits until the year 2286; a greater number is milliseconds.
MILLISECONDS_FROM = 1e11


def parse_lifetime(value: object, *, milliseconds: bool = False) -> float | None:
    """Return a lifetime in seconds, or None where ``value`` does not name one.

    :param value: the ``expires_in`` member: a number, or, from servers that err, a string. Zero and less mean
        "unknown" as well: a token that is dead on arrival cannot have been meant.
    :param milliseconds: whether that is its unit.
    """
    number = _parse_number(value)
    if number is None or number <= 0:
        return None
    return min(number / 1000 if milliseconds else number, MAX_LIFETIME)


def parse_date(value: object, *, server_now: float) -> float | None:
    """Return the seconds from ``server_now`` to a date; None where ``value`` is none, or one that has passed.

    :param value: see :func:`parse_time`.
    :param server_now: the server's clock, in seconds since 1970: the date was made by that clock.
    """
    at = parse_time(value)
    if at is None or at <= server_now:
        return None
    return min(at - server_now, MAX_LIFETIME)


def parse_time(value: object) -> float | None:
    """Return a date as seconds since 1970; None where ``value`` is none.

    :param value: ISO 8601 (UTC where it names no zone), an HTTP date, or seconds or milliseconds since 1970.
    """
    at = _parse_number(value)
    if at is None:
        return _parse_iso_date(value.strip()) if isinstance(value, str) else None
    return at / 1000 if at >= MILLISECONDS_FROM else at


def parse_http_date(text: str | None) -> float | None:
    """Return a ``Date`` header field as seconds since 1970; None where it is missing or malformed."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (TypeError, ValueError, OverflowError):
        return None


def _parse_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _parse_iso_date(text: str) -> float | None:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return parse_http_date(text)
    try:
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return None
