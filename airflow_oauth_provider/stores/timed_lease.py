"""A token store on a place that cannot compare and set: a lease is written, and counts once it has stayed for a while.

A worker that wants the lease reads, compares, writes its lease, waits for ``settle_time`` and reads again. If several
do so at once, the last one to write finds its own lease, and the others find hers.

A write that takes longer than ``settle_time`` could land after another worker has written, waited and begun to
refresh. So a worker that was too slow sends nothing. Its lease stays in the store until it runs out, which is soon, as
nothing was sent under it. If the other worker exists, the lease keeps everybody else away while she refreshes. A slow
read alone does no harm: it is repeated before anything is written.

What plain reads and writes cannot exclude: a place that applies a write after it has answered (asynchronous
replication), and a worker whose clock stands still during its write (a paused virtual machine). A pool with one slot
for the tasks that may refresh excludes both.

A record without a lease, or with one that is renewed, is compared and written at once: whoever writes it holds the
lease, or is a person.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import Permit
from airflow_oauth_provider.stores.backend import Fetched, PlainBackend
from airflow_oauth_provider.stores.record_store import BaseStore, RecordFormat
from airflow_oauth_provider.tokens.record import Record, StoredRecord

log = logging.getLogger(__name__)

#: The part of the settle time that a read and the write after it may take. What is left, a place may take to show it.
SAFE_PART = 0.8
#: The part of the settle time that a read may take before it is repeated, and how many reads there are at the most.
QUICK_PART = 0.25
LOOKS = 3
#: How much longer than the settle time a worker may wait, as a part of it: it spreads workers that start together.
JITTER = 0.25


class TimedLeaseStore(BaseStore):
    """Keeps records in a place that can only be read and written.

    :param backend: the place.
    :param record_format: how records are written there; None: in clear.
    :param permit: whether the connection may use the place; None: it may, the place is its own.
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
        self._backend = backend
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
