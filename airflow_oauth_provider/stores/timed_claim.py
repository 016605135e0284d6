"""Replace a version in a store that cannot compare and set.

A record with a lease is written as a *claim*: read and compare, write, wait ``delay``, read back. Of workers
that write within ``delay`` of each other the last one finds its own record there, and the others find
another's.

What can still go wrong: worker A's write takes longer than ``delay`` (its machine stalls, the store is slow)
and lands after worker B has written, waited and read back. Now the store shows A's lease, and B acts on its
own. A knows how long its read and write took together, and gives up a claim that took longer than half of
``delay``. Its lease stays in the store on purpose: it keeps everybody else away while B is at work, until it
runs out. B finds out when it writes its tokens, which fails as stale; what it does then is up to the refresh
protocol.

What remains: the store applies A's write *after* it has answered A (asynchronous replication), or A's clock
stands still while its write is under way (a paused virtual machine whose clock is paused too). Plain reads
and writes cannot exclude that. A pool with one slot for the tasks that may refresh can: nobody else writes then.

A record without a lease is compared and written at once: whoever writes one holds the lease, or it is a
person.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable

log = logging.getLogger(__name__)

#: Seconds within which another worker's write must have become visible.
DEFAULT_DELAY = 3.0
#: The part of the delay that a claim's read and write may take together before the claim is doubtful.
SAFE_PART = 0.5
#: How much longer than ``delay`` a claim may wait, as a part of it: workers that start together drift apart.
JITTER = 0.25


def swap(
    *,
    read_version: Callable[[], str | None],
    write: Callable[[], object],
    new_version: str,
    if_version: str | None,
    leased: bool,
    delay: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Replace ``if_version`` by ``new_version``.

    :param read_version: returns the version that the store holds, None for none.
    :param write: writes the new record, whatever the store holds.
    :param new_version: the version of what ``write`` writes.
    :param if_version: what may be replaced.
    :param leased: whether the new record carries a lease, and so has to be claimed.
    :param delay: seconds within which another worker's write must have become visible.
    :return: ``new_version``.
    :raises StaleVersion: somebody else has written, or it cannot be told whether they have.
    :raises StoreNotWritable: what is written does not show when it is read.
    """
    started = clock()
    held = read_version()
    if held == new_version and not leased:
        return new_version  # our own write, whose answer was lost
    if held != if_version:
        raise StaleVersion("Another worker has written the record.")
    write()
    if not leased:
        return new_version
    took = clock() - started

    def wait() -> None:
        sleep(delay * (1 + random.uniform(0, JITTER)))  # noqa: S311 - spreads load, guards nothing

    wait()
    seen = read_version()
    if seen == if_version:
        # As if nothing had been written. Once more, in case the store is slow to show it.
        wait()
        seen = read_version()
        if seen == if_version:
            raise StoreNotWritable(
                "What was written does not show when it is read again: an environment variable or a secrets "
                "backend of Airflow's API server stands before it. Remove it there, or use another store."
            )
    if seen != new_version:
        raise StaleVersion("Another worker has claimed the record at the same time.")
    if took > delay * SAFE_PART:
        log.warning("Taking the refresh lease took %.1f s, too long to be sure of it; it is left to run out.", took)
        raise StaleVersion("The store was too slow to tell whether another worker has claimed the record too.")
    return new_version
