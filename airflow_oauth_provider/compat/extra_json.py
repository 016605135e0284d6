"""Read, replace and remove one member of a connection's ``extra``; a replacement leaves every other character alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

from airflow_oauth_provider.oauth2.redaction import MASK

#: The member that holds the record. "token" makes Airflow show it as ``***`` and keep it when a form is
#: saved.
RECORD_MEMBER = "token_record"

_SPACE = " \t\r\n"
_decoder = json.JSONDecoder()


class NotAnObjectError(ValueError):
    """The text is not a JSON object. The message does not quote it."""


def get_member(extra: str | None, name: str = RECORD_MEMBER) -> str | None:
    """Return the string member ``name``; None where it is absent, null or empty, or the mask that a form leaves.

    :raises NotAnObjectError: ``extra`` is not a JSON object, or the member is no string.
    """
    value = None
    for key, start, end in _members(extra or ""):
        if key == name:
            value = json.loads((extra or "")[start:end])
    if value in (None, "", MASK):
        return None
    if not isinstance(value, str):
        raise NotAnObjectError(f"{name} in extra is not a string")
    return value


def set_member(extra: str | None, value: str, name: str = RECORD_MEMBER) -> str:
    """Return ``extra`` with the member ``name`` set to the string ``value``.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    text = extra or ""
    encoded = json.dumps(value)
    spans = [(start, end) for key, start, end in _members(text) if key == name]
    if spans:
        start, end = spans[-1]  # of two members with one name every parser takes the last
        return text[:start] + encoded + text[end:]
    if not text.strip():
        return f"{{{json.dumps(name)}: {encoded}}}"
    close = text.rindex("}")
    inside = text[text.index("{") + 1 : close]
    body = text[:close].rstrip(_SPACE)
    gap = text[len(body) : close]
    comma = ", " if inside.strip() else ""
    return f"{body}{comma}{json.dumps(name)}: {encoded}{gap}{text[close:]}"


def without_member(extra: str | None, name: str = RECORD_MEMBER) -> str | None:
    """Return ``extra`` without the member ``name``; where it has none, as it is.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    if all(key != name for key, _, _ in _members(extra or "")):
        return extra
    document = json.loads(extra or "")
    del document[name]
    return json.dumps(document)


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each member's name and where its value starts and ends."""
    if not text.strip():
        return
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAnObjectError("extra is not valid JSON") from None
    if not isinstance(document, dict):
        raise NotAnObjectError("extra is not a JSON object")
    # From here on the text is known to be well-formed, which keeps the walk short.
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = _decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _decoder.raw_decode(text, start)
        yield key, start, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
