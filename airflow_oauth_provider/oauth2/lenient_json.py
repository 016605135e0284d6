"""Read JSON that somebody else wrote (RFC 8259): bounded in depth, and with nothing lost for one odd member.

Python's own reader raises :class:`RecursionError` on deep text, takes ``NaN``, refuses integers of more than 4,300
digits, and gives up at the first character that it does not like. A token response is spent by then: what can be read
of it counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

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
