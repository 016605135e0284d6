"""Read from a connection how its server and its API depart from the standard."""

from __future__ import annotations

import re

from airflow_oauth_provider.connection.bearer_usage import BearerUsage
from airflow_oauth_provider.connection.extra import Extra
from airflow_oauth_provider.oauth2 import json_paths
from airflow_oauth_provider.oauth2.dialect import BEARER_TYPES, PLACEABLE, STANDARD_CODES, Dialect, ErrorMark
from airflow_oauth_provider.oauth2.patterns import BadPatternError, Search, compile_pattern

#: What stands for "nothing" in a field of which empty means "not set".
NOTHING = "none"

# Client authentication and credentials have keys of their own, which hide their values.
_RESERVED_HEADERS = frozenset({"authorization", "content-type", "content-length", "dpop", "host"})
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


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
        try:
            json_paths.check(path)
        except json_paths.BadPathError as error:
            raise extra.error("response_map", f"has a path for {name!r} that {error}") from None
    return paths


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
    try:
        json_paths.check(path)
    except json_paths.BadPathError as error:
        raise extra.error("error_in_200", f"has a path that {error}") from None
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
