"""How the server and the API of a connection depart from the standard: what the connection says, and how it is used."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import requests

from airflow_oauth_provider.connection.extra import Extra
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2 import expressions
from airflow_oauth_provider.oauth2.client import BEARER_TYPES, PLACEABLE, STANDARD_CODES, Dialect, ErrorMark
from airflow_oauth_provider.oauth2.expressions import BadPatternError, Search, compile_pattern

#: What stands for "nothing" in a field of which empty means "not set".
NOTHING = "none"

# Client authentication and credentials have keys of their own, which hide their values.
_RESERVED_HEADERS = frozenset({"authorization", "content-type", "content-length", "dpop", "host"})
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Printable ASCII: RFC 6750 section 2.1 allows less, but access tokens are opaque.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
#: Bytes of a body in which ``expired_pattern`` is looked for.
_LOOKED_AT = 64 * 1024


@dataclass(frozen=True, slots=True)
class BearerUsage:
    """How an API takes access tokens (RFC 6750 section 2), and how it turns them down.

    :param header_name: the header field that carries the token.
    :param header_prefix: the word before it; empty: none.
    :param in_query: the query parameter that carries it instead; empty: a header does.
    :param expired_statuses: statuses that mean "expired".
    :param expired_pattern: for statuses other than 401: what finds it in the body; None: anything.
    """

    header_name: str = "Authorization"
    header_prefix: str = "Bearer"
    in_query: str = ""
    expired_statuses: frozenset[int] = frozenset({401})
    expired_pattern: Search | None = None

    def put(self, request: Any, token: str) -> None:
        """Put ``token`` on ``request`` (anything with ``headers`` and ``url``), in place of an earlier one."""
        if self.in_query:
            request.url = self._with_query(str(request.url), token)
        else:
            request.headers.update(self.headers(token))

    def take_off(self, request: Any) -> None:
        """Take the token off ``request``."""
        if self.in_query:
            request.url = self._with_query(str(request.url), None)
        else:
            request.headers.pop(self.header_name, None)

    def token_of(self, request: Any) -> str | None:
        """Return the token that ``request`` carries; None where it carries none of ours."""
        if self.in_query:
            return dict(parse_qsl(urlsplit(str(request.url)).query)).get(self.in_query)
        sent = str(request.headers.get(self.header_name, ""))
        start = f"{self.header_prefix} " if self.header_prefix else ""
        return sent.removeprefix(start) or None if sent.startswith(start) else None

    def headers(self, token: str) -> dict[str, str]:
        """Return the header fields for clients other than ``requests``; empty where the query carries the token.

        :raises ConfigurationError: no header can carry the token. HTTP clients would quote it in their own error.
        """
        if self.in_query:
            return {}
        token = token.strip()
        if not _HEADER_SAFE.fullmatch(token):
            raise ConfigurationError(
                "the access token has a line break, a blank or another character that no header can carry: see what "
                "was entered as 'access_token', or what is in the store."
            )
        return {self.header_name: f"{self.header_prefix} {token}" if self.header_prefix else token}

    def mask_with(self, mask: Callable[[str], None]) -> Callable[[str], None]:
        """Return a function that masks a token as ``mask`` does, in the form too in which it stands in a query."""

        def mask_both(token: str) -> None:
            mask(token)
            mask(quote(token, safe=""))

        return mask_both if self.in_query else mask

    def means_expired(self, response: requests.Response) -> bool:
        """Tell whether ``response`` says that the token has expired; reads its body only where that decides."""
        if response.status_code not in self.expired_statuses:
            return False
        if response.status_code == 401 or self.expired_pattern is None:
            return True
        return self.expired_pattern(response.content[:_LOOKED_AT].decode(errors="replace")) is not None

    def _with_query(self, url: str, token: str | None) -> str:
        parts = urlsplit(url)
        own = f"{quote(self.in_query, safe='')}="
        # The rest of the query stays as it is, byte by byte: it may be signed.
        kept = [part for part in parts.query.split("&") if part and not part.startswith(own)]
        added = [] if token is None else [own + quote(token, safe="")]
        return urlunsplit(parts._replace(query="&".join(kept + added)))


def read_dialect(extra: Extra) -> Dialect:
    """Return the server's dialect.

    :raises ConfigurationError: names the key, its value, and what would be right.
    """
    return Dialect(
        request_format=extra.get("request_format"),
        parameters=extra.get("extra_params") or {},
        parameter_names=extra.get("param_names") or {},
        headers=_headers(extra),
        paths=_paths(extra),
        milliseconds=extra.get("expires_in_unit") == "milliseconds",
        default_expires_in=extra.get("default_expires_in"),
        accepted_types=_accepted_types(extra),
        error_codes=_error_codes(extra),
        error_mark=_error_mark(extra),
        scope_separator=_separator(extra),
    )


def read_bearer_usage(extra: Extra) -> BearerUsage:
    """Return how the API takes access tokens.

    :raises ConfigurationError: names the key, its value, and what would be right.
    """
    name: str = extra.get("header_name")
    if not _FIELD_NAME.fullmatch(name):
        raise extra.error("header_name", "has to be the name of a header field, such as X-Api-Key")
    prefix = extra.get("header_prefix")
    if prefix is None:
        prefix = "Bearer" if name.lower() == "authorization" else ""
    elif not prefix.isascii() or not prefix.isprintable():
        raise extra.error("header_prefix", "has to be a word of printable ASCII characters, or none")
    pattern = extra.get("expired_pattern")
    return BearerUsage(
        header_name=name,
        header_prefix="" if prefix.lower() == NOTHING else prefix,
        in_query=extra.get("in_query") or "",
        expired_statuses=_statuses(extra),
        expired_pattern=None if pattern is None else _pattern(extra, "expired_pattern", pattern),
    )


def _headers(extra: Extra) -> dict[str, str]:
    headers: dict[str, str] = extra.get("extra_headers") or {}
    for name, value in headers.items():
        if not _FIELD_NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise extra.error("extra_headers", f"has a header field {name!r} in it that cannot be sent")
        if name.lower() in _RESERVED_HEADERS:
            raise extra.error("extra_headers", f"has {name!r} in it, which follows from other keys (auth_method …)")
    return headers


def _paths(extra: Extra) -> dict[str, str]:
    paths: dict[str, str] = extra.get("response_map") or {}
    for name, path in paths.items():
        if name not in PLACEABLE:
            raise extra.error("response_map", f"has {name!r} in it; the names are {', '.join(PLACEABLE)}")
        _check_path(extra, "response_map", path, f" for {name!r}")
    return paths


def _check_path(extra: Extra, key: str, path: str, where: str = "") -> None:
    try:
        expressions.check_path(path)
    except expressions.BadPathError as error:
        raise extra.error(key, f"has a path{where} that {error}") from None


def _accepted_types(extra: Extra) -> tuple[str, ...]:
    types = extra.get("accepted_types")
    if types:
        return tuple(types)
    says_how = any(extra.get(key) is not None for key in ("header_prefix", "in_query")) or extra.is_set("header_name")
    return () if says_how else BEARER_TYPES


def _error_codes(extra: Extra) -> dict[str, str]:
    codes: dict[str, str] = extra.get("error_map") or {}
    for own, standard in codes.items():
        if standard not in STANDARD_CODES:
            raise extra.error("error_map", f"maps {own!r} to no standard code; these are {', '.join(STANDARD_CODES)}")
    return codes


def _error_mark(extra: Extra) -> ErrorMark | None:
    mark = extra.get("error_in_200")
    if mark is None:
        return None
    path, pattern = mark.get("path"), mark.get("pattern")
    if set(mark) != {"path", "pattern"} or not isinstance(path, str) or not isinstance(pattern, str):
        raise extra.error("error_in_200", 'has to be an object such as {"path": "$.ok", "pattern": "^false$"}')
    _check_path(extra, "error_in_200", path)
    _pattern(extra, "error_in_200", pattern)
    return ErrorMark(path, pattern)


def _separator(extra: Extra) -> str:
    separator: str = extra.get("scope_separator") or " "
    if len(separator) != 1 or separator.isalnum():
        raise extra.error("scope_separator", "has to be one character that is no letter and no digit")
    return separator


def _statuses(extra: Extra) -> frozenset[int]:
    given = extra.get("expired_statuses")
    if not given:
        return frozenset({401})
    if not all(str(status).isdigit() and 200 <= int(status) <= 499 for status in given):
        raise extra.error("expired_statuses", "has to be a list of statuses from 200 to 499, such as 401, 403")
    statuses = frozenset(int(status) for status in given)
    if min(statuses) < 400 and not extra.get("expired_pattern"):
        raise extra.error("expired_statuses", "names a success, so that expired_pattern has to say what tells it apart")
    return statuses


def _pattern(extra: Extra, key: str, pattern: str) -> Search:
    try:
        return compile_pattern(pattern)
    except BadPatternError as error:
        raise extra.error(key, str(error)) from None
