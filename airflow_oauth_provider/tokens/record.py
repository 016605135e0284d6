"""What a token store keeps: one record for each connection. And what every store does with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens import events, json_members
from airflow_oauth_provider.tokens.events import HistoryEntry

T = TypeVar("T")

RECORD_FORMAT = 1
#: The longest record that is read, in characters. A token response is 1 MiB at most, and JSON may escape it.
MAX_RECORD_LENGTH = 8 * 1024 * 1024
#: How many fingerprints of entered refresh tokens are remembered.
MAX_FINGERPRINTS = 50
#: The longest lease that binds anybody, in seconds: whatever a record says, nobody waits longer.
MAX_LEASE = 120.0
#: The part of a token's lifetime that a caller can ask for at the most.
LONGEST_MIN_TTL = 0.9
#: The longest note on an interrupted refresh, and the longest hint of a dead grant, in characters.
MAX_NOTE = 2000


def fingerprint(secret: str | None) -> str | None:
    """Return a short one-way hash of a token, safe to store, log and show.

    :param secret: a high-entropy secret such as a refresh token; None and ``""`` have no fingerprint.
    """
    if not secret:
        return None
    # JSON can hold half a character ("\\ud800"), which is no UTF-8; a fingerprint is only compared.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Lease:
    """The exclusive right to refresh, as its holder wrote it into the record.

    :param owner: unique for each acquisition, never used twice; a renewal keeps it.
    :param seconds: how long the right lasts, counted by whoever looks at it from the moment it first saw it.
    :param taken_at: the holder's wall clock in seconds since the epoch; for people, not for decisions.
    :param renewals: how often the holder has renewed it.
    :param sent: whether a token request may have been sent under it.
    :param process: which process holds it; see :func:`airflow_oauth_provider.tokens.lease.identify_process`.
    :param actor: who holds it, for people; see :class:`~airflow_oauth_provider.tokens.events.HistoryEntry`.
    """

    owner: str
    seconds: float
    taken_at: float
    renewals: int = 0
    sent: bool = True
    process: str = ""
    actor: str = ""


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
    :param entered_fingerprint: fingerprint of the refresh token that a person entered and this record began with.
    :param superseded: fingerprints of refresh tokens that were entered earlier and have been replaced since.
    :param spent: fingerprints of entered refresh tokens that were rotated away or refused.
    :param access_token: the current access token, None before the first refresh.
    :param refresh_token: the refresh token to spend next; None for grants that have none.
    :param token_type: as answered, ``Bearer`` for the most part.
    :param scope: as granted, space-delimited.
    :param issued_at: seconds since the epoch, on the clock of the worker that refreshed, when the request was sent.
    :param expires_in: lifetime of the access token in seconds from ``issued_at``; None where unknown.
    :param issued_for: fingerprint of the grant, client and server that the access token came by; None where unknown.
    :param refresh_expires_at: seconds since the epoch at which the refresh token dies; None where unknown.
    :param response_parameters: the last token response's further parameters (RFC 6749 section 5.1).
    :param not_before: seconds since the epoch before which the server asked not to be called again.
    :param lease: who is refreshing now.
    :param dead: why ``refresh_token`` is of no more use.
    :param interrupted: a note on a refresh whose outcome nobody knows (its holder died, or the response was lost).
    :param history: the last events, oldest first.
    :param unknown_members: members that this version does not know. Where workers of two versions share a record, the
        older ones keep what the newer ones wrote.
    """

    generation: int = 0
    entered_fingerprint: str | None = None
    superseded: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    scope: str | None = None
    issued_at: float = 0.0
    expires_in: float | None = None
    issued_for: str | None = None
    refresh_expires_at: float | None = None
    response_parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    not_before: float | None = None
    lease: Lease | None = None
    dead: DeadGrant | None = None
    interrupted: str | None = None
    history: tuple[HistoryEntry, ...] = ()
    unknown_members: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch at which the access token ends, on its writer's clock; None where unknown."""
        if self.expires_in is None:
            return None
        return min(self.issued_at + self.expires_in, json_members.LATEST_TIME)

    def age(self, now: float) -> float:
        """Return the seconds since the last refresh, never less than none.

        :param now: this machine's wall clock, in seconds since the epoch.
        """
        return max(0.0, now - self.issued_at)

    def remaining(self, now: float) -> float:
        """Return the seconds that the access token has left; infinite where its lifetime is unknown.

        A record from the future was written by a machine whose clock is ahead of this one's. It is taken for new, so
        that such a token is never trusted beyond its lifetime.

        :param now: see :meth:`age`.
        """
        if self.access_token is None:
            return 0.0
        return math.inf if self.expires_in is None else self.expires_in - self.age(now)

    def min_remaining(self, leeway: float, min_ttl: float) -> float:
        """Return how many seconds the access token must have left to count as fresh.

        :param leeway: the connection's margin in seconds; at most half of the lifetime counts, or a short-lived token
            would never be fresh.
        :param min_ttl: what the caller asks for, in seconds; at most nine tenths of the lifetime can be had.
        """
        if self.expires_in is None:
            return max(leeway, min_ttl)
        return max(min(leeway, self.expires_in / 2), min(min_ttl, self.expires_in * LONGEST_MIN_TTL))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything in the record that must not be shown: the tokens, and further ones in the last response."""
        further = [value for name, value in self.response_parameters.items() if "token" in name]
        found = (self.access_token, self.refresh_token, *further)
        return tuple(secret for secret in found if isinstance(secret, str) and secret)

    def has_replaced(self, entered: str) -> bool:
        """Tell whether an entered refresh token is known to have been replaced by another one, and may not come back.

        A person may go back to one that was never spent, once its successor is dead.

        :param entered: its fingerprint.
        """
        return entered in self.superseded and (self.dead is None or entered in self.spent)

    def follow(self, answer: TokenResponse, sent_at: float) -> Record:
        """Return the record of the next generation, with what ``answer`` says and the history of this one.

        :param sent_at: seconds since the epoch when the tokens were asked for.
        """
        lifetime = answer.refresh_expires_in
        return Record(
            generation=self.generation + 1,
            entered_fingerprint=self.entered_fingerprint,
            superseded=self.superseded,
            spent=self.spent,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            token_type=answer.token_type,
            scope=answer.scope,
            issued_at=sent_at,
            expires_in=answer.expires_in,
            refresh_expires_at=None if lifetime is None else sent_at + lifetime,
            response_parameters=storable_parameters(answer.others),
            history=self.history,
        )

    def with_event(self, at: float, kind: str, actor: str = "", detail: str = "") -> Record:
        """Return a copy whose history has one more entry, and no secret of this record in it.

        :param at: seconds since the epoch.
        """
        new = events.make_entry(at, kind, actor, detail, self.secrets)
        return replace(self, history=(*self.history, new)[-events.MAX_ENTRIES :])

    def to_json(self) -> str:
        """Return the record as one line of JSON, the form in which every store keeps it."""
        members: dict[str, Any] = {"format": RECORD_FORMAT}
        for name in _CHECKS:
            value = getattr(self, name)
            if isinstance(value, Lease | DeadGrant):
                value = {part: getattr(value, part) for part in value.__slots__}
            elif name == "history":
                value = [entry.to_json() for entry in value]
            if value not in (None, {}, (), []):
                members[name] = value
        return json.dumps({**self.unknown_members, **members}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what :meth:`to_json` wrote. Members of later versions are kept; every known one is checked.

        :raises ValueError: when the text is no record. The message names a member at most and quotes no value.
        """
        if len(text) > MAX_RECORD_LENGTH:
            raise ValueError(f"the stored token record is longer than {MAX_RECORD_LENGTH} characters")
        try:
            members = json_members.parse(text)
        except ValueError as error:
            raise ValueError(f"the stored token record {error}") from None
        version = members.get("format") if isinstance(members, dict) else None
        if not isinstance(members, dict) or type(version) is not int or version != RECORD_FORMAT:
            raise ValueError(f"the stored token record is not of format {RECORD_FORMAT}")
        unknown = {name: value for name, value in members.items() if name not in (*_CHECKS, *_OF_THE_PLACE)}
        checked = _check({**_CHECKS, "unknown_members": json_members.mapping}, {**members, "unknown_members": unknown})
        return cls(**checked)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record and the version it was read at.

    :param record: the record; None where none has been written yet.
    :param version: opaque, good for ``if_version`` of the next write; None where there is no record.
    :param kept: what people keep in the same place beside the record: ``client_id``, ``client_secret``, keys, and a
        ``refresh_token`` that a person has entered. None: this kind of store keeps nothing else.
    :param where: what to call that place in a sentence, such as ``the file '/opt/airflow/xero.json'``.
    :param settle_time: seconds for which a new lease has to stay in the place before it counts. 0: the place can
        compare and set, so a lease counts at once.
    """

    record: Record | None
    version: str | None
    kept: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    where: str = field(default="", compare=False)
    settle_time: float = field(default=0.0, compare=False)


class TokenStore(Protocol):
    """Where the tokens of one connection live.

    An implementation is for one connection. Its methods may be called from any thread, one at a time.
    """

    #: The value of the connection's ``store`` that chooses this implementation.
    name: str

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """Names of the secrets that open what was last read or written, each by itself; none where it is in clear."""

    def read(self) -> StoredRecord:
        """Return the newest record.

        :raises StoreUnavailable: when it cannot be told whether there is one. "There is none" must be certain:
            taking a failed read for an empty store would spend a refresh token that is long rotated.
        :raises StoreNotWritable: when the place does not exist or cannot be the home of tokens at all.
        """

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version`` (None: there was none), or change nothing.

        :param if_version: the version that may be replaced.
        :return: the version of what was written.
        :raises StaleVersion: the store holds another version; nothing was changed.
        :raises StoreUnavailable: the store did not take the record, or its answer was lost and it may have.
        :raises StoreNotWritable: this connection's record can never be written here.
        """


class FallbackStore(Protocol):
    """Where tokens go when their store stays away after the refresh token was spent.

    What is kept is ciphertext already; see :mod:`airflow_oauth_provider.stores.fallback`.
    """

    def save(self, key: str, ciphertext: str) -> None:
        """Keep ``ciphertext`` under ``key``; raise StoreUnavailable when that failed."""

    def load(self, key: str) -> str | None:
        """Return what is kept under ``key``, or None; raise StoreUnavailable when that cannot be told."""

    def remove(self, key: str) -> None:
        """Forget ``key``; it may be gone already. Raise StoreUnavailable when that failed."""


def storable_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a token response that a record can keep: a server may send what is no JSON (NaN)."""
    return {name: value for name, value in parameters.items() if json_members.is_storable(value)}


#: Members that are said of one text in one place, and do not travel with the record: ``variable``, ``azure_keyvault``.
_OF_THE_PLACE = ("format", "moved_to", "written_beside")

Checks = Mapping[str, Callable[[object], Any]]

_text = json_members.text(MAX_RECORD_LENGTH)
_fingerprint = json_members.text(64)
_name = json_members.text(200)
_note = json_members.text(MAX_NOTE)
_time = json_members.number(0.0, json_members.LATEST_TIME)
_fingerprints = json_members.newest(MAX_FINGERPRINTS, _fingerprint)


def _check(checks: Checks, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that ``checks`` name, each checked; null stands for an absent one."""
    checked = {}
    for name, check in checks.items():
        if members.get(name) is not None:
            try:
                checked[name] = check(members[name])
            except ValueError as error:
                raise ValueError(f"the stored token record has a wrong member {name!r}: it {error}") from None
    return checked


def _part(kind: Callable[..., T], required: tuple[str, ...], checks: Checks) -> Callable[[object], T]:
    """Check for an object and make a ``kind`` of it, without what only later versions know."""

    def check(value: object) -> T:
        if not isinstance(value, dict) or any(value.get(name) is None for name in required):
            raise json_members.WrongMember(f"has to be an object of the right shape, with {', '.join(required)}")
        return kind(**_check(checks, value))

    return check


_LEASE: Checks = {
    "owner": _name,
    "seconds": lambda value: min(_time(value), MAX_LEASE),
    "taken_at": _time,
    "renewals": json_members.integer(0, 10**6),
    "sent": json_members.boolean,
    "process": _name,
    "actor": _name,
}
_DEAD: Checks = {"token_fingerprint": _fingerprint, "error": _name, "at": _time, "hint": _note}
#: How each known member is checked when it is read.
_CHECKS: Checks = {
    "generation": json_members.integer(0, 2**53),
    "entered_fingerprint": _fingerprint,
    "superseded": _fingerprints,
    "spent": _fingerprints,
    "access_token": _text,
    "refresh_token": _text,
    "token_type": _text,
    "scope": _text,
    "issued_at": _time,
    "expires_in": _time,
    "issued_for": _fingerprint,
    "refresh_expires_at": _time,
    "response_parameters": json_members.mapping,
    "not_before": _time,
    "lease": _part(Lease, ("owner", "seconds", "taken_at"), _LEASE),
    "dead": _part(DeadGrant, ("token_fingerprint", "error", "at"), _DEAD),
    "interrupted": _note,
    "history": json_members.newest(events.MAX_ENTRIES, HistoryEntry.from_json),
}
