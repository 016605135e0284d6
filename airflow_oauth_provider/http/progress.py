"""What was fetched: told now and then while a long run lasts, and once at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from requests import Response

from airflow_oauth_provider.http.errors import show_target


class Progress:
    """Counts pages, and logs the counts at intervals that grow: after 10 seconds, then 20, 40, and then each minute.

    :param log: where to: a logger, Python's or Airflow's.
    :param clock: elapsed seconds.
    """

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.pages = 0
        self._begin = ""
        self.records: int | None = None
        self.bytes = 0
        self._log = log
        self._clock = clock
        self._began = clock()
        self._interval = 10.0
        self._next = self._began + self._interval

    def page(self, response: Response, size: int, records: int | None = None) -> None:
        """Count a page.

        :param response: the response that it came with.
        :param size: its bytes.
        :param records: its records, where they are counted.
        """
        if not self.pages:
            method = response.request.method if response.request is not None else ""
            self._begin = f"{method} {show_target(response.url or '')} answered {response.status_code}".strip()
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
        """Log one line of the run: method, URL without secrets, status, and how much came in what time."""
        if self.pages:
            self._log.info("%s: %s", self._begin, self)

    def __str__(self) -> str:
        seconds = max(self._clock() - self._began, 0.001)
        records = "" if self.records is None else f"{self.records:,} records, "
        pages = "1 page" if self.pages == 1 else f"{self.pages:,} pages"
        return (
            f"{pages}, {records}{_size(self.bytes)} in {seconds:,.1f} s "
            f"({self.pages / seconds:,.1f} pages/s, {_size(self.bytes / seconds)}/s)"
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
