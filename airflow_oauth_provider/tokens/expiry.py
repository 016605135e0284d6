"""How fresh an access token is, told by a wall clock that may be wrong."""

from __future__ import annotations

import math

from airflow_oauth_provider.tokens.record import Record


def remaining(record: Record, now: float) -> float:
    """Return the seconds that the access token has left; infinite where its lifetime is unknown.

    A record from the future was written by a machine whose clock is ahead of this one's: it is taken for new, so
    that such a token is never trusted beyond its lifetime.

    :param record: what the store holds.
    :param now: this machine's wall clock, in seconds since the epoch.
    """
    if record.access_token is None:
        return 0.0
    if record.expires_in is None:
        return math.inf
    return record.expires_in - age(record, now)


def age(record: Record, now: float) -> float:
    """Return the seconds since the last refresh, never less than none."""
    return max(0.0, now - record.issued_at)


def wanted(record: Record, leeway: float, min_ttl: float) -> float:
    """Return how many seconds a token must have left to count as fresh.

    :param record: the token.
    :param leeway: the connection's margin in seconds; at most half of the lifetime counts, or a short-lived token
        would never be fresh.
    :param min_ttl: what the caller asks for, in seconds; at most nine tenths of the lifetime can be had.
    """
    if record.expires_in is None:
        return max(leeway, min_ttl)
    return max(min(leeway, record.expires_in / 2), min(min_ttl, record.expires_in * 0.9))
