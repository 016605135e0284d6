"""What callers of the token life cycle ask for, and what they get."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_oauth_provider.tokens.clock import iso_time
from airflow_oauth_provider.tokens.record import Record


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
