"""Waiting for another worker's refresh, so that people see who waits for whom and for how long."""

from __future__ import annotations

import logging

from airflow_oauth_provider.tokens import messages
from airflow_oauth_provider.tokens.backoff import Backoff
from airflow_oauth_provider.tokens.clock import Clock
from airflow_oauth_provider.tokens.record import Lease

log = logging.getLogger(__name__)


class WaitForHolder:
    """One caller's waiting for the holders of leases. It logs one line for each holder, and one at the end.

    :param clock: tells the time elapsed, and waits.
    :param conn_id: the connection, for the log.
    """

    def __init__(self, clock: Clock, conn_id: str) -> None:
        self._clock = clock
        self._conn_id = conn_id
        self._owner: str | None = None
        self._began = self._owner_began = 0.0
        self._pauses = Backoff(clock, first=0.02)

    def seconds(self, lease: Lease | None) -> float:
        """Return for how long the holder of ``lease`` has been waited for."""
        return 0.0 if lease is None or lease.owner != self._owner else self._clock.elapsed() - self._owner_began

    def note(self, lease: Lease, left: float) -> None:
        """Note that ``lease`` is waited for; log it if it is another holder's than before.

        :param lease: the lease.
        :param left: seconds for which it still binds.
        """
        if lease.owner == self._owner:
            return
        now = self._clock.elapsed()
        if self._owner is None:
            self._began = now
        self._owner, self._owner_began = lease.owner, now
        self._pauses = Backoff(self._clock, first=0.02)
        log.info("%s", messages.waiting_begins(self._conn_id, lease, left))

    def pause(self) -> None:
        """Wait a moment, a little longer each time."""
        self._pauses.wait()

    def end(self) -> float | None:
        """Log that the waiting has ended, and return its seconds; None where there was none."""
        if self._owner is None:
            return None
        waited = self._clock.elapsed() - self._began
        log.info("Connection %r: waited %.1f s for another worker's refresh", self._conn_id, waited)
        return waited
