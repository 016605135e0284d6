"""The record as the store ``variable`` keeps it: sealed, since Airflow logs what tasks write into variables.

The text is a JSON object. In clear it has what is no secret and what a worker needs that cannot open it::

    {"format": "sealed-1",
     "generation": 7, "entered_fingerprint": "…", "superseded": […], "spent": […], "lease": {…}, "dead": {…},
     "keys": {"client_secret": "…", "refresh_token": "…"},
     "record": "…"}

``record`` is the whole record, encrypted with a random key, and ``keys`` has that key wrapped for each secret that the
connection has. So a person may change any one of them, and the others still open it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from typing import Any, cast

from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.record_store import RecordFormat, not_a_record, parse_record
from airflow_oauth_provider.tokens import sealing
from airflow_oauth_provider.tokens.json_members import parse_object
from airflow_oauth_provider.tokens.record import RECORD_FORMAT, Record, fingerprint

log = logging.getLogger(__name__)

FORMAT = "sealed-1"
#: The name under which Airflow's own key seals.
FERNET_KEY = "fernet_key"
#: The members of a record that stand in clear as well.
_CLEAR = ("generation", "entered_fingerprint", "superseded", "spent", "lease", "dead")
_PURPOSE = "airflow-oauth-provider: the token record of the connection "


@dataclass(frozen=True, slots=True)
class ConnectionKeys:
    """What a worker's copy of a connection has to seal its record with, and to open it.

    :param secrets: the secrets that keys are made of, by name; see :data:`sealing.Secrets`.
    :param rotates: whether a refresh spends a refresh token that must not be lost.
    :param opening: secrets that open as well, but do not seal: other readers may not have them.
    """

    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    rotates: bool = True
    opening: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def are_its_own(self) -> bool:
        """Whether the connection itself has a secret, so that whoever writes its record can seal it.

        Airflow's Fernet key does not count: one process may have it, and another not.
        """
        return any(name != FERNET_KEY for name, _ in self.secrets)

    @property
    def are_its_own_beside_tokens(self) -> bool:
        """Whether the connection has a secret that stays when a person signs in again."""
        return any(name not in (FERNET_KEY, "refresh_token") for name, _ in self.secrets)

    @property
    def entered(self) -> str | None:
        """The fingerprint of the refresh token that a person entered; None where there is none."""
        return fingerprint(dict(self.secrets).get("refresh_token"))


@dataclass(frozen=True, slots=True)
class UnsealedRecord:
    """A text and what came out of it.

    :param record: without tokens where the text could not be opened and is superseded.
    :param whole: whether it was opened.
    """

    text: str = field(repr=False)
    record: Record
    whole: bool = True


class SealedFormat(RecordFormat):
    """Records as a variable keeps them.

    What is sealed again looks different, and versions are hashes of texts. A write that is tried again because its
    answer was lost has to be recognized, and a record that is written back as it is must not look changed. So the text
    last read or written is used again as long as it keeps just this record.
    """

    def __init__(self, conn_id: str, keys: ConnectionKeys) -> None:
        self._conn_id = conn_id
        self._keys = keys
        self._last: UnsealedRecord | None = None

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """See :attr:`RecordFormat.sealed_with`."""
        wrapped = (_envelope(self._last.text) or {}).get("keys") if self._last else None
        return tuple(wrapped) if isinstance(wrapped, dict) else ()

    def encode(self, record: Record) -> str:
        """See :meth:`RecordFormat.encode`."""
        last = self._last
        if last is None or last.record != record or not _still_fits(last, self._keys, self._conn_id):
            last = self._last = UnsealedRecord(seal(record, self._keys, self._conn_id), record)
        return last.text

    def decode(self, text: str, where: str) -> Record:
        """Return the record in ``text``; see :func:`unseal`."""
        if self._last is None or self._last.text != text:
            self._last = unseal(text, self._keys, self._conn_id, where)
        return self._last.record


def seal(record: Record, keys: ConnectionKeys, conn_id: str) -> str:
    """Return the text that keeps ``record``: in clear where the connection has no secret to make a key of.

    :param conn_id: the connection; what is sealed for one opens for no other.
    """
    text = record.to_json()
    if not keys.secrets:
        return text
    ciphertext, wrapped = sealing.lock(text, keys.secrets, _purpose(conn_id))
    members = {"format": FORMAT, **_clear(json.loads(text)), "keys": wrapped, "record": ciphertext}
    return json.dumps(members, separators=(",", ":"))


def unseal(text: str, keys: ConnectionKeys, conn_id: str, where: str) -> UnsealedRecord:
    """Return what ``text`` keeps.

    A record in clear counts only where the connection has no secret of its own: else anybody who may edit variables
    could put one there. And without a secret nobody can tell who wrote it, so it does not say where the API is
    (:mod:`airflow_oauth_provider.connection.address`): its further response parameters are left out.

    A record that the connection's secrets do not open is superseded where no refresh token is at stake, or where the
    connection has no other secret than a refresh token, and another one has been entered since, as the record says
    itself: then what it has in clear goes on without its tokens. Beside a client secret or a private key that does not
    count: anybody who may edit variables can put a record there that is sealed with whatever they like.

    :param where: the place, for errors.
    :raises StoreNotWritable: it is no record, or the connection has no secret that opens it. It is left as it is.
    :raises StoreUnavailable: it was sealed by workers that know newer secrets than this one.
    """
    members = _envelope(text)
    if members is None:
        record = parse_record(text, where)
        if keys.are_its_own:
            raise StoreNotWritable(
                f"{where} is in clear, although the connection has secrets to seal it with: somebody else may have "
                "written it, so it is not used. Remove the variable and sign in again: enter a new refresh token."
            )
        return UnsealedRecord(text, replace(record, response_parameters={}))
    try:
        outline = Record.from_json(json.dumps({**_clear(members), "format": RECORD_FORMAT}))
        wrapped, ciphertext = _read_sealed(members)
        opened = sealing.unlock(ciphertext, wrapped, (*keys.secrets, *keys.opening), _purpose(conn_id))
    except ValueError as error:
        raise not_a_record(where, error) from None
    if opened is not None:
        return UnsealedRecord(text, parse_record(opened, where))
    _check_superseded(outline, wrapped, keys, conn_id, where)
    log.warning(
        "Connection %r: its stored tokens were sealed with secrets that it does not have any more (%s). Going on with "
        "what the connection says now.",
        conn_id,
        ", ".join(wrapped),
    )
    return UnsealedRecord(text, outline, whole=False)


def _still_fits(opened: UnsealedRecord, keys: ConnectionKeys, conn_id: str) -> bool:
    """Tell whether ``opened.text`` may stay as it is when its record is written again.

    It may not where the connection has other secrets by now: each write seals with those of its time.
    """
    if not opened.whole:
        return True  # it must not be replaced by the little that is known of it
    members = _envelope(opened.text)
    if members is None or not keys.secrets:
        # What others have sealed stays sealed as long as it stays as it is.
        return not keys.secrets
    return sealing.is_locked_for(_read_sealed(members)[0], keys.secrets, _purpose(conn_id))


def _check_superseded(outline: Record, wrapped: dict[str, str], keys: ConnectionKeys, conn_id: str, where: str) -> None:
    if not keys.rotates:
        return  # anyone can ask for such a token again
    if keys.entered is None or keys.entered == outline.entered_fingerprint:
        raise StoreNotWritable(
            f"{where} is sealed with secrets that the connection {conn_id!r} does not have any more "
            f"({', '.join(wrapped)}; 'fernet_key' is Airflow's, which has to be the same wherever tasks run). Give it "
            "back one of them, or sign in again: enter a new refresh token. To sign in by the command line, remove the "
            "variable first."
        )
    if outline.has_replaced(keys.entered):
        raise StoreUnavailable(
            f"{where} is sealed with newer secrets than this worker's copy of the connection {conn_id!r} has, whose "
            "refresh token has been replaced since. If you went back to that token on purpose, remove the variable."
        )
    if keys.are_its_own_beside_tokens:
        raise StoreNotWritable(
            f"{where} is sealed with secrets that the connection {conn_id!r} does not have ({', '.join(wrapped)}): all "
            "of them were changed at once, or somebody else has written it. It is left as it is. Give the connection "
            "back one of them; or remove the variable, to begin with the refresh token that is entered now."
        )


def _purpose(conn_id: str) -> bytes:
    return (_PURPOSE + conn_id).encode()


def _envelope(text: str) -> dict[str, Any] | None:
    members = parse_object(text)
    return members if members and members.get("format") == FORMAT else None


def _clear(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members that stand in clear beside what is sealed."""
    return {name: value for name, value in members.items() if name in _CLEAR}


def _read_sealed(members: dict[str, Any]) -> tuple[dict[str, str], str]:
    wrapped, ciphertext = members.get("keys"), members.get("record")
    texts = [ciphertext, *(wrapped.values() if isinstance(wrapped, dict) else [None])]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its envelope is damaged")
    return cast("dict[str, str]", wrapped), cast("str", ciphertext)
