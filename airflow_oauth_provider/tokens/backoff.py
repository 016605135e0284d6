"""Waiting with growing, jittered pauses."""

from __future__ import annotations

import random

from airflow_oauth_provider.tokens.clock import Clock


class Backoff:
    """Waits a little longer each time, and never in step with anyone else.

    :param clock: waits.
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
