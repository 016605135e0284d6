"""The state of a grant, as the pages, the JSON and the commands show it: a pure function of what was read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.record import Record

#: Where an ID token or a token response says who has signed in, the best name first (OpenID Connect Core 5.1).
_NAMES = ("email", "preferred_username", "upn", "username", "user_email", "name", "sub", "user_id")
#: The longest name of a person that is shown, in characters.
_LONGEST_NAME = 100
#: Seconds before the end of a refresh token from which on a person hears of it, where the connection does not say.
ENDS_SOON = 7 * 86400.0


class State(Enum):
    """What state a grant can be in; the most urgent first, which is the order of lists."""

    SIGN_IN_AGAIN = "sign in again"
    WRONG_CONFIGURATION = "wrong configuration"
    NEVER_SIGNED_IN = "never signed in"
    ENDS_SOON = "ends soon"
    STORE_UNREADABLE = "store unreadable"
    NOT_READ = "not read yet"
    WILL_REFRESH = "will refresh"
    FRESH = "fresh"

    @property
    def urgency(self) -> int:
        """The place in a list: 0 for the most urgent state."""
        return list(State).index(self)

    @property
    def needs_person(self) -> bool:
        """Whether tasks fail until a person has done something."""
        return self in (State.SIGN_IN_AGAIN, State.WRONG_CONFIGURATION, State.NEVER_SIGNED_IN)


@dataclass(frozen=True, slots=True)
class LastRefresh:
    """The last refresh that succeeded.

    :param at: seconds since the epoch.
    :param actor: who: ``dag_id/task_id``, a command, a user; empty where unknown.
    """

    at: float
    actor: str = ""


@dataclass(frozen=True, slots=True)
class GrantState:
    """The state of one grant. Nothing in it is secret.

    :param reason: why, in a sentence.
    :param access_token_until: seconds since the epoch; None: there is no access token, or its end is unknown.
    :param refresh_token_until: seconds since the epoch; None: unknown.
    :param idle_days: days without a refresh after which the refresh token is dead; None: no limit is known.
    :param last_refresh: the last refresh that succeeded; None: there was none.
    :param refreshes: refreshes and sign-ins so far.
    :param signed_in_as: who has signed in, as far as the server says; empty where it does not.
    """

    state: State
    reason: str
    access_token_until: float | None = None
    refresh_token_until: float | None = None
    idle_days: float | None = None
    last_refresh: LastRefresh | None = None
    refreshes: int = 0
    signed_in_as: str = ""


def determine_state(configuration: GrantConfiguration, stored: Record | None, now: float) -> GrantState:
    """Return the state of a grant.

    :param stored: its record; None: there is none.
    :param now: seconds since the epoch.
    """
    record = precedence.current(configuration, stored)
    state, reason = _judge(configuration, record, now)
    idle = configuration.policy.idle_lifetime
    return GrantState(
        state,
        reason,
        access_token_until=record.expires_at if record.access_token else None,
        refresh_token_until=record.refresh_expires_at,
        idle_days=None if idle is None else idle / 86400,
        last_refresh=_last_refresh(record),
        refreshes=record.generation,
        signed_in_as=read_name(record.response_parameters),
    )


def _judge(configuration: GrantConfiguration, record: Record, now: float) -> tuple[State, str]:
    if configuration.policy.when == "never":
        return _judge_fixed_token(record, now)
    if configuration.rotates:
        found = _judge_refresh_token(configuration, record, now)
        if found is not None:
            return found
    return _judge_access_token(record, now)


def _judge_fixed_token(record: Record, now: float) -> tuple[State, str]:
    """Judge a token that is never refreshed."""
    until = record.expires_at
    if record.access_token is None or (until is not None and until <= now):
        return State.WRONG_CONFIGURATION, "refresh_when is 'never', and there is no access token that works."
    return State.FRESH, "The access token works, and is never refreshed (refresh_when is 'never')."


def _judge_refresh_token(configuration: GrantConfiguration, record: Record, now: float) -> tuple[State, str] | None:
    """Judge what a person has to renew; None where all is well with it."""
    if not record.refresh_token:
        return State.NEVER_SIGNED_IN, "There is no refresh token: nobody has signed in."
    if record.dead is not None and precedence.is_dead(configuration, record):
        what = "was revoked" if record.dead.error == "revoked" else f"was refused ({record.dead.error})"
        return State.SIGN_IN_AGAIN, f"The refresh token {what} at {show_time(record.dead.at)}."
    ends = record.refresh_expires_at
    if ends is None:
        return None
    if ends <= now:
        return State.SIGN_IN_AGAIN, f"The refresh token ended at {show_time(ends)}."
    # An idle limit moves with each refresh, so it is near only where nobody refreshes.
    if ends - now <= (configuration.policy.warn_before or ENDS_SOON):
        return State.ENDS_SOON, f"The refresh token ends at {show_time(ends)}, in {format_duration(ends - now)}."
    return None


def _judge_access_token(record: Record, now: float) -> tuple[State, str]:
    if record.access_token is None:
        return State.WILL_REFRESH, "There is no access token yet: the next task gets one."
    until = record.expires_at
    if until is None:
        return State.FRESH, "There is an access token; the server did not say how long it works."
    if until <= now:
        return State.WILL_REFRESH, f"The access token ended at {show_time(until)}: the next task refreshes it."
    return State.FRESH, f"The access token works for another {format_duration(until - now)}."


def _last_refresh(record: Record) -> LastRefresh | None:
    for event in reversed(record.history):
        if event.kind in ("refreshed", "signed_in"):
            return LastRefresh(event.at, event.actor)
    return LastRefresh(record.issued_at) if record.generation > 0 and record.issued_at else None


def read_name(response: Mapping[str, Any]) -> str:
    """Return who has signed in: from the ID token, else from the token response; empty where neither says.

    The ID token came from the token endpoint itself, so its signature need not be checked for a name that is only
    shown (OpenID Connect Core 3.1.3.7).
    """
    claims = _read_claims(response.get("id_token"))
    for members in (claims, response):
        for name in _NAMES:
            value = members.get(name)
            if isinstance(value, str) and value.strip():
                return "".join(letter for letter in value if letter.isprintable())[:_LONGEST_NAME]
    return ""


def _read_claims(token: object) -> Mapping[str, Any]:
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def format_duration(seconds: float) -> str:
    """Return a duration for people, in the largest unit of which there are two at least."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
