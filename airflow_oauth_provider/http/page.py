"""One page of an API: the request for it, and the answer that came.

A *path* is a JSONPath (``$.meta.next``) or names with dots between them (``meta.next``).
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, Any, Literal

from requests import Response

from airflow_oauth_provider.exceptions import ApiError, ConfigurationError
from airflow_oauth_provider.http import json_text
from airflow_oauth_provider.http.body import is_loaded
from airflow_oauth_provider.http.errors import show_target
from airflow_oauth_provider.http.record_path import PathError, collect, describe, is_missing, look_up

Where = Literal["data", "json"]

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
    """What ``OAuth2Hook.run`` is called with for one page; ``request_kwargs`` are passed on to ``requests.Request``."""

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
        is_json = where == "json"
        given = (self.request_kwargs.get("json") if is_json else self.data) or {}
        if not isinstance(given, Mapping):
            place = "request_kwargs['json']" if is_json else "data"
            raise ConfigurationError(
                f"The paginator adds its parameters to {place}, which is {type(given).__name__}: give a dictionary."
            )
        merged = {**given, **parameters}
        if is_json:
            return replace(self, request_kwargs={**self.request_kwargs, "json": merged})
        return replace(self, data=merged)

    def to_dict(self) -> dict[str, Any]:
        """Return the request as plain values: arguments of ``OAuth2HttpTrigger``."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}

    def to_url(self, url: str) -> PageRequest:
        """Return the request for a whole URL. The URL brings its own query; a body goes along."""
        kept = {name: value for name, value in self.request_kwargs.items() if name != "params"}
        data = {} if self.method.upper() in _WITHOUT_BODY else self.data
        return replace(self, endpoint=url, data=data, request_kwargs=kept)


class Page:
    """An answer, and its place in the row of pages."""

    def __init__(self, response: Response, number: int = 1) -> None:
        self.response = response
        #: 1 for the first page.
        self.number = number
        self._records: dict[str | None, list[Any]] = {}

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
        place = f"Page {self.number} ({show_target(self.response.url or '')})"
        return ApiError(f"{place} {text}", status_code=self.response.status_code)

    def look_up(self, path: str) -> Any:
        """Return the one value at ``path``, None where there is none.

        :raises ApiError: when the path cannot be followed.
        """
        return self._apply(look_up, path)

    def hint(self, path: str) -> Any:
        """Return the value at ``path`` if there is one: without it the walk takes one request more."""
        try:
            return look_up(path, self.document)
        except PathError:
            return None

    def lacks(self, path: str) -> bool:
        """Tell whether ``path`` leads nowhere, and should not."""
        return bool(self._apply(is_missing, path))

    def _apply(self, function: Callable[[str, Any], Any], path: str) -> Any:
        try:
            return function(path, self.document)
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
        return len(self.response.content or b"") if is_loaded(self.response) else 0

    def source(self) -> bytes | IO[bytes]:
        """Return the body, or a file that has it."""
        file: IO[bytes] = self.response.raw  # type: ignore[assignment]
        return file if self._is_spooled else self.response.content or b""

    def close(self) -> None:
        """Free what a body that is not in memory takes."""
        if self._is_spooled:
            self.response.close()
            self.response.raw.close()

    @cached_property
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
