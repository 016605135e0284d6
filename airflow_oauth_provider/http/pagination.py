"""Ready paginators: how an API tells where its next page is.

Give one to ``OAuth2HttpOperator(pagination=…)``. Each stops when the data ends; :mod:`airflow_oauth_provider.http.walk`
watches that no walk goes on for ever.
"""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar
from urllib.parse import urljoin

from requests import Response

from airflow_oauth_provider.connection.address import decode_field
from airflow_oauth_provider.http import json_text
from airflow_oauth_provider.http.page import Page, PageRequest, Where
from airflow_oauth_provider.http.record_path import check_path, describe

_NOTHING = (None, "", False)
#: Texts by which APIs say no.
_NO = frozenset({"false", "0", "no", ""})


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
    #: The fields that are paths.
    paths: ClassVar[tuple[str, ...]] = ()

    end_statuses: tuple[int, ...] = field(default=(), kw_only=True)
    max_empty_pages: int = field(default=100, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "end_statuses", tuple(self.end_statuses))
        for name in self.paths:
            check_path(name, getattr(self, name))

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
        """Yield what the requests after ``page`` will probably be; :meth:`following` has the last word."""
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

    kind = "link_header"
    reads_body = False

    rel: str = "next"

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        try:
            targets = set(self._targets(page))
        except LinkHeaderError as error:
            raise page.error(f"has a header Link that cannot be read: {error}") from None
        if len(targets) > 1:
            raise page.error(f"has {len(targets)} different links with the relation {self.rel!r}")
        return request.to_url(targets.pop()) if targets else None

    def _targets(self, page: Page) -> Iterator[str]:
        base = page.response.url
        for link in parse_links(page.response.headers.get("Link") or ""):
            # A link with an anchor elsewhere does not start from this page (RFC 8288 section 3.2).
            starts_here = urljoin(base, link.parameters.get("anchor", "")) == base
            if link.has_relation(self.rel) and starts_here and not _says_no(link.parameters.get("results", "true")):
                yield _absolute(decode_field(link.target), page)


@dataclass(frozen=True)
class NextUrl(Paginator):
    """The next page's URL is in the body, as with Microsoft Graph (``NextUrl("@odata.nextLink")``).

    :param path: where; absent, null or empty on the last page. A URL without a host counts from the page's own.
    """

    kind = "next_url"
    paths = ("path",)

    path: str

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        url = page.look_up(self.path)
        if url in _NOTHING:
            return None
        if not isinstance(url, str):
            raise page.error(f"has no URL at {self.path} but {describe(url)}")
        return request.to_url(_absolute(url, page))


@dataclass(frozen=True)
class Cursor(Paginator):
    """The body has a cursor, which the next request sends back, as with Stripe, Slack and HubSpot.

    :param path: where the cursor is; absent, null or empty on the last page.
    :param parameter: the name under which it is sent.
    :param where: ``data`` (the query of a GET, the form of a POST) or ``json`` (the JSON body in ``request_kwargs``).
    :param more: path of something that is true as long as there are more pages, for APIs whose last page has a
        cursor as well. With a ``?`` at its end it may be missing, which means no.
    """

    kind = "cursor"
    paths = ("path", "more")

    path: str
    parameter: str
    where: Where = "data"
    more: str | None = None

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


class _CountingPaginator(Paginator):
    """Asks for a page by the number of what comes before it."""

    knows_ahead = True

    records: str | None

    def first(self, request: PageRequest) -> PageRequest:
        """See :meth:`Paginator.first`."""
        return self._request(request, 0)

    def counted(self, page: Page) -> list[Any] | None:
        """See :meth:`Paginator.counted`."""
        return page.records(self.records)

    @abstractmethod
    def _request(self, request: PageRequest, before: int) -> PageRequest:
        """Return the request of the page that has ``before`` pages or records before it."""

    @staticmethod
    def _count(page: Page, path: str | None) -> int | None:
        return None if path is None else _as_count(page.hint(path))


@dataclass(frozen=True)
class PageNumber(_CountingPaginator):
    """Pages are asked for by number, as with Xero. Where nothing tells how many, the first without records is the end.

    :param records: path of the records; None when the body itself is the list.
    :param parameter: the name of the number.
    :param start: the first page's number.
    :param pages: path of the number of pages, where the API tells it: saves asking for a page that is not there, and
        goes on after one that is empty.
    :param size_parameter: the name of the page's size, where one is asked for.
    :param size: how many records a page should have.
    :param where: see :class:`Cursor`.
    """

    kind = "page_number"
    paths = ("records", "pages")

    records: str | None = None
    parameter: str = "page"
    start: int = 1
    pages: str | None = None
    size_parameter: str | None = None
    size: int | None = None
    where: Where = "data"

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        count = self._count(page, self.pages)
        # Where the API tells how many there are, one without records in between is not the end.
        is_last = not page.records(self.records) if count is None else page.number >= count
        return None if is_last else self._request(request, page.number)

    def plan(self, request: PageRequest, page: Page, seen: int) -> Iterator[PageRequest]:  # noqa: ARG002
        """See :meth:`Paginator.plan`."""
        count = self._count(page, self.pages)
        ahead = itertools.count(page.number) if count is None else range(page.number, count)
        return (self._request(request, before) for before in ahead)

    def _request(self, request: PageRequest, before: int) -> PageRequest:
        size = {self.size_parameter: self.size} if self.size_parameter and self.size else {}
        return request.with_parameters({self.parameter: self.start + before, **size}, self.where)


@dataclass(frozen=True)
class OffsetLimit(_CountingPaginator):
    """Records are asked for by their place, as with QuickBooks. The first page without records is the end.

    The offset grows by what came, not by what was asked for: an API that caps the limit loses nothing.

    :param limit: how many records a page should have.
    :param records: path of the records; None when the body itself is the list.
    :param total: path of the number of all records, where the API tells it: saves one request, and fails where fewer
        came.
    :param start: the first record's place.
    :param offset_parameter: the name of the place.
    :param limit_parameter: the name of the limit.
    :param where: see :class:`Cursor`.
    """

    kind = "offset_limit"
    paths = ("records", "total")

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

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:
        """See :meth:`Paginator.following`."""
        came = len(page.records(self.records))
        total = self._count(page, self.total)
        if came == 0:
            if total is not None and seen < total:
                raise page.error(
                    f"has no records, but {self.total} says that there are {total}, and {seen} came. If that number is "
                    "not exact, leave 'total' out"
                )
            return None
        return None if total is not None and seen + came >= total else self._request(request, seen + came)

    def plan(self, request: PageRequest, page: Page, seen: int) -> Iterator[PageRequest]:
        """See :meth:`Paginator.plan`."""
        came = len(page.records(self.records))
        total = self._count(page, self.total)
        ahead = itertools.count(seen + came, came) if total is None else range(seen + came, total, came)
        return (self._request(request, before) for before in ahead)

    def _request(self, request: PageRequest, before: int) -> PageRequest:
        parameters = {self.offset_parameter: self.start + before, self.limit_parameter: self.limit}
        return request.with_parameters(parameters, self.where)


@dataclass(frozen=True)
class FunctionPaginator(Paginator):
    """A function tells the next request, and has to find the end by itself.

    :param following_page: returns the request after an answer; None when that was the last.
    """

    kind = "function"
    reads_body = False
    is_watched = False  # a function may ask for the same again, as with HttpOperator

    following_page: Callable[[Response], PageRequest | None]

    def following(self, request: PageRequest, page: Page, seen: int) -> PageRequest | None:  # noqa: ARG002
        """See :meth:`Paginator.following`."""
        return self.following_page(page.response)


def paginator_from_dict(values: Mapping[str, Any]) -> Paginator:
    """Return what :meth:`Paginator.to_dict` was called on."""
    members = {name: value for name, value in values.items() if name != "kind"}
    return _KINDS[values["kind"]](**members)


def _absolute(url: str, page: Page) -> str:
    """Return the next page's address; one without a host counts from the page's own."""
    absolute = urljoin(page.response.url, url.strip())
    if not absolute.lower().startswith(("http://", "https://")):
        raise page.error("names a next page whose address is no http or https URL")
    return absolute


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


_KINDS: dict[str, type[Paginator]] = {
    kind.kind: kind for kind in (LinkHeader, NextUrl, Cursor, PageNumber, OffsetLimit)
}


# -- the header Link (RFC 8288 section 3, parsed as in its appendix B.2) ----------------------------------------------

_TARGET = re.compile(r"<([^<>]*)>")
_NAME = re.compile(r"[^\s=;,\"<>]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\s;,\"<>]*")
#: A name, or a URI (RFC 8288 section 3.3).
_RELATION = re.compile(r"[a-z0-9._-]+|[a-z][a-z0-9+.-]*:[!-~]*")
_BLANKS = re.compile(r"[ \t]*")


@dataclass(frozen=True, slots=True)
class Link:
    """A URL, perhaps a relative one, and its parameters by name in lower case; "" where one has no value."""

    target: str
    parameters: dict[str, str]

    def has_relation(self, relation: str) -> bool:
        """Tell whether ``relation`` is one of the link's, in any case, also between single quotation marks.

        :raises LinkHeaderError: when it seems to be meant, but stands in what is no relation, such as "next,prev".
        """
        relation, own = relation.lower(), self.parameters.get("rel", "").strip("'").lower().split()
        if relation in own:
            return True
        if any(relation in other and not _RELATION.fullmatch(other) for other in own):
            raise LinkHeaderError(f"a link has {relation!r} within a relation that is none")
        return False


class LinkHeaderError(ValueError):
    """No Link header; the message says where, and quotes nothing of it."""


def parse_links(header: str) -> list[Link]:
    """Return the links of a header, whose fields may have been joined by commas; raises LinkHeaderError."""
    return list(_LinkReader(header).links())


class _LinkReader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def links(self) -> Iterator[Link]:
        while True:
            while self._accept(","):
                pass  # an empty member of the list (RFC 9110 section 5.6.1)
            if not self._peek():
                return
            yield Link(self._expect(_TARGET, "a URL in angle brackets").strip(), self._parameters())
            if self._peek() and not self._accept(","):
                raise self._error("a comma or a semicolon")

    def _parameters(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._accept(";"):
            if self._peek() in ("", ";", ","):
                continue
            name = self._expect(_NAME, "a parameter's name").lower()
            found.setdefault(name, self._value() if self._accept("=") else "")
        if "rel*" in found and "rel" not in found:
            raise LinkHeaderError("a link has 'rel*', which is no relation, and has no 'rel'")
        return found

    def _value(self) -> str:
        if self._peek() == '"':
            return re.sub(r"\\(.)", r"\1", self._expect(_QUOTED, "a quotation mark at the end of a value"))
        return self._expect(_BARE, "a value")

    def _peek(self) -> str:
        """Go past blanks, and return the next character; empty at the end."""
        match = _BLANKS.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _accept(self, character: str) -> bool:
        is_next = self._peek() == character
        self._at += is_next
        return is_next

    def _expect(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._error(what)
        self._at = match.end()
        return match[match.lastindex or 0]

    def _error(self, what: str) -> LinkHeaderError:
        return LinkHeaderError(f"at its character {self._at + 1} {what} is missing")
