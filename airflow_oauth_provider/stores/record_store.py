"""The token store on any place: on one that can compare and set, and on one that can only be read and written."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from airflow_oauth_provider.compat import deployment, masking
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import OAuth2Error, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import Permit
from airflow_oauth_provider.stores.backend import Backend, Fetched, Place, PlainBackend
from airflow_oauth_provider.tokens.record import Record, StoredRecord

log = logging.getLogger(__name__)

P = TypeVar("P", bound=Place)

#: How many times a write is tried when others keep changing what stands beside the record.
ATTEMPTS = 20
#: The part of the settle time that a read and the write after it may take. What is left, a place may take to show it.
SAFE_PART = 0.8
#: The part of the settle time that a read may take before it is repeated, and how many reads there are at the most.
QUICK_PART = 0.25
LOOKS = 3
#: How much longer than the settle time a worker may wait, as a part of it: it spreads workers that start together.
JITTER = 0.25


class RecordFormat:
    """How a record is turned into the text that a place holds, and back: JSON in clear, unless a subclass seals it."""

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """Names of the secrets each of which opens the text last read or written; none where it is in clear."""
        return ()

    def encode(self, record: Record) -> str:
        """Return the text for ``record``: twice the same one for the same record."""
        return record.to_json()

    def decode(self, text: str, where: str) -> Record:
        """Return the record in ``text``; ``where`` is the place, for the error.

        :raises StoreNotWritable: it is no record.
        """
        return parse_record(text, where)


def parse_record(text: str, where: str) -> Record:
    """Return the record that ``text`` holds; ``where`` is the place, for the error.

    :raises StoreNotWritable: it is no record. Nobody but a person can tell what else to do with it.
    """
    try:
        record = Record.from_json(text)
    except ValueError as error:
        raise not_a_record(where, error) from None
    mask_record(record)
    return record


def not_a_record(where: str, error: ValueError) -> StoreNotWritable:
    """Return the error for a place whose text is no record; ``error`` says what is wrong without quoting it."""
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


class BaseStore(Generic[P]):
    """What stores with and without compare-and-set have in common: reading, versions, masking.

    :param backend: the place.
    :param record_format: how records are written there; None: in clear.
    :param permit: whether the connection may use the place; None: it may, the place is its own.
    """

    def __init__(self, backend: P, record_format: RecordFormat | None = None, permit: Permit | None = None) -> None:
        self._backend = backend
        self._format = record_format or RecordFormat()
        self._permit = permit
        self.name, self.where = backend.name, backend.where

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
            fetched = self._backend.fetch()
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
        where = self._backend.record_where
        record = self._format.decode(fetched.text, where[:1].upper() + where[1:])
        mask_record(record)
        return StoredRecord(record, version_of(fetched.text), fetched.kept, self.where)

    def _encode(self, record: Record) -> str:
        mask_record(record)
        return self._format.encode(record)

    def _stale_version(self) -> StaleVersion:
        return StaleVersion(f"The record in {self.where} was changed by another worker.")


class RecordStore(BaseStore[Backend]):
    """Keeps records in a place that can compare and set.

    The version of a record is the hash of its text. So a change of what stands beside the record makes no version
    stale, and a worker that wrote without getting an answer recognizes its own write.
    """

    #: What was read or written last; None: the place has to be asked anew.
    _last: Fetched | None = None

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


class TimedLeaseStore(BaseStore[PlainBackend]):
    """Keeps records in a place that can only be read and written: a lease counts once it has stayed for a while.

    A worker that wants the lease reads, compares, writes its lease, waits for ``settle_time`` and reads again. If
    several do so at once, the last one to write finds its own lease, and the others find that one.

    A write that takes longer than ``settle_time`` could land after another worker has written, waited and begun to
    refresh. So a worker that was too slow sends nothing. Its lease stays in the store until it runs out, which is soon,
    as nothing was sent under it: it keeps all others away while that other worker, if there is one, refreshes. A slow
    read alone does no harm: it is repeated before anything is written.

    What plain reads and writes cannot exclude: a place that applies a write after it has answered (asynchronous
    replication), and a worker whose clock stands still during its write (a paused virtual machine). A pool with one
    slot for the tasks that may refresh excludes both.

    A record without a lease, or with one that is renewed, is compared and written at once: whoever writes it holds the
    lease, or is a person.

    :param backend: the place; it, the format and the permit are those of :class:`BaseStore`.
    :param settle_time: seconds for which a lease has to stay in the place before it counts; None: as the deployment
        says (``[oauth2] settle_time``).
    :param sleep: waits so many seconds.
    :param clock: tells elapsed seconds.
    """

    def __init__(
        self,
        backend: PlainBackend,
        record_format: RecordFormat | None = None,
        permit: Permit | None = None,
        *,
        settle_time: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(backend, record_format, permit)
        self._settle_time = deployment.settle_time() if settle_time is None else settle_time
        self._sleep = sleep
        self._clock = clock
        #: The lease that this store wrote last, and the seconds that its write took.
        self._written: tuple[str, float] | None = None

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        text = self._encode(record)
        new_version = str(version_of(text))
        if record.lease is not None and not record.lease.renewals:
            self._take_lease(text, new_version, if_version)
            return new_version
        fetched = self._fetch()
        if self._may_replace(fetched, new_version, if_version):
            self._backend.put(fetched, text)
        return new_version

    def _decode(self, fetched: Fetched) -> StoredRecord:
        return replace(super()._decode(fetched), settle_time=self._settle_time)

    def _may_replace(self, fetched: Fetched, new_version: str, if_version: str | None) -> bool:
        """Tell whether to write; no: it has been written, and only the answer was lost.

        :raises StaleVersion: the place holds something else.
        """
        held = version_of(fetched.text)
        if held == if_version:
            return True
        if held == new_version:
            return False
        raise self._stale_version()

    def _take_lease(self, text: str, new_version: str, if_version: str | None) -> None:
        began, fetched = self._look()
        lost: StoreUnavailable | None = None
        if version_of(fetched.text) != new_version and self._may_replace(fetched, new_version, if_version):
            try:
                self._backend.put(fetched, text)
            except StoreUnavailable as failure:
                lost = failure  # it may have been written all the same
            self._written = new_version, self._clock() - began
        self._check_settled(new_version, if_version, lost)
        written, took = self._written or ("", 0.0)
        if written != new_version or took > self._settle_time * SAFE_PART:
            log.warning(
                "Writing the refresh lease took %.1f s, so another worker may be refreshing already. Nothing was sent. "
                "The lease stays in %s until it runs out.",
                took,
                self.where,
            )
            raise StaleVersion("The store was too slow to tell whether another worker has taken the lease too.")

    def _look(self) -> tuple[float, Fetched]:
        """Return what the place holds, and the elapsed time at which this read began: one that was quick, if any is."""
        for _ in range(LOOKS):
            began = self._clock()
            fetched = self._fetch()
            if self._clock() - began <= self._settle_time * QUICK_PART:
                break
        return began, fetched

    def _check_settled(self, new_version: str, if_version: str | None, lost: StoreUnavailable | None) -> None:
        """Wait, and raise unless the lease is what the place holds then.

        :param lost: the failure of the write, where it failed.
        :raises StaleVersion: another worker's lease, or record, is there.
        :raises StoreNotWritable: what is written does not show when it is read.
        """
        for _ in range(2):  # twice, for a place that is slow to show what was written
            self._sleep(self._settle_time * (1 + random.uniform(0, JITTER)))  # noqa: S311 - it guards nothing
            seen = version_of(self._fetch().text)
            if seen == new_version:
                return
            if seen != if_version:
                break
        if seen != if_version:
            raise StaleVersion(f"Another worker has taken the lease in {self.where} at the same time.")
        if lost is not None:
            raise lost
        raise StoreNotWritable(
            f"What was written to {self.where} does not show when it is read again: an environment variable or a "
            "secrets backend of Airflow's API server stands before it. Remove it there, or use another store."
        )
