"""How far a long run is, told now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Progress:
    """Counts pages, and logs the counts at intervals that grow: after 10 seconds, then 20, 40, and then each minute.

    :param log: where to: a logger, Python's or Airflow's.
    :param clock: elapsed seconds.
    """

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.pages = 0
        self.records: int | None = None
        self.bytes = 0
        self._log = log
        self._clock = clock
        self._began = clock()
        self._interval = 10.0
        self._next = self._began + self._interval

    def page(self, size: int, records: int | None = None) -> None:
        """Count a page.

        :param size: its bytes.
        :param records: its records, where they are counted.
        """
        self.pages += 1
        self.bytes += size
        if records is not None:
            self.records = (self.records or 0) + records
        now = self._clock()
        if now >= self._next:
            self._log.info("So far: %s", self)
            self._interval = min(60.0, 2 * self._interval)
            self._next = now + self._interval

    def done(self) -> None:
        """Log the sum of a run of several pages."""
        if self.pages > 1:
            self._log.info("Fetched %s", self)

    def __str__(self) -> str:
        seconds = max(self._clock() - self._began, 0.001)
        records = "" if self.records is None else f"{self.records:,} records, "
        return (
            f"{self.pages:,} pages, {records}{_size(self.bytes)} in {seconds:,.1f} s "
            f"({self.pages / seconds:,.1f} pages/s, {_size(self.bytes / seconds)}/s)"
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
