"""Read JSON that somebody else wrote (RFC 8259): bounded in depth, and with nothing lost for one odd member.

Python's own reader raises :class:`RecursionError` on deep text, takes ``NaN``, refuses integers of more than 4,300
digits, and gives up at the first character that it does not like. A token response is spent by then: what can be read
of it counts.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

#: Arrays and objects within each other that are read. What lies deeper reads as ``null``.
MAX_DEPTH = 32
#: Digits of an integer that is read as a number; a longer one stays text.
MAX_DIGITS = 300

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_BLANKS = re.compile(r"[\s\x00]*+")
_SEPARATORS = re.compile(r"[\s\x00,]*+")
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


def parse_broken_object(text: str) -> tuple[dict[str, Any], bool]:
    """Return what can be read of a JSON object with something wrong in it, before it or after it.

    :param text: what :func:`parse_json` refuses.
    :return: the members whose values are JSON, and whether the object came to its end.
    """
    start = text.find("{")
    if start < 0:
        return {}, False
    text = _cut_depth(text[start:])  # not of what stands before: a quotation mark there would turn strings inside out
    members: dict[str, Any] = {}
    position = 1
    is_whole = False
    while True:
        position = _skip(_SEPARATORS, text, position)
        is_whole = text.startswith("}", position)
        try:
            name, position = _read_name(text, position)
        except (ValueError, RecursionError):
            break
        value, position = _read_value(text, position)
        if value is not None:
            members[name] = value
    return _join_halves(members), is_whole


def _read_name(text: str, position: int) -> tuple[str, int]:
    """Return the name of the member at ``position``, and where its value begins."""
    name, position = _DECODER.raw_decode(text, position)
    position = _skip(_BLANKS, text, position)
    if not isinstance(name, str) or not text.startswith(":", position):
        raise ValueError("no member begins here")
    return name, _skip(_BLANKS, text, position + 1)


def _read_value(text: str, position: int) -> tuple[Any, int]:
    """Return the value at ``position``, None where it is no JSON, and where the next member may begin."""
    try:
        value, position = _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        value = None
    end = _skip(_REST_OF_VALUE, text, position)
    return (None if text[position:end].strip("\x00 \t\r\n") else value), end


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
