"""When access tokens and refresh tokens end, told by a wall clock that may be wrong."""

from __future__ import annotations

import math

from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.json_members import LATEST_TIME
from airflow_oauth_provider.tokens.record import Record

#: The part of a token's lifetime that a caller can ask for at the most.
LONGEST_MIN_TTL = 0.9


def remaining(record: Record, now: float) -> float:
    """Return the seconds that the access token has left; infinite where its lifetime is unknown.

    A record from the future was written by a machine whose clock is ahead of this one's. It is taken for new, so that
    such a token is never trusted beyond its lifetime.

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
    return max(min(leeway, record.expires_in / 2), min(min_ttl, record.expires_in * LONGEST_MIN_TTL))


def refresh_token_end(policy: RefreshPolicy, old: Record, response: TokenResponse, sent_at: float) -> float | None:
    """Return when the refresh token ends that is kept after ``response``, in seconds since 1970; None: unknown.

    :param policy: what is known of the vendor's lifetimes.
    :param old: the record before.
    :param response: what came back.
    :param sent_at: when it was asked for.
    """
    ends = old.refresh_expires_at
    is_new = response.refresh_token is not None and response.refresh_token != old.refresh_token
    if response.refresh_expires_in is not None:
        ends = sent_at + response.refresh_expires_in
    elif policy.refresh_lifetime is not None and (is_new or ends is None):
        ends = sent_at + policy.refresh_lifetime
    elif policy.idle_lifetime is not None:
        ends = None  # what was known was when it would have died unused, and it has been used
    if policy.idle_lifetime is not None:
        idle = sent_at + policy.idle_lifetime
        ends = idle if ends is None else min(ends, idle)
    return None if ends is None else min(ends, LATEST_TIME)


def ends_soon(policy: RefreshPolicy, old: Record, new: Record, now: float) -> float | None:
    """Return the seconds until a person has to sign in again, where that is near and the refresh did not put it off.

    :param policy: says how near is near.
    :param old: the record before the refresh.
    :param new: the record after it.
    :param now: this machine's wall clock.
    """
    ends, before = new.refresh_expires_at, old.refresh_expires_at
    if ends is None or before is None:
        return None
    if ends - before > (new.issued_at - old.issued_at) / 2:
        return None  # it moves along with the refreshes; a fixed end stands still, but for rounding
    left = ends - now
    return left if left <= policy.warn_before else None
