"""Read, replace and remove members of a connection's ``extra``, and leave every other character as it is."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_oauth_provider.oauth2.redaction import MASK

#: The member that holds the record. "token" makes Airflow show it as ``***`` and keep it when a form is saved.
RECORD_MEMBER = "token_record"
#: The member that holds the key by which a task may replace the record. "token" for the same reason.
KEY_MEMBER = "token_record_key"
#: The member that keeps stock code of Airflow from sending this connection's extras away. ``HttpHook`` and
#: ``HttpAsyncHook`` make a header of each extra and fail at a value that is no text, before they send a byte. Their
#: error quotes name and value of the first such member: so it is empty, it stands first, and its name says what to do.
GUARD_MEMBER = "use_oauth2_hook"

#: Bytes of a key: 256 random bits. And how many characters that makes in URL-safe base64.
_KEY_BYTES, _KEY_LENGTH = 32, 43
_SPACE = " \t\r\n"
_decoder = json.JSONDecoder()


class NotAnObjectError(ValueError):
    """The text is not a JSON object. The message does not quote it."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of the object: its name, where that begins, and where its value begins and ends."""

    name: str
    begin: int
    start: int
    end: int


def get_member(extra: str | None, name: str = RECORD_MEMBER) -> str | None:
    """Return the string member ``name``; None where it is absent, null or empty, or the mask that a form leaves.

    :raises NotAnObjectError: ``extra`` is not a JSON object, or the member is no string.
    """
    value = _read_last(extra or "", name)
    if value in (None, "", MASK):
        return None
    if not isinstance(value, str):
        raise NotAnObjectError(f"{name} in extra is not a string")
    return value


def get_key(extra: str | None) -> str | None:
    """Return the record key; None where there is none, or the value was not minted.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    value = _read_last(extra or "", KEY_MEMBER)
    return value if isinstance(value, str) and len(value) >= _KEY_LENGTH else None


def set_member(extra: str | None, value: str, name: str = RECORD_MEMBER) -> str:
    """Return ``extra`` with the member ``name`` set to the string ``value``.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    text = extra or ""
    encoded = json.dumps(value)
    members = list(_members(text))
    named = [member for member in members if member.name == name]
    if named:
        last = named[-1]  # of two members with one name every parser takes the last
        return text[: last.start] + encoded + text[last.end :]
    if not text.strip():
        return f"{{{json.dumps(name)}: {encoded}}}"
    close = text.rindex("}")
    body = text[:close].rstrip(_SPACE)
    gap = text[len(body) : close]
    comma = ", " if members else ""
    return f"{body}{comma}{json.dumps(name)}: {encoded}{gap}{text[close:]}"


def without_member(extra: str | None, name: str = RECORD_MEMBER) -> str | None:
    """Return ``extra`` without the member ``name``; where it has none, as it is.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    text = extra or ""
    members = list(_members(text))
    for at in reversed(range(len(members))):
        if members[at].name != name:
            continue
        if at + 1 < len(members):  # with the comma behind it
            text = text[: members[at].begin] + text[members[at + 1].begin :]
        else:  # with the comma before it
            text = text[: members[at - 1].end if at else members[at].begin] + text[members[at].end :]
        members = list(_members(text))
    return text if text else extra


def is_guarded(extra: str | None) -> bool:
    """Tell whether ``extra`` begins with the guard, and nothing later takes its place.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    members = list(_members(extra or ""))
    guards = [member for member in members if member.name == GUARD_MEMBER]
    return bool(guards) and guards == members[:1] and _value(extra or "", guards[0]) == {}


def set_guard(extra: str | None) -> str:
    """Return ``extra`` with the guard as its first member.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    if extra and is_guarded(extra):
        return extra
    rest = without_member(extra, GUARD_MEMBER) or ""
    guard = f"{json.dumps(GUARD_MEMBER)}: {{}}"
    if not rest.strip():
        return f"{{{guard}}}"
    before, after = rest[: rest.index("{") + 1], rest[rest.index("{") + 1 :]
    comma = "" if not any(_members(rest)) else "," if after[0] in _SPACE else ", "
    return f"{before}{guard}{comma}{after}"


def prepare_extra(extra: str | None, *, with_key: bool) -> str:
    """Return ``extra`` as every ``oauth2`` row has it: with the guard, and a key where it needs one and has none.

    :param with_key: whether tasks need a key to write the row (Airflow 3).
    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    if with_key and get_key(extra) is None:
        extra = set_member(extra, secrets.token_urlsafe(_KEY_BYTES), KEY_MEMBER)
    return set_guard(extra)


def without_provisions(extra: str | None) -> str | None:
    """Return ``extra`` without record, key and guard, for a connection of another type.

    :raises NotAnObjectError: ``extra`` is not a JSON object.
    """
    for name in (RECORD_MEMBER, KEY_MEMBER, GUARD_MEMBER):
        extra = without_member(extra, name)
    return extra


def _read_last(text: str, name: str) -> Any:
    """Return the value of the member ``name``, None where it is absent; of two with one name the last counts."""
    values = [_value(text, member) for member in _members(text) if member.name == name]
    return values[-1] if values else None


def _value(text: str, member: _Member) -> Any:
    return json.loads(text[member.start : member.end])


def _members(text: str) -> Iterator[_Member]:
    if not text.strip():
        return
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAnObjectError("extra is not valid JSON") from None
    if not isinstance(document, dict):
        raise NotAnObjectError("extra is not a JSON object")
    # The text is well-formed, so the walk needs no further checks.
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        begin = at
        key, at = _decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _decoder.raw_decode(text, start)
        yield _Member(key, begin, start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
