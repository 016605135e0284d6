"""Read the body of a response: JSON, or the form that some servers send instead (RFC 6749 section 5.1).

A token that stands in the body is found, whatever else is wrong with it: by the time the body is read, the refresh
token is spent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.lenient_json import parse_broken_objects, parse_json
from airflow_oauth_provider.oauth2.transport import HttpResponse

_FORM_TYPE = "application/x-www-form-urlencoded"
_FORM = re.compile(r"[\w.%-]{1,100}=[^\s<>{}\"]*+")
#: Where a field of a form begins, for servers that put it on a line of its own, or behind a semicolon.
_FIELD_BREAK = re.compile(r"(?:;|[\r\n]{1,9})[ \t]{0,9}(?=[\w.%-]{1,100}=)")
#: What PHP puts before a response; other markup is a page, which may quote anything.
_WARNING = re.compile(r"<(?:br ?/?|b)>", re.IGNORECASE)
#: What may stand around a body, or around one within a JSON string.
_AROUND = "\ufeff\x00 \t\r\n"
_CHARSET = re.compile(r"""charset\s{0,9}=\s{0,9}["']?([\w.:-]{1,40})""", re.IGNORECASE)
#: Lists and texts within each other that an object is looked for in.
_MAX_WRAPPERS = 3
_JSON_NAMES: dict[type, str] = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


@dataclass(frozen=True, slots=True)
class Body:
    """What a response says.

    :param document: the JSON value, or the fields of the form, as they were sent.
    :param members: the members of the object that ``document`` is or holds.
    """

    document: Any = field(repr=False)
    members: dict[str, Any] = field(repr=False)


def say(response: HttpResponse, what: str) -> str:
    """Return an error's text: who answered, with which status, and what is wrong."""
    return f"{response.endpoint} answered {response.status}: {what}"


def read_members(response: HttpResponse) -> dict[str, Any]:
    """Return the members of the object that ``response`` holds.

    :raises UnexpectedResponse: when it holds none.
    """
    body = read_body(response)
    check_object(response, body)
    return body.members


def check_object(response: HttpResponse, body: Body) -> None:
    """Raise :class:`UnexpectedResponse` unless ``body`` has an object in it."""
    if not isinstance(body.document, dict) and not body.members:
        raise errors.UnexpectedResponse(
            say(response, f"the body is a JSON {_JSON_NAMES.get(type(body.document), 'value')}, not an object"),
            status=response.status,
            is_whole=True,
        )


def read_body(response: HttpResponse) -> Body:
    """Return what ``response`` says.

    The object may stand in an array, or as text in a JSON string. Of several in an array, the first counts that has an
    access token or an error.

    :raises UnexpectedResponse: when the body is neither JSON nor a form.
    """
    text = decode_text(response).strip(_AROUND)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = _read_text(text, kind)
    if found is None:
        raise errors.UnexpectedResponse(say(response, _name_content(text, kind)), status=response.status)
    return Body(*found)


def open_texts(value: Any, depth: int = 0) -> Any:
    """Return ``value`` with what the JSON texts in it hold in their place."""
    if isinstance(value, dict):
        return {name: open_texts(member, depth) for name, member in value.items()}
    if isinstance(value, list):
        return [open_texts(member, depth) for member in value]
    if depth < _MAX_WRAPPERS and isinstance(value, str) and value.strip(_AROUND).startswith(("{", "[")):
        try:
            return open_texts(parse_json(value.strip(_AROUND)), depth + 1)
        except ValueError:
            return value
    return value


def decode_text(response: HttpResponse) -> str:
    """Return the body as text; bytes that no charset explains are replaced, since tokens are ASCII.

    UTF-8 comes first whatever the response claims, since JSON is UTF-8 (RFC 8259 section 8.1), then the charset of its
    ``Content-Type``. UTF-16 and UTF-32 show in how the bytes begin.
    """
    wide = json.detect_encoding(response.body)
    if not wide.startswith("utf-8"):
        return response.body.decode(wide, errors="replace")
    charset = _CHARSET.search(response.headers.get("content-type", "")[:500])
    for encoding in ("utf-8-sig", *([charset[1]] if charset else [])):
        try:
            return response.body.decode(encoding)
        except (UnicodeDecodeError, LookupError, ValueError):
            continue
    return response.body.decode("utf-8-sig", errors="replace")


def _read_text(text: str, kind: str, depth: int = 0) -> tuple[Any, dict[str, Any]] | None:
    """Return the document that ``text`` holds, and the members of its object; None where nothing is certain."""
    if not text.startswith(("{", "[", '"')) and (kind == _FORM_TYPE or _FORM.fullmatch(text)):
        fields = _read_form(text)
        return fields, fields
    try:
        document = parse_json(text)
    except ValueError:
        members = _salvage(text, kind)
        return None if members is None else (members, members)
    return _unwrap(document, depth)


def _read_form(text: str) -> dict[str, Any]:
    return dict(parse_qsl(_FIELD_BREAK.sub("&", text.lstrip("?#&"))))


def _unwrap(document: Any, depth: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return the document out of the JSON strings around it, and the members of its object."""
    if isinstance(document, dict):
        return document, document
    if depth < _MAX_WRAPPERS and isinstance(document, str):
        text = document.strip(_AROUND)
        if text.startswith(("{", "[", '"')):
            return _read_text(text, "", depth + 1) or (document, {})
        fields = _read_form(text)
        return (fields, fields) if _is_telling(fields) else (document, {})
    if depth < _MAX_WRAPPERS and isinstance(document, list):
        objects = [members for item in document[:100] if (members := _unwrap(item, depth + 1)[1])]
        return document, next(filter(_is_telling, objects), objects[0] if objects else {})
    return document, {}


def _salvage(text: str, kind: str) -> dict[str, Any] | None:
    """Return the members of an object in a body that is no JSON; None where they say nothing for certain."""
    if text.startswith("<") and "json" not in kind and not _WARNING.match(text):
        return None  # a page, which may quote anything
    fields = _read_form(text)
    if not text.startswith(("{", "[")) and _is_telling(fields):
        return fields
    for members, is_whole in parse_broken_objects(text):
        if is_whole and any(isinstance(members.get(name), str) for name in ("access_token", "error")):
            return members
        # Of a body that was cut off, a token counts only where its successor came along: else that one is lost.
        if all(isinstance(members.get(name), str) for name in ("access_token", "refresh_token")):
            return members
    return None


def _is_telling(members: dict[str, Any]) -> bool:
    return bool(members.get("access_token") or members.get("error"))


def _name_content(text: str, kind: str) -> str:
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
