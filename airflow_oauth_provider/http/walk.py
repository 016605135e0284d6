"""The way through all pages of an API, which ends; and what was fetched on it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from requests import Response

from airflow_oauth_provider.http.errors import show_target
from airflow_oauth_provider.http.page import Page, PageRequest
from airflow_oauth_provider.http.pagination import Paginator


class Walk:
    """One way through the pages: knows what was asked for, and refuses to ask for ever.

    :param request: the request that the first page's is made of.
    :param records_path: where the records of a page are, for paginators that need not know.
    """

    def __init__(self, paginator: Paginator, request: PageRequest, records_path: str | None = None) -> None:
        self.paginator = paginator
        self._base = request
        self._records_path = records_path
        self._seen = self._seen_before = 0
        self._empty = 0
        self._last_records: list[Any] | None = None
        self.first = paginator.first(request)
        self._asked = {_digest(self.first)}

    def following(self, page: Page) -> PageRequest | None:
        """Return the request of the page after ``page``; None when that was the last.

        :raises ApiError: when the walk would never end: the page was asked for already, the API gives the same page
            for another number, or names a next page for ever although none has records.
        """
        request = self.paginator.following(self._base, page, self._seen)
        if request is None or not self.paginator.is_watched:
            return request
        self._seen_before = self._seen
        records = self.paginator.counted(page)
        if records is None:
            path = self._records_path
            self._refuse_empty_pages(page, page.seems_empty() if path is None else not page.records(path))
        else:
            self._refuse_empty_pages(page, not records)
            self._refuse_same_page(page, records)
            self._seen += len(records)
        self._refuse_same_request(page, request)
        return request

    def plan(self, page: Page) -> Iterator[PageRequest]:
        """Return what the requests after ``page``, the last one that came, will probably be."""
        return self.paginator.plan(self._base, page, self._seen_before)

    def ends_with(self, status: int | None, number: int) -> bool:
        """Tell whether the status of the answer for page ``number`` means that there is no such page."""
        return number > 1 and status in self.paginator.end_statuses

    def _refuse_same_request(self, page: Page, request: PageRequest) -> None:
        if "://" in (request.endpoint or ""):
            self._asked.add(_digest(self._base.to_url(page.response.url)))
        digest = _digest(request)
        if digest in self._asked:
            raise page.error("names a next page that was fetched already: it would never end")
        self._asked.add(digest)

    def _refuse_same_page(self, page: Page, records: list[Any]) -> None:
        # Numbers and offsets grow for ever, even where the API pays no heed to them.
        if records and records == self._last_records:
            raise page.error(
                "is the same as the one before: the API seems to know the parameter by another name, and it would "
                "never end"
            )
        self._last_records = records

    def _refuse_empty_pages(self, page: Page, is_empty: bool) -> None:
        self._empty = self._empty + 1 if is_empty else 0
        if self._empty > self.paginator.max_empty_pages:
            raise page.error(
                f"is the {self._empty}th in a row without records, and names a next one: it would never end. If the "
                "API does that, raise max_empty_pages of the paginator"
            )


def _digest(request: PageRequest) -> bytes:
    parts = _encode([request.endpoint, request.data, request.request_kwargs])
    return hashlib.blake2b(parts.encode(), digest_size=16).digest()


# Made once: json.dumps with arguments makes an encoder for each call.
_encode = json.JSONEncoder(sort_keys=True, default=repr).encode


class Progress:
    """Counts pages, and logs the counts at intervals that grow: after 10 seconds, then 20, 40, and then each minute."""

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.pages = 0
        self._records: int | None = None
        self._bytes = 0
        self._log, self._clock = log, clock
        self._first = ""
        self._began = clock()
        self._interval = 10.0
        self._next = self._began + self._interval

    def page(self, response: Response, size: int, records: int | None = None) -> None:
        """Count a page: its bytes, and its records where they are counted."""
        if not self.pages:
            method = response.request.method if response.request is not None else ""
            self._first = f"{method} {show_target(response.url or '')} answered {response.status_code}".strip()
        self.pages += 1
        self._bytes += size
        if records is not None:
            self._records = (self._records or 0) + records
        now = self._clock()
        if now >= self._next:
            self._log.info("So far: %s", self)
            self._interval = min(60.0, 2 * self._interval)
            self._next = now + self._interval

    def done(self) -> None:
        """Log one line of the run: method, URL without secrets, status, and how much came in what time."""
        if self.pages:
            self._log.info("%s: %s", self._first, self)

    def __str__(self) -> str:
        seconds = max(self._clock() - self._began, 0.001)
        records = "" if self._records is None else f"{self._records:,} records, "
        pages = "1 page" if self.pages == 1 else f"{self.pages:,} pages"
        speed = f"{self.pages / seconds:,.1f} pages/s, {_show_size(self._bytes / seconds)}/s"
        return f"{pages}, {records}{_show_size(self._bytes)} in {seconds:,.1f} s ({speed})"


def _show_size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
