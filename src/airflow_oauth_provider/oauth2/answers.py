"""Tell what a token endpoint's answer is: a token, an OAuth error, or something else (RFC 6749 section 5)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.http import HttpAnswer
from airflow_oauth_provider.oauth2.scrub import scrub
from airflow_oauth_provider.oauth2.tokens import TokenAnswer

#: Longest lifetime that is believed, in seconds (ten years); beyond it lies a mistake such as milliseconds.
MAX_LIFETIME = 10 * 365 * 86400.0
#: Members under which vendors say how long a refresh token lives, in seconds.
REFRESH_LIFETIME_MEMBERS = ("refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_expires_in")

_OWN_MEMBERS = frozenset({"access_token", "token_type", "expires_in", "refresh_token", "scope"})
# What may stand in a header: RFC 6750 section 2.1 allows less, but access tokens are opaque.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


def parse_token_answer(answer: HttpAnswer, secrets: Iterable[str | None] = ()) -> TokenAnswer:
    """Return the token in ``answer``, or raise what it is instead.

    :param answer: what the token endpoint sent.
    :param secrets: what was sent to it and must not come back in an error text.
    :raises ServerFailure: for 429 and 5xx.
    :raises ErrorAnswer: for an OAuth error, whatever the status, 200 included.
    :raises MalformedAnswer: for anything else.
    """
    known = [secret for secret in secrets if secret]
    if answer.status == 429 or answer.status >= 500:
        raise errors.ServerFailure(
            _say(answer, "the server cannot serve the request for now"),
            status=answer.status,
            retry_after=parse_retry_after(answer.headers.get("retry-after")),
        )
    members = _members(answer)
    token = members.get("access_token")
    if 200 <= answer.status < 300 and isinstance(token, str) and token:
        return _token(answer, token, members)
    if isinstance(members.get("error"), str) and members["error"]:
        raise _oauth_error(answer, members, known)
    raise errors.MalformedAnswer(
        _say(answer, _what_is_missing(answer, members)),
        status=answer.status,
        refresh_token=_text(members.get("refresh_token")),
    )


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` field asks for (RFC 9110 section 10.2.3), or None."""
    if not value:
        return None
    if value.strip().isdigit():
        return min(float(value.strip()), MAX_LIFETIME)
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def parse_lifetime(value: object) -> float | None:
    """Return a lifetime in seconds, or None where ``value`` does not name one.

    :param value: the ``expires_in`` member: a number, or, from servers that err, a string. Zero and less mean
        "unknown" as well: a token that is dead on arrival cannot have been meant.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(seconds) or seconds <= 0:
        return None
    return min(seconds, MAX_LIFETIME)


def _members(answer: HttpAnswer) -> dict[str, Any]:
    try:
        text = answer.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise errors.MalformedAnswer(_say(answer, "the body is not UTF-8 text"), status=answer.status) from None
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" or _looks_like_form(text):
        return dict(parse_qsl(text))
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.MalformedAnswer(_say(answer, _what_it_is_instead(text, kind)), status=answer.status) from None
    if not isinstance(members, dict):
        raise errors.MalformedAnswer(
            _say(answer, f"the body is a JSON {_JSON_NAMES.get(type(members), 'value')}, not an object"),
            status=answer.status,
        )
    return members


_JSON_NAMES: dict[type, str] = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def _looks_like_form(text: str) -> bool:
    return text.startswith("access_token=") and "\n" not in text


def _what_it_is_instead(text: str, kind: str) -> str:
    start = text.lstrip()[:64].lower()
    if not start:
        return "the body is empty, where a JSON object was expected"
    if "html" in kind or start.startswith(("<!doctype", "<html", "<?xml")):
        return "the body is a web page, where a JSON object was expected: is this the token endpoint?"
    if start.startswith("{"):
        return "the body is truncated or malformed JSON"
    return "the body is not JSON"


def _what_is_missing(answer: HttpAnswer, members: dict[str, Any]) -> str:
    if 300 <= answer.status < 400:
        return "the server redirects, and credentials do not follow: enter the address that it points to"
    if "access_token" in members and not isinstance(members["access_token"], str):
        return "the member access_token is not a string"
    if 200 <= answer.status < 300:
        return "the answer has no access_token"
    return "the answer is no OAuth error: it has no member error"


def _token(answer: HttpAnswer, token: str, members: dict[str, Any]) -> TokenAnswer:
    refresh_token = _text(members.get("refresh_token"))
    if not _HEADER_SAFE.fullmatch(token):
        raise errors.MalformedAnswer(
            _say(answer, "the access token has characters that cannot stand in a header"),
            status=answer.status,
            refresh_token=refresh_token,
        )
    lifetimes = (parse_lifetime(members.get(name)) for name in REFRESH_LIFETIME_MEMBERS)
    scope = members.get("scope")
    if isinstance(scope, list):
        scope = " ".join(str(part) for part in scope)
    return TokenAnswer(
        access_token=token,
        token_type=_text(members.get("token_type")) or "Bearer",
        expires_in=parse_lifetime(members.get("expires_in")),
        refresh_token=refresh_token,
        scope=_text(scope),
        refresh_expires_in=next((seconds for seconds in lifetimes if seconds is not None), None),
        others={name: value for name, value in members.items() if name not in _OWN_MEMBERS},
    )


def _oauth_error(answer: HttpAnswer, members: dict[str, Any], secrets: list[str]) -> errors.OAuth2ProtocolError:
    code = scrub(members["error"], secrets, limit=60)
    parts = [_text(members.get(name)) for name in ("error_subtype", "suberror", "error_description")]
    description = scrub(": ".join(part for part in parts if part), secrets)
    message = _say(answer, f"{code} ({description})" if description else code)
    if members["error"] in errors.PASSING_CODES:
        retry_after = parse_retry_after(answer.headers.get("retry-after"))
        return errors.ServerFailure(message, status=answer.status, retry_after=retry_after)
    kind = errors.ERROR_CLASSES.get(members["error"], errors.ErrorAnswer)
    return kind(message, code=code, description=description, status=answer.status)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _say(answer: HttpAnswer, what: str) -> str:
    return f"{answer.endpoint} answered {answer.status}: {what}"
