"""A token store on any place that can replace a text only if it is unchanged."""

from __future__ import annotations

import json
from typing import Protocol

from airflow_oauth_provider.compat import masking
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import OAuth2Error, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import Permit
from airflow_oauth_provider.stores.backend import Backend, Fetched, PlainBackend
from airflow_oauth_provider.tokens.record import Record, StoredRecord

#: How many times a write is tried when others keep changing what stands beside the record.
ATTEMPTS = 20


class RecordFormat(Protocol):
    """How a record is turned into the text that a place holds, and back."""

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """Names of the secrets that open the text last read or written; none where it is in clear."""

    def encode(self, record: Record) -> str:
        """Return the text for ``record``: twice the same one for the same record."""

    def decode(self, text: str, where: str) -> Record:
        """Return the record in ``text``.

        :param where: the place, for the error.
        :raises StoreNotWritable: it is no record.
        """


class ClearFormat:
    """JSON in clear."""

    sealed_with = ()

    def encode(self, record: Record) -> str:
        """See :meth:`RecordFormat.encode`."""
        return record.to_json()

    def decode(self, text: str, where: str) -> Record:
        """See :meth:`RecordFormat.decode`."""
        return parse_record(text, where)


def parse_record(text: str, where: str) -> Record:
    """Return the record that ``text`` holds.

    :param text: what the store holds.
    :param where: the place, for the error.
    :raises StoreNotWritable: it is no record. Nobody but a person can tell what else to do with it.
    """
    try:
        record = Record.from_json(text)
    except ValueError as error:
        raise not_a_record(where, error) from None
    mask_record(record)
    return record


def not_a_record(where: str, error: ValueError) -> StoreNotWritable:
    """Return the error for a place whose text is no record.

    :param where: the place.
    :param error: what is wrong with the text, without quoting it.
    """
    return StoreNotWritable(
        f"{where} does not hold a token record of this version ({error}). If nothing else uses it, "
        "remove it and enter a new refresh token in the connection."
    )


def mask_record(record: Record) -> None:
    """Hide the tokens of ``record`` in logs."""
    masking.mask_secret(record.access_token)
    masking.mask_secret(record.refresh_token)


def is_leased(text: str) -> bool:
    """Tell whether the record in ``text``, which this package has written just now, carries a lease."""
    return "lease" in json.loads(text)


class BaseStore:
    """What stores with and without compare-and-set have in common: reading, versions, masking."""

    def __init__(
        self, backend: Backend | PlainBackend, record_format: RecordFormat | None, permit: Permit | None
    ) -> None:
        self._place = backend
        self._format = record_format or ClearFormat()
        self._permit = permit
        self.name = backend.name

    @property
    def where(self) -> str:
        """What to call the place in a sentence."""
        return self._place.where

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """See :attr:`RecordFormat.sealed_with`."""
        return self._format.sealed_with

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        return self._decode(self._fetch())

    def _fetch(self) -> Fetched:
        """Return what the place holds, if the connection may use it."""
        try:
            fetched = self._place.fetch()
        except OAuth2Error as failure:
            if self._permit is not None and self._permit.hides(failure):
                self._permit.check(None)
            raise
        if self._permit is not None:
            self._permit.check(fetched.connections)
        return fetched

    def _decode(self, fetched: Fetched) -> StoredRecord:
        if fetched.text is None:
            if fetched.entered is not None:
                mask_record(fetched.entered)
            return StoredRecord(fetched.entered, None, fetched.kept, self.where)
        record = self._format.decode(fetched.text, _capitalize(self._place.record_where))
        mask_record(record)
        return StoredRecord(record, version_of(fetched.text), fetched.kept, self.where)

    def _encode(self, record: Record) -> str:
        mask_record(record)
        return self._format.encode(record)

    def _stale_version(self) -> StaleVersion:
        return StaleVersion(f"The record in {self.where} was changed by another worker.")


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


class RecordStore(BaseStore):
    """Keeps records in a place that can compare and set.

    The version of a record is the hash of its text. So a change of what stands beside the record makes no version
    stale, and a worker that wrote without getting an answer recognizes its own write.

    :param backend: the place.
    :param record_format: how records are written there; None: in clear.
    :param permit: whether the connection may use the place; None: it may, the place is its own.
    """

    def __init__(
        self, backend: Backend, record_format: RecordFormat | None = None, permit: Permit | None = None
    ) -> None:
        super().__init__(backend, record_format, permit)
        self._backend = backend
        self._last: Fetched | None = None

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        self._last = None
        self._last = self._fetch()
        return self._decode(self._last)

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        text = self._encode(record)
        new_version = str(version_of(text))
        # What was read last is mostly what is there now. The place says so when it is not: no need to ask first.
        fetched, self._last = self._last, None
        for _ in range(ATTEMPTS):
            if fetched is None or version_of(fetched.text) != if_version:
                fetched = self._fetch()
            held = version_of(fetched.text)
            if held != if_version:
                if held == new_version:
                    return new_version  # an earlier write of ours, whose answer was lost
                raise self._stale_version()
            fetched = self._backend.replace(fetched, text)
            if fetched is not None:
                self._last = fetched
                return new_version
            # Somebody wrote in between: the record, or only what stands beside it. Compare anew.
        raise StoreUnavailable(f"{self.where} is being changed all the time; the record was not written.")
