"""What a caller asks for, what to do next (a pure function of what has been read), and what the caller gets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    OAuth2Error,
    ReauthorizationRequired,
    RefreshTimeout,
    RefreshTooEarly,
)
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.clock import iso_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.record import Record

#: Seconds for which a caller whose token still works waits for another worker's refresh before it goes on with it.
PATIENCE_WITH_A_WORKING_TOKEN = 2.0
#: Seconds that one call waits at the most because the server or the vendor wants the refresh later.
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class TokenRequirements:
    """What a caller wants.

    :param min_ttl: seconds that the token must still live; at most nine tenths of its lifetime can be had.
    :param rejected: an access token that the API has turned down.
    :param force: refresh although the token is fresh.
    :param coalesce_within: seconds within which a forced refresh takes another one's result for its own.
    """

    min_ttl: float = 0.0
    rejected: str | None = None
    force: bool = False
    coalesce_within: float = 0.0

    def __repr__(self) -> str:
        return f"TokenRequirements(min_ttl={self.min_ttl}, force={self.force}, rejected={self.rejected is not None})"


class Action(Enum):
    """What to do."""

    SERVE = "the stored token meets the requirements"
    PAUSE = "the vendor or the server wants the refresh later: wait, then read again"
    WAIT = "another worker holds the lease: wait a moment, then read again"
    REFRESH = "refresh now"
    FAIL = "nothing can be done"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and what goes with it.

    :param seconds: for PAUSE: how long.
    :param error: for FAIL: what to raise.
    """

    action: Action
    seconds: float = 0.0
    error: OAuth2Error | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on.

    :param configuration: the connection as just read.
    :param record: what :func:`airflow_oauth_provider.tokens.precedence.current` makes of the stored record.
    :param now: this machine's wall clock, in seconds since the epoch.
    :param token_left: seconds for which the record's access token still works, by a clock that does not jump.
    :param lease_left: seconds for which another worker's lease still binds; zero or less: nobody's does.
    :param first_generation: of the record that this call read first.
    :param is_behind: whether this process has a newer token than the store, which was away.
    :param has_refreshed: whether this process has refreshed once, for ``refresh_when: always``.
    :param waited: seconds for which this call has waited for the present holder of the lease.
    :param is_out_of_time: whether this call has lasted too long to begin anything more.
    """

    configuration: GrantConfiguration
    record: Record
    now: float
    token_left: float
    lease_left: float
    first_generation: int
    is_behind: bool
    has_refreshed: bool
    waited: float
    is_out_of_time: bool


def decide(situation: Situation, requirements: TokenRequirements) -> Decision:
    """Return what to do next."""
    if _serves(situation, requirements):
        return Decision(Action.SERVE)
    error = _check_refreshable(situation.configuration, situation.record)
    if error is None and situation.is_out_of_time:
        error = RefreshTimeout(
            "other workers kept refreshing for too long without a result. Try again.",
            conn_id=situation.configuration.conn_id,
        )
    if error is not None:
        return Decision(Action.FAIL, error=error)
    pause = _pause(situation)
    if pause > 0:
        return _pause_or_fail(situation, requirements, pause)
    if situation.lease_left > 0:
        return _wait_or_fail(situation, requirements)
    return Decision(Action.REFRESH)


def _serves(situation: Situation, requirements: TokenRequirements) -> bool:
    """Tell whether the stored token does without a refresh."""
    record = situation.record
    if situation.is_behind or record.access_token in (None, requirements.rejected):
        return False
    if record.generation > situation.first_generation and situation.token_left > 0:
        return True  # another worker has refreshed meanwhile, and its result serves everyone
    if requirements.force:
        is_recent = record.generation > 0 and record.age(situation.now) < requirements.coalesce_within
        return is_recent and situation.token_left > requirements.min_ttl
    return not _is_due(situation, requirements)


def _is_due(situation: Situation, requirements: TokenRequirements) -> bool:
    policy, record = situation.configuration.policy, situation.record
    if policy.when in ("never", "unauthorized"):
        return False
    if policy.when == "always" and not situation.has_refreshed:
        return requirements.rejected is None
    if policy.when == "interval" and situation.token_left > requirements.min_ttl:
        return record.age(situation.now) >= policy.interval
    return situation.token_left <= record.min_remaining(policy.leeway, requirements.min_ttl)


def _check_refreshable(configuration: GrantConfiguration, record: Record) -> OAuth2Error | None:
    """Return the error for what cannot succeed, before anything is sent."""
    if configuration.policy.when == "never":
        return ConfigurationError(messages.never_refreshed(configuration.conn_id, bool(record.access_token)))
    if configuration.rotates and not record.refresh_token:
        return ConfigurationError(messages.no_refresh_token(configuration))
    if record.dead is not None and precedence.is_dead(configuration, record):
        return ReauthorizationRequired(messages.dead_grant(configuration, record.dead))
    return None


def _pause(situation: Situation) -> float:
    """Return the seconds that the vendor's minimum interval and the server's ``Retry-After`` leave to wait."""
    record, pause = situation.record, 0.0
    if record.generation > 0:
        pause = situation.configuration.policy.min_interval - record.age(situation.now)
    not_before = record.not_before
    if not_before is not None and not_before - situation.now <= 2 * LONGEST_PAUSE:
        pause = max(pause, not_before - situation.now)
    return pause


def _pause_or_fail(situation: Situation, requirements: TokenRequirements, pause: float) -> Decision:
    works = situation.record.access_token not in (None, requirements.rejected) and situation.token_left > 0
    if works or pause > LONGEST_PAUSE:
        error = RefreshTooEarly(
            f"the next refresh is allowed in {pause:.0f} s (min_refresh_interval of the connection, or Retry-After of "
            "the server).",
            conn_id=situation.configuration.conn_id,
        )
        return Decision(Action.FAIL, error=error)
    return Decision(Action.PAUSE, seconds=pause)


def _wait_or_fail(situation: Situation, requirements: TokenRequirements) -> Decision:
    works = situation.record.access_token not in (None, requirements.rejected) and not requirements.force
    is_patient = situation.waited <= PATIENCE_WITH_A_WORKING_TOKEN
    if works and not is_patient and situation.token_left > requirements.min_ttl:
        error = RefreshTimeout("another worker is refreshing the token.", conn_id=situation.configuration.conn_id)
        return Decision(Action.FAIL, error=error)
    return Decision(Action.WAIT)


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What a call did, with nothing secret in it: fit for logs and XCom.

    :param action: ``refreshed``, or ``reused`` where the stored token did.
    :param rotated: whether the refresh token changed.
    :param expires_at: when the access token ends, ISO 8601 in UTC; None where its lifetime is unknown.
    :param scope: as granted; None where the server did not say.
    :param store: the kind of store that keeps the tokens, or ``fallback`` where only that could be written.
    :param generation: how many refreshes this grant has seen.
    :param warning: why an old token was served although a refresh was due; None where all is well.
    """

    action: str
    rotated: bool
    expires_at: str | None
    scope: str | None
    store: str
    generation: int
    warning: str | None = None

    @property
    def sentence(self) -> str:
        """What happened, for a log or a page."""
        until = f"works until {self.expires_at}" if self.expires_at else "works for a time that the server did not say"
        if self.action != "refreshed":
            why = f" {self.warning}" if self.warning else ""
            return f"The stored access token was used again; it {until}.{why}"
        rotated = "rotated" if self.rotated else "not rotated"
        return (
            f"The access token was refreshed and {until}. The refresh token was {rotated}; the tokens are in the store "
            f"{self.store!r}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the status as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TokenResult:
    """A record that serves the caller, and how it came about.

    :param record: its access token is usable.
    :param store: the kind of store that keeps it.
    :param refreshed: whether this very call refreshed it.
    :param rotated: whether that changed the refresh token.
    :param warning: why an old token is served although a refresh was due.
    """

    record: Record
    store: str
    refreshed: bool = False
    rotated: bool = False
    warning: str | None = None

    @property
    def status(self) -> TokenStatus:
        """What may be shown of it."""
        ends = self.record.expires_at
        return TokenStatus(
            action="refreshed" if self.refreshed else "reused",
            rotated=self.rotated,
            expires_at=None if ends is None else iso_time(ends),
            scope=self.record.scope,
            store=self.store,
            generation=self.record.generation,
            warning=self.warning,
        )
