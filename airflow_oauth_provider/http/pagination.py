"""Ready paginators: how an API tells where its next page is.

Give one to ``OAuth2HttpOperator(pagination=…)``. Each stops when the data ends, and raises
:class:`~airflow_oauth_provider.exceptions.ApiError` when it would ask for the same page again for ever. A *path* is a
JSONPath (``$.meta.next``) or names with dots between them (``meta.next``).
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import IO, Any, ClassVar, Literal
from urllib.parse import urljoin

from requests import Response
from requests.utils import parse_header_links

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.http.errors import show_target
from airflow_oauth_provider.http.record_path import check_path, lookup

Where = Literal["data", "json"]

_NOTHING = (None, "", False)


@dataclass(frozen=True)
class PageRequest:
    """What ``OAuth2Hook.run`` is called with for one page.

    :param request_kwargs: passed on to ``requests.Request``.
    """

    endpoint: str | None = None
    data: Any = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    extra_options: Mapping[str, Any] = field(default_factory=dict)
    request_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def with_parameters(self, parameters: Mapping[str, Any], where: Where) -> PageRequest:
        """Return the request with more members in its ``data`` or its JSON body."""
        if where == "json":
            body = {**(self.request_kwargs.get("json") or {}), **parameters}
            return replace(self, request_kwargs={**self.request_kwargs, "json": body})
        if self.data and not isinstance(self.data, Mapping):
            raise ValueError("the pages' parameters cannot be added to data that is a text: give a dictionary")
        return replace(self, data={**(self.data or {}), **parameters})

    def to_url(self, url: str) -> PageRequest:
        """Return the request for a whole URL, which brings its own query."""
        kept = {name: value for name, value in self.request_kwargs.items() if name != "params"}
        return replace(self, endpoint=url, data={}, request_kwargs=kept)


class Page:
    """An answer, and its place in the row of pages."""

    def __init__(self, response: Response, number: int = 1) -> None:
        self.response = response
        #: 1 for the first page.
        self.number = number

    @cached_property
    def document(self) -> Any:
        """The decoded JSON body.

        :raises ApiError: when it is none.
        """
        try:
            return self.response.json()
        except ValueError:
            raise ApiError(
                f"Page {self.number} ({show_target(self.response.url or '')}) is not JSON but "
                f"{self.response.headers.get('Content-Type', 'of no stated type')}",
                status_code=self.response.status_code,
            ) from None

    @property
    def size(self) -> int:
        """The bytes of the body; 0 for one that is left to the caller to read."""
        if self._is_spooled:
            position = self.response.raw.tell()
            size: int = self.response.raw.seek(0, io.SEEK_END)
            self.response.raw.seek(position)
            return size
        return len(self.response.content or b"") if self._is_loaded else 0

    def source(self) -> bytes | IO[bytes]:
        """Return the body, or a file that has it."""
        file: IO[bytes] = self.response.raw  # type: ignore[assignment]
        return file if self._is_spooled else self.response.content or b""

    def close(self) -> None:
        """Free what a body that is not in memory takes."""
        if self._is_spooled:
            self.response.close()
            self.response.raw.close()

    @property
    def _is_loaded(self) -> bool:
        return getattr(self.response, "_content", False) is not False

    @property
    def _is_spooled(self) -> bool:
        return isinstance(self.response.raw, tempfile.SpooledTemporaryFile)

    def records(self, path: str | None) -> list[Any]:
        """Return the records at ``path``; without one, the page itself if it is a list.

        :raises ApiError: when there is no list.
        """
        found = self.document if path is None else lookup(path, self.document)
        if found is None and path is not None:
            return []
        if not isinstance(found, list):
            place = "is no list of records: say under which path they are" if path is None else f"has no list at {path}"
            raise ApiError(f"Page {self.number} {place}", status_code=self.response.status_code)
        return found


@dataclass(frozen=True)
class Paginator(ABC):
    """How the next page is found."""

    kind: ClassVar[str]
    #: Whether the body has to be looked at.
    reads_body: ClassVar[bool] = True

    def first(self, request: PageRequest) -> PageRequest:
        """Return the request of the first page."""
        return request

    @abstractmethod
    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:
        """Return the request of the page after ``page``; None when that was the last.

        :param request: the first page's request.
        :param page: the page that just came.
        :param seen: how many records came before it.
        """

    def count(self, page: Page) -> int:  # noqa: ARG002 - most kinds need no count
        """Return how many records ``page`` has, where that matters for the next."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Return the paginator as plain values; see :func:`paginator_from_dict`."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class LinkHeader(Paginator):
    """The next page's URL is in the header ``Link`` (RFC 8288), as with GitHub.

    :param rel: the relation to follow.
    """

    kind: ClassVar[str] = "link_header"
    reads_body: ClassVar[bool] = False

    rel: str = "next"

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        header = page.response.headers.get("Link")
        for link in parse_header_links(header) if header else ():
            relations = {name.lower(): value for name, value in link.items()}.get("rel", "").lower().split()
            if self.rel.lower() in relations and link.get("url"):
                return request.to_url(urljoin(page.response.url, link["url"]))
        return None


@dataclass(frozen=True)
class NextUrl(Paginator):
    """The next page's URL is in the body, as with Microsoft Graph (``NextUrl("@odata.nextLink")``).

    :param path: where; absent, null or empty on the last page. A URL without a host counts from the page's own.
    """

    kind: ClassVar[str] = "next_url"

    path: str

    def __post_init__(self) -> None:
        check_path("path", self.path)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        url = lookup(self.path, page.document)
        if url in _NOTHING:
            return None
        if not isinstance(url, str):
            raise ApiError(f"Page {page.number} has no URL at {self.path} but {type(url).__name__}")
        return request.to_url(urljoin(page.response.url, url))


@dataclass(frozen=True)
class Cursor(Paginator):
    """The body has a cursor, which the next request sends back, as with Stripe, Slack and HubSpot.

    :param path: where the cursor is; absent, null or empty on the last page.
    :param parameter: the name under which it is sent.
    :param where: ``data`` (the query of a GET, the form of a POST) or ``json`` (the JSON body in ``request_kwargs``).
    :param more: path of something that is true as long as there are more pages, for APIs whose last page has a
        cursor as well.
    """

    kind: ClassVar[str] = "cursor"

    path: str
    parameter: str
    where: Where = "data"
    more: str | None = None

    def __post_init__(self) -> None:
        check_path("path", self.path)
        check_path("more", self.more)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        if self.more is not None and not lookup(self.more, page.document):
            return None
        cursor = lookup(self.path, page.document)
        if cursor in _NOTHING:
            return None
        if isinstance(cursor, list | dict):
            raise ApiError(f"Page {page.number} has no cursor at {self.path} but a JSON {type(cursor).__name__}")
        return request.with_parameters({self.parameter: cursor}, self.where)


@dataclass(frozen=True)
class PageNumber(Paginator):
    """Pages are asked for by number, as with Xero. The first page without records is the end.

    :param records: path of the records; None when the body itself is the list.
    :param parameter: the name of the number.
    :param start: the first page's number.
    :param pages: path of the number of pages, where the API tells it: saves asking for a page that is not there.
    :param size_parameter: the name of the page's size, where one is asked for.
    :param size: how many records a page should have.
    :param where: see :class:`Cursor`.
    """

    kind: ClassVar[str] = "page_number"

    records: str | None = None
    parameter: str = "page"
    start: int = 1
    pages: str | None = None
    size_parameter: str | None = None
    size: int | None = None
    where: Where = "data"

    def __post_init__(self) -> None:
        check_path("records", self.records)
        check_path("pages", self.pages)

    def first(self, request: PageRequest) -> PageRequest:
        """See :meth:`Paginator.first`."""
        return request.with_parameters(self._parameters(self.start), self.where)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        if not page.records(self.records):
            return None
        if self.pages is not None and _is_reached(page.number, lookup(self.pages, page.document)):
            return None
        return request.with_parameters(self._parameters(self.start + page.number), self.where)

    def count(self, page: Page) -> int:
        """See :meth:`Paginator.count`."""
        return len(page.records(self.records))

    def _parameters(self, number: int) -> dict[str, Any]:
        size = {self.size_parameter: self.size} if self.size_parameter and self.size else {}
        return {self.parameter: number, **size}


@dataclass(frozen=True)
class OffsetLimit(Paginator):
    """Records are asked for by their place, as with QuickBooks. The first page without records is the end.

    The offset grows by what came, not by what was asked for: an API that caps the limit loses nothing.

    :param limit: how many records a page should have.
    :param records: path of the records; None when the body itself is the list.
    :param total: path of the number of all records, where the API tells it: saves one request.
    :param start: the first record's place.
    :param offset_parameter: the name of the place.
    :param limit_parameter: the name of the limit.
    :param where: see :class:`Cursor`.
    """

    kind: ClassVar[str] = "offset_limit"

    limit: int
    records: str | None = None
    total: str | None = None
    start: int = 0
    offset_parameter: str = "offset"
    limit_parameter: str = "limit"
    where: Where = "data"

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}, but has to be 1 at least")
        check_path("records", self.records)
        check_path("total", self.total)

    def first(self, request: PageRequest) -> PageRequest:
        """See :meth:`Paginator.first`."""
        return request.with_parameters(self._parameters(self.start), self.where)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:
        """See :meth:`Paginator.following`."""
        came = len(page.records(self.records))
        if came == 0:
            return None
        if self.total is not None and _is_reached(seen + came, lookup(self.total, page.document)):
            return None
        return request.with_parameters(self._parameters(self.start + seen + came), self.where)

    def count(self, page: Page) -> int:
        """See :meth:`Paginator.count`."""
        return len(page.records(self.records))

    def _parameters(self, offset: int) -> dict[str, Any]:
        return {self.offset_parameter: offset, self.limit_parameter: self.limit}


class Walk:
    """One way through all the pages.

    :param paginator: how the next page is found.
    :param request: the request that the first page's is made of.
    """

    def __init__(self, paginator: Paginator, request: PageRequest) -> None:
        self._paginator = paginator
        self._base = request
        self._asked: set[bytes] = set()
        self._seen = 0
        self._last_body = b""
        self.first = paginator.first(request)
        self._asked.add(_digest(self.first))

    def following(self, page: Page) -> PageRequest | None:
        """Return the request of the page after ``page``; None when that was the last.

        :raises ApiError: when it was asked for already, or the API gives the same page for another number.
        """
        request = self._paginator.following(self._base, page, self._seen)
        if request is None:
            return None
        came = self._paginator.count(page)
        if came:
            self._refuse_same_page(page)
        self._seen += came
        digest = _digest(request)
        if digest in self._asked:
            raise ApiError(
                f"After page {page.number} the API names a next page that was fetched already: it would never end"
            )
        self._asked.add(digest)
        return request

    def _refuse_same_page(self, page: Page) -> None:
        # Numbers and offsets grow for ever, even where the API pays no heed to them.
        body = hashlib.blake2b(page.response.content, digest_size=16).digest()
        if body == self._last_body:
            raise ApiError(
                f"Page {page.number} is the same as the one before: the API seems to know the parameter by "
                "another name, and it would never end"
            )
        self._last_body = body


def paginator_from_dict(values: Mapping[str, Any]) -> Paginator:
    """Return what :meth:`Paginator.to_dict` was called on."""
    members = {name: value for name, value in values.items() if name != "kind"}
    return _KINDS[values["kind"]](**members)


def _is_reached(count: int, total: Any) -> bool:
    try:
        return total is not None and count >= int(total)
    except (TypeError, ValueError):
        return False


def _digest(request: PageRequest) -> bytes:
    parts = json.dumps([request.endpoint, request.data, request.request_kwargs], sort_keys=True, default=repr)
    return hashlib.blake2b(parts.encode(), digest_size=16).digest()


def _kinds() -> Iterator[type[Paginator]]:
    yield from (LinkHeader, NextUrl, Cursor, PageNumber, OffsetLimit)


_KINDS: dict[str, type[Paginator]] = {kind.kind: kind for kind in _kinds()}
