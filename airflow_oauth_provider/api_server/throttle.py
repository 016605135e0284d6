"""Count what clients do, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Throttle:
    """Allows each key so many events at once, and so many a second after that.

    :param burst: events at once.
    :param rate: events a second.
    :param keys: how many keys are remembered; the one that was longest quiet is forgotten first.
    :param clock: elapsed seconds.
    """

    def __init__(
        self, burst: int, rate: float, keys: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._rate, self._keys, self._clock = burst, rate, keys, clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, key: Hashable) -> bool:
        """Count an event of ``key``; tell whether it is within what is allowed."""
        now = self._clock()
        with self._lock:
            left, seen = self._left.pop(key, (float(self._burst), now))
            left = min(float(self._burst), left + (now - seen) * self._rate)
            allowed = left >= 1
            self._left[key] = (left - 1 if allowed else left, now)
            if len(self._left) > self._keys:
                self._left.popitem(last=False)
            return allowed
