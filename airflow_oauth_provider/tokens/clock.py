"""The two clocks that the token life cycle is told by, times as they are shown, and waiting."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Protocol

from airflow_oauth_provider.tokens.json_members import LATEST_TIME


def show_time(seconds: float) -> str:
    """Return a time as people read it, in UTC.

    :param seconds: since the epoch; what lies outside the calendar is shown as its first or last day.
    """
    return _date(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso_time(seconds: float) -> str:
    """Return a time as programs read it (ISO 8601, in UTC); see :func:`show_time`."""
    return _date(seconds).isoformat(timespec="seconds")


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, 0.0), LATEST_TIME), UTC)


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


class Backoff:
    """Waits a little longer each time, and never in step with anyone else.

    :param first: seconds of the first pause, on average.
    :param longest: seconds of the longest one, on average.
    :param factor: by which each pause is longer than the one before.
    """

    def __init__(self, clock: Clock, *, first: float, longest: float = 1.0, factor: float = 1.6) -> None:
        self._clock = clock
        self._next = first
        self._longest = longest
        self._factor = factor

    def next_pause(self) -> float:
        """Return the seconds of the next pause."""
        seconds = self._next * (0.5 + random.random())  # noqa: S311 - jitter, not cryptography
        self._next = min(self._longest, self._next * self._factor)
        return seconds

    def wait(self) -> None:
        """Wait for the next pause."""
        self._clock.sleep(self.next_pause())
