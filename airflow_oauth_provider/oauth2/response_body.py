"""Read the body of a response: JSON, or the form that some servers send instead (RFC 6749 section 5.1).

A token that stands in the body is found, whatever else is wrong with it: by the time the body is read, the refresh
token is spent. Python's own reader of JSON raises :class:`RecursionError` on deep text, takes ``NaN``, refuses integers
of more than 4,300 digits, and gives up at the first character that it does not like.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from airflow_oauth_provider.oauth2 import errors
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
    list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Body:
    """What a response says.

    :param document: the JSON value, or the fields of the form, as they were sent.
    :param members: the members of the object that ``document`` is or holds.
    """

    document: Any = field(repr=False)
    members: dict[str, Any] = field(repr=False)


def make_error(
    response: HttpResponse,
    what: str,
    kind: Callable[..., errors.OAuth2ProtocolError] = errors.UnexpectedResponse,
    **more: Any,
) -> errors.OAuth2ProtocolError:
    """Return an error whose text says who answered, with which status, and what is wrong.

    :param more: further arguments of ``kind``.
    """
    return kind(f"{response.endpoint} answered {response.status}: {what}", status=response.status, **more)


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
        kind = _JSON_NAMES.get(type(body.document), "value")
        raise make_error(response, f"the body is a JSON {kind}, not an object", is_whole=True)


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
        raise make_error(response, _name_content(text, kind))
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


# ------------------------------------------------------------- JSON that somebody else wrote (RFC 8259)

#: Arrays and objects within each other that are read. What lies deeper reads as ``null``.
MAX_DEPTH = 32
#: Digits of an integer that is read as a number; a longer one stays text.
MAX_DIGITS = 300
#: Objects in a text that is no JSON that are looked at.
_MAX_OBJECTS = 20

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
# Blanks and comments; the latter are no JSON, but some servers write them.
_GAP_PATTERN = r"[\s\x00]|/\*(?:[^*]|\*(?!/))*+\*/|//[^\r\n]*+"
_GAP = re.compile(rf"(?:{_GAP_PATTERN})*+")
_SEPARATORS = re.compile(rf"(?:{_GAP_PATTERN}|,)*+")
# What Python and JavaScript write, and JSON does not know.
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_BARE_NAME = re.compile(r"[A-Za-z_$][\w$]{0,99}")
_REST_OF_VALUE = re.compile(r'(?:[^",\[\]{}]|"(?:[^"\\]|\\.)*+")*+', re.DOTALL)
# An escape of a character's half (RFC 8259 section 7); most of them have the other half beside them.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """Return the value that ``text`` holds.

    Of members with the same name, the last one counts that is not null or empty. ``NaN`` and infinities read as null.

    :param text: JSON, perhaps with a byte order mark.
    :raises ValueError: when it is no JSON.
    """
    text = text.removeprefix("\ufeff")
    try:
        value = _DECODER.decode(_cut_depth(text))
    except RecursionError:  # of whoever calls this from deep within
        raise ValueError("too deep") from None
    return _join_halves(value) if _HALF.search(text) else value


def parse_broken_objects(text: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield what can be read of the JSON objects in a text with something wrong in it, before, between or after them.

    :param text: what :func:`parse_json` refuses.
    :return: of each object the members whose values are JSON, and whether it came to its end.
    """
    for _ in range(_MAX_OBJECTS):
        start = text.find("{")
        if start < 0:
            return
        # Not of what stands before: a quotation mark there would turn strings inside out.
        text = _cut_depth(text[start:])
        members, end, is_whole = _read_object(text)
        yield _join_halves(members), is_whole
        if not is_whole and end > 1:
            return  # the braces that follow may be within it
        text = text[end:]


def _read_object(text: str) -> tuple[dict[str, Any], int, bool]:
    """Return the members of the object that ``text`` begins with, where reading ended, and whether that is its end.

    Where no member begins, that is 1: the brace is no object's.
    """
    members: dict[str, Any] = {}
    end = position = 1
    while True:
        position = _skip(_SEPARATORS, text, position)
        if text.startswith("}", position):
            return members, position + 1, True
        try:
            name, position = _read_name(text, position)
        except (ValueError, RecursionError):
            return members, end, False
        value, end = _read_value(text, position)
        position = end
        if value is not None:
            members[name] = value


def _read_name(text: str, position: int) -> tuple[str, int]:
    """Return the name of the member at ``position``, and where its value begins."""
    name: Any
    if bare := _BARE_NAME.match(text, position):
        name, position = bare[0], bare.end()
    else:
        name, position = _read_raw(text, position)
    position = _skip(_GAP, text, position)
    if not isinstance(name, str) or not text.startswith(":", position):
        raise ValueError("no member begins here")
    return name, _skip(_GAP, text, position + 1)


def _read_value(text: str, position: int) -> tuple[Any, int]:
    """Return the value at ``position``, None where it is no JSON, and where the next member may begin."""
    try:
        value, position = _read_raw(text, position)
    except (ValueError, RecursionError):
        value = None
    position = _skip(_GAP, text, position)
    end = _skip(_REST_OF_VALUE, text, position)
    is_cut = end == len(text) and isinstance(value, int | float)  # there may have been more digits
    return (None if is_cut or text[position:end].strip("\x00 \t\r\n") else value), end


def _read_raw(text: str, position: int) -> tuple[Any, int]:
    single = _SINGLE_QUOTED.match(text, position)
    if single:
        return re.sub(r"\\(.)", r"\1", single[1]), single.end()
    return _DECODER.raw_decode(text, position)


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return position if found is None else found.end()


def _cut_depth(text: str) -> str:
    """Return ``text`` with ``null`` in place of what lies deeper than :data:`MAX_DEPTH`."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return text
    kept: list[str] = []
    depth, position = 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept.append(text[position : token.start()])
        elif token[0] in "]}":
            depth = max(0, depth - 1)
            if depth == MAX_DEPTH:
                kept.append("null")
                position = token.end()
    return "".join([*kept, text[position:]]) if depth <= MAX_DEPTH else "".join(kept)


def _join_halves(value: Any) -> Any:
    """Replace halves of characters, which JSON can name but no other text can hold: stores, logs, forms."""
    text = json.dumps(value, ensure_ascii=False)
    return _DECODER.decode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if value not in (None, "") or name not in members:
            members[name] = value
    return members


def _parse_integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _parse_float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


_DECODER = json.JSONDecoder(
    object_pairs_hook=_collect,
    parse_int=_parse_integer,
    parse_float=_parse_float,
    parse_constant=lambda _: None,
    strict=False,  # a control character within a string is no reason to lose the others
)
