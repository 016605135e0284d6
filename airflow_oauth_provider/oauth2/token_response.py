"""A token response as a value (RFC 6749 section 5.1): how it is read, how much is kept; and error responses (5.2)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.oauth2 import errors, expressions
from airflow_oauth_provider.oauth2.client import Dialect
from airflow_oauth_provider.oauth2.dpop import TOKEN_TYPE
from airflow_oauth_provider.oauth2.redaction import redact, show_url
from airflow_oauth_provider.oauth2.response_body import (
    Body,
    check_object,
    decode_text,
    make_error,
    open_texts,
    read_body,
    read_members,
)
from airflow_oauth_provider.oauth2.times import LONGEST, parse_date, parse_lifetime, read_server_time, read_wait
from airflow_oauth_provider.oauth2.transport import HttpResponse

log = logging.getLogger(__name__)

#: Members under which vendors say how long a refresh token lives.
REFRESH_LIFETIME_MEMBERS = ("refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_expires_in")

_OWN_MEMBERS = frozenset({"access_token", "token_type", "expires_in", "refresh_token", "scope"})
_ERROR_MEMBERS = frozenset({"error", "error_description"})
# What may stand in a header: RFC 6750 section 2.1 allows less, but access tokens are opaque.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_NO_LETTERS = re.compile("[^a-z]+")
_STANDARD = Dialect()
#: Characters, as JSON, of all members together. The smallest place is a secret in Azure Key Vault, which takes 25,600
#: bytes; the tokens, and what else a record has, need the rest.
MAX_OTHERS = 16_384


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful response of a token endpoint.

    :param access_token: the access token, opaque.
    :param token_type: as answered; ``Bearer`` where the response has none.
    :param expires_in: lifetime of the access token in seconds; None where the response does not say.
    :param refresh_token: the refresh token that replaces the one spent; None means: keep the old one (section 6).
    :param scope: as answered; None means: as requested (section 5.1).
    :param refresh_expires_in: lifetime of the refresh token in seconds; None where the response does not say.
    :param others: every other member, kept as it came, as far as there is room.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    refresh_expires_in: float | None = None
    others: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_token_response(
    response: HttpResponse, secrets: Iterable[str | None] = (), dialect: Dialect = _STANDARD
) -> TokenResponse:
    """Return the token in ``response``, or raise what it is instead.

    :param response: what the token endpoint sent.
    :param secrets: what was sent to it and must not come back in an error text.
    :param dialect: how the server departs from the RFC.
    :raises ServerFailure: for 429 and 5xx.
    :raises ErrorResponse: for an OAuth error, whatever the status, 200 included.
    :raises UnexpectedResponse: for anything else.
    """
    known = [secret for secret in secrets if secret]
    _check_served(response, known, dialect)
    _check_not_redirected(response)
    marked = _find_mark_in_text(response, dialect)
    if marked:
        raise _oauth_error(response, {"error": marked}, known, dialect)
    body = read_body(response)
    values = _read_values(body, dialect)
    token = values.get("access_token")
    token = token.strip() if isinstance(token, str) else token
    is_error = not 200 <= response.status < 300 or _is_marked(body, dialect)
    if not is_error and isinstance(token, str) and token:
        return _token(response, token, body.members, values, dialect)
    if _code(values):
        raise _oauth_error(response, values, known, dialect)
    if not values:
        check_object(response, body)
    place, elsewhere = _token_elsewhere(open_texts(body.document))
    what = _what_is_missing(response, values) or _no_token(body.members, known, dialect, place)
    refresh_token = _opaque(values.get("refresh_token")) or elsewhere
    raise make_error(response, what, refresh_token=refresh_token, is_whole=True)


def parse_error_response(response: HttpResponse, secrets: Iterable[str | None] = ()) -> errors.OAuth2ProtocolError:
    """Return what a response means that is no success; for endpoints beside the token endpoint."""
    known = [secret for secret in secrets if secret]
    try:
        _check_served(response, known)
        _check_not_redirected(response)
        values = read_members(response)
    except (errors.ServerFailure, errors.UnexpectedResponse) as failure:
        return failure
    if _code(values):
        return _oauth_error(response, values, known, _STANDARD)
    what = _what_is_missing(response, values) or "the response says neither what was done nor what is wrong"
    return make_error(response, what)


def _check_served(response: HttpResponse, secrets: list[str], dialect: Dialect = _STANDARD) -> None:
    """Raise what a 429 or 5xx means: later. What the server says of it may be what a person has to know."""
    if response.status != 429 and response.status < 500:
        return
    what = "the server cannot serve the request for now"
    try:
        values = _read_values(read_body(response), dialect)
    except errors.UnexpectedResponse:
        values = {}
    if _code(values):
        what = f"{what}, and says {_describe_error(values, secrets)}"
    raise _passing(response, what)


def _passing(response: HttpResponse, what: str) -> errors.OAuth2ProtocolError:
    return make_error(response, what, errors.ServerFailure, retry_after=read_wait(response.status, response.headers))


def _check_not_redirected(response: HttpResponse) -> None:
    if 300 <= response.status < 400:
        target = response.headers.get("location", "")
        where = f" to {show_url(target)}" if "://" in target else ""
        what = f"the server redirects{where}, and credentials do not follow: enter the address itself"
        raise make_error(response, what)


def _find_mark_in_text(response: HttpResponse, dialect: Dialect) -> str | None:
    mark = dialect.error_mark
    if mark is None or mark.path != "$":
        return None
    return expressions.compile_pattern(mark.pattern)(decode_text(response))


def _is_marked(body: Body, dialect: Dialect) -> bool:
    """Tell whether the response bears the mark of an error inside a success."""
    mark = dialect.error_mark
    if mark is None or mark.path == "$":
        return False
    value = _find(mark.path, body)
    return expressions.compile_pattern(mark.pattern)(value if isinstance(value, str) else json.dumps(value)) is not None


def _find(path: str, body: Body) -> Any:
    """Return the value at ``path`` in what was sent, else in the object that stood in an array, or in a JSON text."""
    value = expressions.find(path, body.document)
    if value is None and body.document is not body.members:
        value = expressions.find(path, body.members)
    return expressions.find(path, open_texts(body.document)) if value is None else value


def _read_values(body: Body, dialect: Dialect) -> dict[str, Any]:
    """Return the members, and what stands where the connection says. Some servers also send standard errors."""
    found = {name: _find(path, body) for name, path in dialect.paths.items()}
    placed = {name: value for name, value in found.items() if value is not None or name not in _ERROR_MEMBERS}
    return {**body.members, **placed}


def _what_is_missing(response: HttpResponse, values: dict[str, Any]) -> str:
    """Return what is wrong with a response; empty for a success that is only not the one that was expected."""
    if "access_token" in values and not isinstance(values["access_token"], str | None):
        return "the member access_token is not a string"
    if 200 <= response.status < 300:
        return ""
    if isinstance(values.get("error"), dict | list):
        return "its member error is no code: say under 'response_map' where the code stands"
    return "the response is no OAuth error: it has no member error"


def _token_elsewhere(value: Any, path: str = "$") -> tuple[str, str | None]:
    """Return where an access token stands below the top, or under another name, and the refresh token beside it.

    What is found is not used as a token. Only a refresh token beside it must not be lost.

    :return: an empty place where there is none.
    """
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        parts = [
            (f"{path}.{name}" if name.isidentifier() else f"{path}[{name!r}]", part) for name, part in value.items()
        ]
        names = [_NO_LETTERS.sub("", name.lower()) for name in value]
        tokens = {name: part for name, part in zip(names, parts, strict=True) if _opaque(part[1])}
        if "accesstoken" in tokens:
            return tokens["accesstoken"][0], _opaque(tokens.get("refreshtoken", ("", None))[1])
    elif isinstance(value, list):
        parts = ((f"{path}[{number}]", part) for number, part in enumerate(value))
    for below, part in parts:
        if (found := _token_elsewhere(part, below))[0]:
            return found
    return "", None


def _no_token(members: dict[str, Any], secrets: list[str], dialect: Dialect, elsewhere: str) -> str:
    """Name what came instead of a token, by its names only: any of the values may be a secret."""
    place = dialect.paths.get("access_token")
    names = redact(", ".join(list(members)[:10]), secrets, limit=150) or "nothing"
    if elsewhere:
        hint = f"A token stands at {redact(elsewhere, secrets, limit=150)}: say so under 'response_map'"
    else:
        hint = "If the token stands elsewhere, say where under 'response_map'"
    return f"the response has no access_token{f' at {place}' if place else ''}. It has: {names}. {hint}"


def _token(
    response: HttpResponse, token: str, members: dict[str, Any], values: dict[str, Any], dialect: Dialect
) -> TokenResponse:
    refresh_token = _opaque(values.get("refresh_token"))
    if refresh_token is None and values.get("refresh_token"):
        log.warning("%s answered with a refresh token that is no text, which cannot be kept", response.endpoint)
    token_type = (_text(values.get("token_type")) or "").strip() or "Bearer"
    problem = ""
    kind = errors.UnexpectedResponse
    if not _HEADER_SAFE.fullmatch(token):
        problem = "the access token has characters that cannot stand in a header"
    elif bound_wrongly := _bound_wrongly(token_type, dialect):
        problem, kind = bound_wrongly, errors.WrongTokenType
    elif not dialect.accepts(token_type):
        problem = (
            f"the access token is of the type {redact(token_type, limit=40)!r}, which is not to be used without "
            "knowing how (RFC 6749 section 7.1): enter the type under 'accepted_types' if the API takes it as bearer "
            "token, or say by 'header_prefix' how it is sent"
        )
    if problem:
        raise make_error(response, problem, kind, refresh_token=refresh_token, is_whole=True)
    scope = values.get("scope")
    if isinstance(scope, list):
        scope = " ".join(str(part) for part in scope)
    tokens = [token, refresh_token] if refresh_token else [token]
    return TokenResponse(
        access_token=token,
        token_type=token_type,
        expires_in=_lifetime(response, values, dialect),
        refresh_token=refresh_token,
        scope=dialect.read_scope(scope) if isinstance(scope, str) and scope else None,
        refresh_expires_in=_refresh_lifetime(values, dialect),
        others=_trim_members(_others(members, dialect, tokens), response.endpoint, tokens),
    )


def _bound_wrongly(token_type: str, dialect: Dialect) -> str:
    """Return what is wrong where only one side means a token that is bound to a key (RFC 9449 section 5)."""
    wanted, got = dialect.accepted_types == (TOKEN_TYPE,), token_type.lower() == TOKEN_TYPE.lower()
    if wanted and not got:
        return (
            f"the access token is of the type {redact(token_type, limit=40)!r} and not bound to the key of the "
            "connection, so it is not used: allow this client DPoP at the server, or take 'dpop_private_key' away"
        )
    if got and not wanted:
        return (
            "the access token is bound to a key (DPoP), which the connection does not have: enter it under "
            "'dpop_private_key', or have the server issue bearer tokens to this client"
        )
    return ""


def _lifetime(response: HttpResponse, values: dict[str, Any], dialect: Dialect) -> float | None:
    now = read_server_time(response.headers)
    named = parse_lifetime(values.get("expires_in"), milliseconds=dialect.milliseconds)
    if named is None and isinstance(values.get("expires_in"), str):
        named = parse_date(values["expires_in"], server_now=now)
    elif named is not None and named >= LONGEST and not dialect.milliseconds:  # no lifetime, but a moment
        named = parse_date(values["expires_in"], server_now=now) or named
    if named is None or "expires_at" in dialect.paths:
        dated = parse_date(values.get("expires_at"), server_now=now)
        named = named if dated is None else dated
    return dialect.default_expires_in if named is None else named


def _refresh_lifetime(values: dict[str, Any], dialect: Dialect) -> float | None:
    names = ("refresh_expires_in",) if "refresh_expires_in" in dialect.paths else REFRESH_LIFETIME_MEMBERS
    lifetimes = (parse_lifetime(values.get(name), milliseconds=dialect.milliseconds) for name in names)
    return next((seconds for seconds in lifetimes if seconds is not None), None)


def _others(members: dict[str, Any], dialect: Dialect, tokens: list[str]) -> dict[str, Any]:
    """Return what else was answered. Tokens stand in members of any name where a connection says so: not again here."""
    others = {name: value for name, value in members.items() if name not in _OWN_MEMBERS}
    return _without(open_texts(others), tokens) if dialect.paths else others


def _without(value: Any, tokens: list[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(member, tokens) for name, member in value.items() if member not in tokens}
    if isinstance(value, list):
        return [_without(member, tokens) for member in value if member not in tokens]
    return value


def _code(values: dict[str, Any]) -> str | None:
    code = values.get("error")
    return str(code).strip() or None if isinstance(code, str | int) and not isinstance(code, bool) and code else None


def _oauth_error(
    response: HttpResponse, values: dict[str, Any], secrets: list[str], dialect: Dialect
) -> errors.OAuth2ProtocolError:
    said = _code(values) or ""
    standard = dialect.error_codes.get(said, said)
    what = _describe_error(values, secrets)
    if standard in errors.PASSING_CODES:
        return _passing(response, what)
    kind = errors.ERROR_CLASSES.get(standard, errors.ErrorResponse)
    code, description = redact(said, secrets, limit=60), _describe_details(values, secrets)
    return make_error(response, what, kind, code=code, description=description)


def _describe_error(values: dict[str, Any], secrets: list[str]) -> str:
    code, details = redact(_code(values) or "", secrets, limit=60), _describe_details(values, secrets)
    return f"{code} ({details})" if details else code


def _describe_details(values: dict[str, Any], secrets: list[str]) -> str:
    parts = [_text(values.get(name)) for name in ("error_subtype", "suberror", "error_description")]
    return redact(": ".join(part for part in parts if part), secrets)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _opaque(value: object) -> str | None:
    """Return a token as text. Some servers write it as a number, of which an integer has kept its digits."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _trim_members(members: dict[str, Any], endpoint: str, tokens: list[str]) -> dict[str, Any]:
    """Return ``members`` without the largest of them, where they are too much to be kept.

    What is named a token goes last. That something is gone is said in the log: by then the refresh token is spent, and
    an error would lose the new one.

    :param members: of a response, without access and refresh token.
    :param endpoint: who answered.
    :param tokens: what must not show in the log.
    """
    sizes = {name: len(json.dumps({name: value})) for name, value in members.items()}
    excess = sum(sizes.values()) - MAX_OTHERS
    dropped: list[str] = []
    for name in sorted(sizes, key=lambda name: ("token" in name.lower(), -sizes[name])):
        if excess <= 0:
            break
        dropped.append(name)
        excess -= sizes[name]
    if dropped:
        names = redact(", ".join(dropped), tokens, limit=200)
        log.warning("%s answered with more than can be kept beside the tokens. Not kept: %s", endpoint, names)
    return {name: value for name, value in members.items() if name not in dropped}
