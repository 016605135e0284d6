"""Tokens in an Airflow variable: needs nothing, but has no compare-and-set on Airflow 3."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_oauth_provider.compat import database, supervisor, variables
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StoreUnavailable
from airflow_oauth_provider.stores import timed_claim
from airflow_oauth_provider.stores.parsing import mask_record
from airflow_oauth_provider.stores.sealed_record import (
    ConnectionKeys,
    UnsealedRecord,
    seal,
    sealed_with,
    still_fits,
    unseal,
)
from airflow_oauth_provider.stores.variable_keys import key
from airflow_oauth_provider.tokens.record import RECORD_FORMAT, Record
from airflow_oauth_provider.tokens.store import StoredRecord

#: "token" in the key makes Airflow show the value as ``***``.
KEY_PREFIX = "oauth2_token_record__"
#: Says in the variable's JSON that another store is the home of the tokens now; records know no such member.
_MOVED_TO = "moved_to"


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What a variable holds for a store that takes over from it.

    :param record: the record, None where there is none (any more).
    :param version: of the variable as it is.
    :param marked: whether the variable says already that its record is being moved.
    """

    record: Record | None
    version: str | None
    marked: bool


class VariableStore:
    """Keeps the record of one connection in the variable ``oauth2_token_record__<conn_id>``.

    With the metadata database at hand (Airflow 2.11; the API server and command line of Airflow 3) a write is
    a real compare-and-set. A task of Airflow 3 has only "read" and "write"; there a lease is taken by a timed
    claim, see :mod:`airflow_oauth_provider.stores.timed_claim` for what that does and does not promise.

    **Logs.** The supervisor of every Airflow 3 logs at DEBUG, unmasked, whatever value a task gives to a variable: its
    masker passes the message by (3.0 with LocalExecutor shows it at level INFO too). So the record is sealed with keys
    made from the connection's secrets, see :mod:`airflow_oauth_provider.stores.sealed_record`; without any, it stands
    in clear.

    :param conn_id: the connection whose tokens these are.
    :param keys: what it has to seal them with.
    :param claim_delay: seconds after which another worker's write must have become visible.
    :param sleep: waits so many seconds.
    """

    name = "variable"

    def __init__(
        self,
        conn_id: str,
        keys: ConnectionKeys,
        *,
        claim_delay: float = timed_claim.DEFAULT_DELAY,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._conn_id = conn_id
        self._keys = keys
        self._key = key(KEY_PREFIX, conn_id)
        self._description = f"OAuth 2.0 tokens of the connection {conn_id}. Written by the provider; do not edit."
        self._claim_delay = claim_delay
        self._sleep = sleep
        self._last: UnsealedRecord | None = None

    @property
    def seals(self) -> bool:
        """Whether tasks have anything to seal the connection's tokens with, as far as this process can tell."""
        return bool(self._keys.secrets or self._keys.opening)

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """The names of the secrets that open what was last read or written; none where that is in clear."""
        return () if self._last is None else sealed_with(self._last.text)

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        text = self._read_text()
        if text is not None and (home := _moved_to(text)):
            # Passing for a worker that has not noticed yet that ``auto`` stands for another store now.
            raise StoreUnavailable(
                f"The tokens in the variable {self._key!r} have been moved to the store {home!r}. Choose "
                "that store for the connection again; or delete the variable and enter a new refresh token."
            )
        return StoredRecord(None if text is None else self._record_in(text), version_of(text))

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        mask_record(record)
        if record.lease is not None:
            variables.refuse_shadowed_variable(self._key)
        return self._swap(self._text_of(record), if_version, claim=record.lease is not None)

    def left_behind(self) -> LeftBehind:
        """Return what another store can take over from this one.

        :raises StoreUnavailable: it cannot be told.
        """
        text = self._read_text()
        if text is None:
            return LeftBehind(None, None, marked=False)
        marked = bool(_moved_to(text))
        record = None if text == _tombstone(_moved_to(text)) else self._record_in(text)
        return LeftBehind(record, version_of(text), marked)

    def mark_moved(self, left: LeftBehind, home: str) -> None:
        """Say in the variable, beside its record, that ``home`` is taking it over.

        :raises StaleVersion: it holds something else by now.
        """
        if left.record is not None and not left.marked:
            members = json.loads(self._text_of(left.record)) | {_MOVED_TO: home}
            self._swap(json.dumps(members, separators=(",", ":")), left.version, claim=True)

    def bury(self, home: str) -> None:
        """Leave a note without tokens.

        Were the variable deleted, a worker that missed the move would take it for the first use.
        """
        variables.write_variable(self._key, _tombstone(home), self._description)

    def _swap(self, text: str, if_version: str | None, *, claim: bool) -> str:
        if not supervisor.on_task_sdk():
            return database.swap_variable(self._key, text, if_version, self._description)
        new_version = version_of(text)
        assert new_version is not None  # noqa: S101 - a text always has a version
        return timed_claim.swap(
            read_version=lambda: version_of(self._read_text()),
            write=lambda: variables.write_variable(self._key, text, self._description),
            new_version=new_version,
            if_version=if_version,
            leased=claim,
            delay=self._claim_delay,
            sleep=self._sleep,
        )

    def _record_in(self, text: str) -> Record:
        if self._last is not None and self._last.text == text:
            mask_record(self._last.record)
        else:
            where = f"The variable {self._key!r} with the tokens of the connection {self._conn_id!r}"
            self._last = unseal(text, self._keys, self._conn_id, where)
        return self._last.record

    def _text_of(self, record: Record) -> str:
        """Return the text of ``record``: that which was last read or written, where it keeps just this record.

        What is sealed again looks different, and versions are hashes of texts. A write that is tried again because its
        answer was lost has to be recognized, and a record that is written back as it is must not look changed.
        """
        last = self._last
        if last is not None and last.record == record and still_fits(last, self._keys, self._conn_id):
            return last.text
        text = seal(record, self._keys, self._conn_id)
        self._last = UnsealedRecord(text, record)
        return text

    def _read_text(self) -> str | None:
        return variables.read_variable(self._key)


def _moved_to(text: str) -> str | None:
    try:
        members = json.loads(text)
    except ValueError:
        return None
    home = members.get(_MOVED_TO) if isinstance(members, dict) else None
    return home if isinstance(home, str) else None


def _tombstone(home: str | None) -> str:
    return json.dumps({"format": RECORD_FORMAT, _MOVED_TO: home}, separators=(",", ":"))
