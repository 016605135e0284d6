"""Not faster than asked: the moments at which requests may leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimit:
    """Hands out the moments at which requests may leave, to any number of threads.

    :param requests_per_second: how many, evenly spaced; None: as many as there are.
    :param max_retry_after: the longest pause that an API may ask for, in seconds.
    :param clock: elapsed seconds.
    """

    def __init__(
        self,
        requests_per_second: float | None = None,
        *,
        max_retry_after: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if requests_per_second is not None and not requests_per_second > 0:
            raise ValueError(f"requests_per_second is {requests_per_second}, but has to be more than 0")
        self._space = 1 / requests_per_second if requests_per_second else 0.0
        self._max_retry_after = max_retry_after
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the next moment, and return in how many seconds it is."""
        with self._lock:
            now = self._clock()
            moment = max(now, self._next)
            self._next = moment + self._space
            return moment - now

    def hold(self, seconds: float) -> None:
        """Let nothing leave for a while, because the API said so."""
        if 0 < seconds <= self._max_retry_after:
            with self._lock:
                self._next = max(self._next, self._clock() + seconds)
