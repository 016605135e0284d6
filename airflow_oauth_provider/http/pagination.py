"""Ready paginators: how an API tells where its next page is.

Give one to ``OAuth2HttpOperator(pagination=…)``. Each stops when the data ends, and raises
:class:`~airflow_oauth_provider.exceptions.ApiError` when it would ask for the same page again for ever. A *path* is a
JSONPath (``$.meta.next``) or names with dots between them (``meta.next``).
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import IO, Any, ClassVar, Literal
from urllib.parse import urljoin

from requests import Response

from airflow_oauth_provider.exceptions import ApiError, ConfigurationError
from airflow_oauth_provider.http import json_text
from airflow_oauth_provider.http.errors import show_target
from airflow_oauth_provider.http.link_header import LinkHeaderError, parse_links
from airflow_oauth_provider.http.record_path import PathError, check_path, collect, describe, is_missing, look_up

Where = Literal["data", "json"]

_NOTHING = (None, "", False)
#: Texts by which APIs say no.
_NO = frozenset({"false", "0", "no", ""})
#: Methods whose ``data`` is the query of the URL.
_WITHOUT_BODY = frozenset({"GET", "HEAD"})
#: Statuses of answers that have no body (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5).
_NO_BODY = frozenset({204, 205, 304})
#: Bytes of a body up to which a page may turn out to hold no records although nobody said where they are.
_SMALL = 4096
#: Plain values that such a page may have beside a null where its records would be.
_FEW = 2


@dataclass(frozen=True)
class PageRequest:
    """What ``OAuth2Hook.run`` is called with for one page.

    :param request_kwargs: passed on to ``requests.Request``.
    :param method: the HTTP method.
    """

    endpoint: str | None = None
    data: Any = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    extra_options: Mapping[str, Any] = field(default_factory=dict)
    request_kwargs: Mapping[str, Any] = field(default_factory=dict)
    method: str = "GET"

    def with_parameters(self, parameters: Mapping[str, Any], where: Where) -> PageRequest:
        """Return the request with more members in its ``data`` or its JSON body.

        :raises ConfigurationError: when these are no dictionary.
        """
        if where == "json":
            body = self.request_kwargs.get("json") or {}
            _require_mapping(body, "request_kwargs['json']")
            return replace(self, request_kwargs={**self.request_kwargs, "json": {**body, **parameters}})
        data = self.data or {}
        _require_mapping(data, "data")
        return replace(self, data={**data, **parameters})

    def to_url(self, url: str) -> PageRequest:
        """Return the request for a whole URL. The URL brings its own query; a body goes along."""
        kept = {name: value for name, value in self.request_kwargs.items() if name != "params"}
        data = {} if self.method.upper() in _WITHOUT_BODY else self.data
        return replace(self, endpoint=url, data=data, request_kwargs=kept)


def _require_mapping(value: Any, name: str) -> None:
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"The paginator adds its parameters to {name}, which is {type(value).__name__}: give a dictionary."
        )


class Page:
    """An answer, and its place in the row of pages."""

    def __init__(self, response: Response, number: int = 1) -> None:
        self.response = response
        #: 1 for the first page.
        self.number = number
        self._records: dict[str | None, list[Any]] = {}

    @property
    def place(self) -> str:
        """The page's number and address, for messages."""
        return f"Page {self.number} ({show_target(self.response.url or '')})"

    @cached_property
    def is_blank(self) -> bool:
        """Whether the answer has no body, by its status or in fact."""
        return self.response.status_code in _NO_BODY or not (self.response.content or b"").strip()

    @cached_property
    def document(self) -> Any:
        """The decoded JSON body, with each number as it stands there; None for an answer without a body.

        :raises ApiError: when it is no JSON.
        """
        if self.is_blank:
            return None
        content_type = self.response.headers.get("Content-Type", "")
        charset = self.response.encoding if "charset" in content_type.lower() else None
        try:
            return json_text.decode(self.response.content, charset)
        except ValueError:
            raise self.error(f"is not JSON but {content_type or 'of no stated type'}") from None

    def error(self, text: str) -> ApiError:
        """Return the error that this page ``text``."""
        return ApiError(f"{self.place} {text}", status_code=self.response.status_code)

    def look_up(self, path: str) -> Any:
        """Return the one value at ``path``, None where there is none.

        :raises ApiError: when the path cannot be followed.
        """
        try:
            return look_up(path, self.document)
        except PathError as error:
            raise self.error(f"does not fit the path {path!r}: {error}") from None

    def hint(self, path: str) -> Any:
        """Return the value at ``path`` if there is one: without it the walk takes one request more."""
        try:
            return look_up(path, self.document)
        except PathError:
            return None

    def lacks(self, path: str) -> bool:
        """Tell whether ``path`` leads nowhere, and should not."""
        try:
            return is_missing(path, self.document)
        except PathError as error:
            raise self.error(f"does not fit the path {path!r}: {error}") from None

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

        :raises ApiError: when the path cannot be followed, or there is no list.
        """
        if path not in self._records:
            self._records[path] = [] if self.is_blank else self._collect(path)
        return self._records[path]

    def _collect(self, path: str | None) -> list[Any]:
        if path is not None:
            try:
                return collect(path, self.document)
            except PathError as error:
                raise self.error(f"has no list at {path}: {error}") from None
        if self.document is None:
            return []
        if not isinstance(self.document, list):
            raise self.error(f"is {describe(self.document)}, not a list of records: say under which path they are")
        return self.document

    def seems_empty(self) -> bool:
        """Tell whether the page is likely to hold no records, where nobody said where they are."""
        if self.size > _SMALL:
            return False
        if self._is_spooled:
            position = self.response.raw.tell()
            body: bytes = self.response.raw.read()
            self.response.raw.seek(position)
            return body.strip() in (b"", b"[]", b"{}", b"null")
        if self.is_blank:
            return True
        try:
            document = json_text.decode(self.response.content)
        except ValueError:
            return False
        return _holds_nothing(document)


@dataclass(frozen=True)
class Paginator(ABC):
    """How the next page is found.

    :param end_statuses: statuses of an answer that mean "there is no such page": after the first page such an answer
        is the end, and not an error. Some APIs answer 404 to the page after the last.
    :param max_empty_pages: how many pages without records may follow each other before the walk fails, where an API
        always names a next page.
    """

    kind: ClassVar[str]
    #: Whether the body has to be looked at.
    reads_body: ClassVar[bool] = True
    #: Whether :meth:`plan` knows requests ahead, so that pages can be fetched side by side.
    knows_ahead: ClassVar[bool] = False
    #: Whether the walk watches that it ends.
    is_watched: ClassVar[bool] = True

    end_statuses: tuple[int, ...] = field(default=(), kw_only=True)
    max_empty_pages: int = field(default=100, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "end_statuses", tuple(self.end_statuses))

    def first(self, request: PageRequest) -> PageRequest:
        """Return the request of the first page."""
        return request

    @abstractmethod
    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:
        """Return the request of the page after ``page``; None when that was the last.

        :param request: what the first page's request was made of.
        :param page: the page that just came.
        :param seen: how many records came before it.
        """

    def plan(self, request: PageRequest, page: Page, seen: int) -> Iterator[PageRequest]:  # noqa: ARG002
        """Yield what the requests after ``page`` will probably be. :meth:`following` has the last word.

        :param request: what the first page's request was made of.
        :param page: the page that just came.
        :param seen: how many records came before it.
        """
        return iter(())

    def counted(self, page: Page) -> list[Any] | None:  # noqa: ARG002 - most kinds need no count
        """Return the records of ``page`` where the next request depends on them; else None."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the paginator as plain values; see :func:`paginator_from_dict`."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class LinkHeader(Paginator):
    """The next page's URL is in the header ``Link`` (RFC 8288), as with GitHub.

    A link that also says ``results="false"``, as Sentry's last one, leads to no records and is the end.

    :param rel: the relation to follow.
    """

    kind: ClassVar[str] = "link_header"
    reads_body: ClassVar[bool] = False

    rel: str = "next"

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        targets = set(self._targets(page))
        if len(targets) > 1:
            raise page.error(f"has {len(targets)} different links with the relation {self.rel!r}")
        return request.to_url(targets.pop()) if targets else None

    def _targets(self, page: Page) -> Iterator[str]:
        base = page.response.url
        try:
            links = parse_links(page.response.headers.get("Link") or "")
        except LinkHeaderError as error:
            raise page.error(f"has a header Link that cannot be read: {error}") from None
        for link in links:
            # A link with an anchor elsewhere does not start from this page (RFC 8288 section 3.2).
            starts_here = urljoin(base, link.parameters.get("anchor", "")) == base
            if link.has_relation(self.rel) and starts_here and not _says_no(link.parameters.get("results", "true")):
                yield urljoin(base, link.target)


@dataclass(frozen=True)
class NextUrl(Paginator):
    """The next page's URL is in the body, as with Microsoft Graph (``NextUrl("@odata.nextLink")``).

    :param path: where; absent, null or empty on the last page. A URL without a host counts from the page's own.
    """

    kind: ClassVar[str] = "next_url"

    path: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_path("path", self.path)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        url = page.look_up(self.path)
        if url in _NOTHING:
            return None
        if not isinstance(url, str):
            raise page.error(f"has no URL at {self.path} but {describe(url)}")
        return request.to_url(urljoin(page.response.url, url))


@dataclass(frozen=True)
class Cursor(Paginator):
    """The body has a cursor, which the next request sends back, as with Stripe, Slack and HubSpot.

    :param path: where the cursor is; absent, null or empty on the last page.
    :param parameter: the name under which it is sent.
    :param where: ``data`` (the query of a GET, the form of a POST) or ``json`` (the JSON body in ``request_kwargs``).
    :param more: path of something that is true as long as there are more pages, for APIs whose last page has a
        cursor as well. With a ``?`` at its end it may be missing, which means no.
    """

    kind: ClassVar[str] = "cursor"

    path: str
    parameter: str
    where: Where = "data"
    more: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_path("path", self.path)
        check_path("more", self.more)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        cursor = page.look_up(self.path)
        if cursor in _NOTHING:
            if self.more is not None and not _says_no(page.look_up(self.more)):
                raise page.error(f"says at {self.more} that there is more, but has no cursor at {self.path}")
            return None
        if isinstance(cursor, list | dict | bool):
            raise page.error(f"has no cursor at {self.path} but {describe(cursor)}")
        if self.more is not None and not self._says_more(page, self.more):
            return None
        value = str(cursor) if isinstance(cursor, json_text.Number) else cursor
        return request.with_parameters({self.parameter: value}, self.where)

    @staticmethod
    def _says_more(page: Page, path: str) -> bool:
        if page.lacks(path):
            raise page.error(
                f"has a cursor, but nothing at {path}. If the API leaves that out on the last page, write '{path}?'"
            )
        return not _says_no(page.look_up(path))


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
    knows_ahead: ClassVar[bool] = True

    records: str | None = None
    parameter: str = "page"
    start: int = 1
    pages: str | None = None
    size_parameter: str | None = None
    size: int | None = None
    where: Where = "data"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_path("records", self.records)
        check_path("pages", self.pages)

    def first(self, request: PageRequest) -> PageRequest:
        """See :meth:`Paginator.first`."""
        return self._request(request, 0)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        if not page.records(self.records):
            return None
        count = self._count(page)
        return None if count is not None and page.number >= count else self._request(request, page.number)

    def plan(self, request: PageRequest, page: Page, seen: int) -> Iterator[PageRequest]:  # noqa: ARG002
        """See :meth:`Paginator.plan`."""
        count = self._count(page)
        ahead = itertools.count(page.number) if count is None else range(page.number, count)
        return (self._request(request, before) for before in ahead)

    def counted(self, page: Page) -> list[Any] | None:
        """See :meth:`Paginator.counted`."""
        return page.records(self.records)

    def _count(self, page: Page) -> int | None:
        return None if self.pages is None else _as_count(page.hint(self.pages))

    def _request(self, request: PageRequest, before: int) -> PageRequest:
        """Return the request of the page that has ``before`` others before it."""
        size = {self.size_parameter: self.size} if self.size_parameter and self.size else {}
        return request.with_parameters({self.parameter: self.start + before, **size}, self.where)


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
    knows_ahead: ClassVar[bool] = True

    limit: int
    records: str | None = None
    total: str | None = None
    start: int = 0
    offset_parameter: str = "offset"
    limit_parameter: str = "limit"
    where: Where = "data"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}, but has to be 1 at least")
        check_path("records", self.records)
        check_path("total", self.total)

    def first(self, request: PageRequest) -> PageRequest:
        """See :meth:`Paginator.first`."""
        return self._request(request, 0)

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:
        """See :meth:`Paginator.following`."""
        came = len(page.records(self.records))
        if came == 0:
            return None
        total = self._total(page)
        return None if total is not None and seen + came >= total else self._request(request, seen + came)

    def plan(self, request: PageRequest, page: Page, seen: int) -> Iterator[PageRequest]:
        """See :meth:`Paginator.plan`."""
        came = len(page.records(self.records))
        total = self._total(page)
        ahead = itertools.count(seen + came, came) if total is None else range(seen + came, total, came)
        return (self._request(request, before) for before in ahead)

    def counted(self, page: Page) -> list[Any] | None:
        """See :meth:`Paginator.counted`."""
        return page.records(self.records)

    def _total(self, page: Page) -> int | None:
        return None if self.total is None else _as_count(page.hint(self.total))

    def _request(self, request: PageRequest, before: int) -> PageRequest:
        """Return the request of the page that has ``before`` records before it."""
        parameters = {self.offset_parameter: self.start + before, self.limit_parameter: self.limit}
        return request.with_parameters(parameters, self.where)


@dataclass(frozen=True)
class FunctionPaginator(Paginator):
    """A function tells the next request, and has to find the end by itself.

    :param following_page: returns the request after an answer; None when that was the last.
    """

    kind: ClassVar[str] = "function"
    reads_body: ClassVar[bool] = False
    is_watched: ClassVar[bool] = False  # a function may ask for the same again, as with HttpOperator

    following_page: Callable[[Response], PageRequest | None]

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        return self.following_page(page.response)


class Walk:
    """One way through all the pages, which ends.

    :param paginator: how the next page is found.
    :param request: the request that the first page's is made of.
    :param records_path: where the records of a page are, for paginators that need not know.
    """

    def __init__(self, paginator: Paginator, request: PageRequest, records_path: str | None = None) -> None:
        self.paginator = paginator
        self._base = request
        self._records_path = records_path
        self._asked: set[bytes] = set()
        self._seen = 0
        self._empty = 0
        self._last_records: list[Any] | None = None
        self.first = paginator.first(request)
        self._asked.add(_digest(self.first))
        self._plan: Callable[[], Iterator[PageRequest]] = lambda: iter(())

    def following(self, page: Page) -> PageRequest | None:
        """Return the request of the page after ``page``; None when that was the last.

        :raises ApiError: when the walk would never end: the page was asked for already, the API gives the same page
            for another number, or names a next page for ever although none has records.
        """
        request = self.paginator.following(self._base, page, self._seen)
        if request is None or not self.paginator.is_watched:
            return request
        # Only where somebody asks: to plan costs more than to count.
        self._plan = partial(self.paginator.plan, self._base, page, self._seen)
        records = self.paginator.counted(page)
        if records is None:
            self._refuse_empty_pages(page)
        else:
            self._refuse_same_page(page, records)
            self._seen += len(records)
        self._refuse_same_request(page, request)
        return request

    def plan(self) -> Iterator[PageRequest]:
        """Return what the requests after the last page will probably be."""
        return self._plan()

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
        if records == self._last_records:
            raise page.error(
                "is the same as the one before: the API seems to know the parameter by another name, and it would "
                "never end"
            )
        self._last_records = records

    def _refuse_empty_pages(self, page: Page) -> None:
        path = self._records_path
        self._empty = self._empty + 1 if (page.seems_empty() if path is None else not page.records(path)) else 0
        if self._empty > self.paginator.max_empty_pages:
            raise page.error(
                f"is the {self._empty}th in a row without records, and names a next one: it would never end. If the "
                "API does that, raise max_empty_pages of the paginator"
            )


def paginator_from_dict(values: Mapping[str, Any]) -> Paginator:
    """Return what :meth:`Paginator.to_dict` was called on."""
    members = {name: value for name, value in values.items() if name != "kind"}
    return _KINDS[values["kind"]](**members)


def _holds_nothing(document: Any) -> bool:
    """Tell whether what could be records is empty: each list, at any depth of objects; without lists each null."""
    if not isinstance(document, dict):
        return document in ([], None)
    leaves = list(_leaves(document))
    lists = [leaf for leaf in leaves if isinstance(leaf, list)]
    if lists or not leaves:
        return not any(lists)
    # What is left beside nulls may be the next page's address, and a count.
    plain = [leaf for leaf in leaves if not isinstance(leaf, bool) and leaf not in (None, "", {})]
    return None in leaves and len(plain) <= _FEW


def _leaves(value: dict[str, Any]) -> Iterator[Any]:
    for member in value.values():
        if isinstance(member, dict) and member:
            yield from _leaves(member)
        else:
            yield member


def _says_no(value: Any) -> bool:
    return not value or (isinstance(value, str) and value.strip().lower() in _NO)


def _as_count(value: Any) -> int | None:
    """Return a number of pages or records; None for what is none, such as the -1 of APIs that do not know."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        count = int(value)
    except (ValueError, OverflowError):
        return None
    is_whole = not isinstance(value, float) or value == count
    return count if is_whole and count > 0 else None


def _digest(request: PageRequest) -> bytes:
    parts = json.dumps([request.endpoint, request.data, request.request_kwargs], sort_keys=True, default=repr)
    return hashlib.blake2b(parts.encode(), digest_size=16).digest()


_KINDS: dict[str, type[Paginator]] = {
    kind.kind: kind for kind in (LinkHeader, NextUrl, Cursor, PageNumber, OffsetLimit)
}
