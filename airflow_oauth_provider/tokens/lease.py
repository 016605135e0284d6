"""The exclusive right to refresh: how long it lasts, and when another worker's has ended."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_oauth_provider.tokens.clock import Clock
from airflow_oauth_provider.tokens.record import Lease


@dataclass(frozen=True, slots=True)
class LeaseBudget:
    """How the time of a lease is divided, in seconds.

    :param spend: from taking the lease until the last token request has ended.
    :param write: from then on, for writing the new tokens to the store.
    :param rescue: from then on, for writing them to the fallback store.
    """

    spend: float
    write: float
    rescue: float

    @classmethod
    def for_timeout(cls, timeout: float) -> LeaseBudget:
        """Return the budget for an HTTP timeout in seconds: time for two requests that run into it, and the writes."""
        return cls(spend=2 * timeout + 5, write=max(3.0, timeout), rescue=max(3.0, timeout / 2))

    @property
    def total(self) -> float:
        """Length of the lease."""
        return self.spend + self.write + self.rescue


class LeaseWatch:
    """Times leases by how long this process has seen them.

    The wall clocks of two machines may differ by minutes, so a lease is never compared with the date that its holder
    wrote on it. Whoever looks has seen it later than it was taken: timed so, a lease is outlived, never broken.

    :param clock: tells the time elapsed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_seen: dict[str, float] = {}
        self._own: set[str] = set()
        self._held: set[str] = set()

    def hold(self, owner: str) -> None:
        """Note that this process refreshes under the lease ``owner``, from before it is written.

        As long as it does, the lease binds everybody, this process too: a signal handler may want a token in the middle
        of a refresh.
        """
        self._own.add(owner)
        self._held.add(owner)

    def end(self, owner: str) -> None:
        """Note that nothing is done under ``owner`` any more, even where it stays in the store."""
        self._held.discard(owner)

    def disown(self, owner: str) -> None:
        """Note that somebody else may be at work where ``owner`` stands: it has to run out, as any other's."""
        self._own.discard(owner)
        self._held.discard(owner)

    def is_over(self, lease: Lease) -> bool:
        """Tell whether ``lease`` binds nobody any more."""
        if lease.owner in self._own and lease.owner not in self._held:
            return True
        now = self._clock.elapsed()
        if lease.owner not in self._first_seen:
            # Only the lease seen last matters: versions never come back.
            self._first_seen = {lease.owner: now}
        return now - self._first_seen[lease.owner] > lease.seconds
