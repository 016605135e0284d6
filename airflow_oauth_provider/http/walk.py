"""The way through all pages of an API, which ends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from airflow_oauth_provider.http.page import Page, PageRequest
from airflow_oauth_provider.http.pagination import Paginator


class Walk:
    """One way through the pages: knows what was asked for, and refuses to ask for ever.

    :param paginator: how the next page is found.
    :param request: the request that the first page's is made of.
    :param records_path: where the records of a page are, for paginators that need not know.
    """

    def __init__(self, paginator: Paginator, request: PageRequest, records_path: str | None = None) -> None:
        self.paginator = paginator
        self._base = request
        self._records_path = records_path
        self._asked: set[bytes] = set()
        self._seen = self._seen_before = 0
        self._empty = 0
        self._last_records: list[Any] | None = None
        self.first = paginator.first(request)
        self._asked.add(_digest(self.first))

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
