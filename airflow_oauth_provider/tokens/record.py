"""What a token store keeps: one record a connection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

T = TypeVar("T")

RECORD_FORMAT = 1


def fingerprint(secret: str | None) -> str | None:
    """Return a short one-way mark of a token, safe to store, log and show.

    :param secret: a high-entropy secret such as a refresh token; None and ``""`` have no fingerprint.
    """
    if not secret:
        return None
    # JSON can hold half a character ("\\ud800"), which is no UTF-8; a mark is only compared.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Lease:
    """The exclusive right to refresh, as its holder wrote it into the record.

    :param owner: unique for each acquisition, never used twice.
    :param seconds: how long the right lasts, counted by whoever looks at it from the moment it first saw it.
    :param taken_at: the holder's wall clock in seconds since the epoch; for people, not for decisions.
    """

    owner: str
    seconds: float
    taken_at: float


@dataclass(frozen=True, slots=True)
class DeadGrant:
    """A refresh token that the server has refused for good.

    :param token_fingerprint: fingerprint of the refused refresh token.
    :param error: the server's error code, ``invalid_grant`` for the most part.
    :param at: the wall clock of the worker that was told, in seconds since the epoch.
    :param hint: what is known of the cause, for the error that every later worker shows.
    """

    token_fingerprint: str
    error: str
    at: float
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """The state of one grant (one connection) as all its users share it.

    :param generation: grows by one with each refresh, so that of two records the newer can be told.
    :param entered_fingerprint: mark of the refresh token that a person entered and this record grew from.
    :param superseded: marks of refresh tokens that were entered earlier and have been replaced since.
    :param used_up: marks of entered refresh tokens that are of no more use: they were rotated away, or refused.
    :param access_token: the current access token, None before the first refresh.
    :param refresh_token: the refresh token to spend next; None for grants that have none.
    :param token_type: as answered, ``Bearer`` for the most part.
    :param scope: as granted, space-delimited.
    :param issued_at: seconds since the epoch, on the clock of the worker that refreshed, when the request was sent.
    :param expires_in: lifetime of the access token in seconds from ``issued_at``; None where unknown.
    :param issued_for: mark of the grant, client and server that the access token came by; None where unknown.
    :param refresh_expires_at: seconds since the epoch at which the refresh token dies; None where unknown.
    :param response: all other members of the last token response.
    :param not_before: seconds since the epoch before which the server asked not to be called again.
    :param lease: who is refreshing now.
    :param dead: why ``refresh_token`` is of no more use.
    :param interrupted: a note on a refresh whose outcome nobody knows (its holder died, or the answer was lost).
    :param others: members that this version does not know. Where workers of two versions share a record, the older ones
        bring what the newer ones wrote along.
    """

    generation: int = 0
    entered_fingerprint: str | None = None
    superseded: tuple[str, ...] = ()
    used_up: tuple[str, ...] = ()
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    scope: str | None = None
    issued_at: float = 0.0
    expires_in: float | None = None
    issued_for: str | None = None
    refresh_expires_at: float | None = None
    response: Mapping[str, Any] = field(default_factory=dict, repr=False)
    not_before: float | None = None
    lease: Lease | None = None
    dead: DeadGrant | None = None
    interrupted: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch at which the access token ends, on its writer's clock; None where unknown."""
        return None if self.expires_in is None else self.issued_at + self.expires_in

    def has_replaced(self, mark: str) -> bool:
        """Tell whether an entered refresh token is known to have been replaced by another one, and may not come back.

        A person may go back to one that was never spent, once its successor is dead.

        :param mark: its fingerprint.
        """
        return mark in self.superseded and (self.dead is None or mark in self.used_up)

    def with_lease(self, lease: Lease | None) -> Record:
        """Return a copy that is held by ``lease``, or by nobody."""
        return replace(self, lease=lease)

    def to_json(self) -> str:
        """Return the record as one line of JSON, the form in which every store keeps it."""
        members: dict[str, Any] = {"format": RECORD_FORMAT}
        for name in _KNOWN:
            value = getattr(self, name)
            if isinstance(value, Lease | DeadGrant):
                value = {part: getattr(value, part) for part in value.__slots__}
            if value not in (None, {}, ()):
                members[name] = value
        return json.dumps({**self.others, **members}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what :meth:`to_json` wrote; members of later versions do no harm.

        :param text: one JSON object.
        :raises ValueError: when the text is no record. The message does not quote it.
        """
        try:
            members = json.loads(text)
        except ValueError:
            # A JSON error quotes its document, and this one is made of secrets.
            raise ValueError("the stored token record is not JSON") from None
        if not isinstance(members, dict) or members.get("format") != RECORD_FORMAT:
            raise ValueError(f"the stored token record is not of format {RECORD_FORMAT}")
        values = {name: members[name] for name in _KNOWN if name in members}
        values["others"] = {name: value for name, value in members.items() if name not in (*_KNOWN, *_OF_THE_PLACE)}
        try:
            if "lease" in values:
                values["lease"] = _made(Lease, values["lease"])
            if "dead" in values:
                values["dead"] = _made(DeadGrant, values["dead"])
            for marks in ("superseded", "used_up"):
                if marks in values:
                    values[marks] = tuple(values[marks])
            return cls(**values)
        except TypeError:
            raise ValueError("the stored token record has members of the wrong shape") from None


#: The members that this version knows.
_KNOWN = tuple(name for name in Record.__slots__ if name != "others")
#: Members that are said of one text in one place, and do not travel with the record: ``variable``, ``azure_keyvault``.
_OF_THE_PLACE = ("format", "moved_to", "written_beside")


def _made(kind: type[T], members: object) -> T:
    """Return the part of a record that ``members`` describe, without what only later versions know of it."""
    if not isinstance(members, dict):
        raise TypeError
    names: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]
    return kind(**{name: value for name, value in members.items() if name in names})
