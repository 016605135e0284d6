"""Read the body of a response: JSON, or the form that some servers send instead (RFC 6749 section 5.1)."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.transport import HttpResponse


def say(response: HttpResponse, what: str) -> str:
    """Return an error's text: who answered, with which status, and what is wrong."""
    return f"{response.endpoint} answered {response.status}: {what}"


def read_members(response: HttpResponse) -> dict[str, Any]:
    """Return the members of the object that ``response`` holds.

    :raises UnexpectedResponse: when it holds none.
    """
    try:
        text = response.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise errors.UnexpectedResponse(say(response, "the body is not UTF-8 text"), status=response.status) from None
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" or _looks_like_form(text):
        return dict(parse_qsl(text))
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.UnexpectedResponse(
            say(response, _what_it_is_instead(text, kind)), status=response.status
        ) from None
    if not isinstance(members, dict):
        raise errors.UnexpectedResponse(
            say(response, f"the body is a JSON {_JSON_NAMES.get(type(members), 'value')}, not an object"),
            status=response.status,
            is_whole=True,
        )
    return _whole(members) if _HALF.search(text) else members


def _whole(members: dict[str, Any]) -> dict[str, Any]:
    """Replace halves of characters, which JSON can name but no other text can hold: stores, logs, forms."""
    text = json.dumps(members, ensure_ascii=False)
    whole: dict[str, Any] = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return whole


#: An escape of a character's half (RFC 8259 section 7); most of them have the other half beside them.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
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
        return (
            "the body is a web page, where a JSON object was expected: is this the token endpoint, or does a proxy "
            "stand in between?"
        )
    if start.startswith("{"):
        return "the body is truncated or malformed JSON"
    return "the body is not JSON"
