"""The two clocks that the token life cycle is told by."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Time as :mod:`airflow_oauth_provider.tokens.refresh` sees it."""

    def now(self) -> float:
        """Return the wall clock, in seconds since the epoch. It may be wrong, and it may jump."""

    def elapsed(self) -> float:
        """Return seconds since some fixed moment. It never goes back, and counts the time a machine sleeps."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The clocks of this machine."""

    # CLOCK_MONOTONIC stands still while a machine is suspended, and a lease does not.
    _BOOT = getattr(time, "CLOCK_BOOTTIME", None)

    def now(self) -> float:
        """Return the wall clock, in seconds since the epoch."""
        return time.time()

    def elapsed(self) -> float:
        """Return seconds since the machine's start."""
        return time.monotonic() if self._BOOT is None else time.clock_gettime(self._BOOT)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
