"""When a refresh token dies by itself, and when to say so."""

from __future__ import annotations

from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.record import Record


def after(policy: RefreshPolicy, old: Record, answer: TokenResponse, sent_at: float) -> float | None:
    """Return when the refresh token ends that is kept after ``answer``, in seconds since 1970; None: unknown.

    :param policy: what is known of the vendor's lifetimes.
    :param old: the record before.
    :param answer: what came back.
    :param sent_at: when it was asked for.
    """
    ends = old.refresh_expires_at
    is_new = answer.refresh_token is not None and answer.refresh_token != old.refresh_token
    if answer.refresh_expires_in is not None:
        ends = sent_at + answer.refresh_expires_in
    elif policy.refresh_lifetime is not None and (is_new or ends is None):
        ends = sent_at + policy.refresh_lifetime
    elif policy.idle_lifetime is not None:
        ends = None  # what was known was when it would have died unused, and it has been used
    if policy.idle_lifetime is not None:
        idle = sent_at + policy.idle_lifetime
        ends = idle if ends is None else min(ends, idle)
    return ends


def warns(policy: RefreshPolicy, old: Record, new: Record, now: float) -> float | None:
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
