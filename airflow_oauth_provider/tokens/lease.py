"""The exclusive right to refresh: how long it lasts, how it is renewed, and when another worker's has ended."""

from __future__ import annotations

import contextvars
import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_oauth_provider.tokens import messages
from airflow_oauth_provider.tokens.clock import Backoff, Clock
from airflow_oauth_provider.tokens.configuration import Snapshot
from airflow_oauth_provider.tokens.record import Lease, Record

log = logging.getLogger(__name__)

#: The longest time that one lease leaves for token requests, in seconds; a longer request needs a renewal.
MAX_SPEND = 12.0
#: How long a lease lasts that has not settled, in settle times: a place may need two to show what was written.
UNSETTLED = 4.0
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class LeaseBudget:
    """How the time of a lease is divided, in seconds.

    :param spend: from taking or renewing the lease until the token request has ended.
    :param write: from then on, for writing the new tokens to the store.
    :param rescue: from then on, for writing them to the fallback store.
    """

    spend: float
    write: float = 4.0
    rescue: float = 4.0

    @classmethod
    def for_timeout(cls, timeout: float) -> LeaseBudget:
        """Return the budget for a connection's HTTP timeout in seconds: 20 s in all, less for a short timeout."""
        return cls(spend=min(timeout + 2.0, MAX_SPEND))

    @property
    def total(self) -> float:
        """Length of the lease."""
        return self.spend + self.write + self.rescue

    @property
    def renewal(self) -> float:
        """When the lease is renewed if it is still needed, counted from when it was taken or renewed."""
        return self.spend / 2


def make_lease(budget: LeaseBudget, now: float, actor: str, settle_time: float) -> Lease:
    """Return a new lease of this process.

    :param budget: how long it lasts.
    :param now: the wall clock, in seconds since the epoch.
    :param actor: who takes it, for people.
    :param settle_time: of the store; see :class:`~airflow_oauth_provider.tokens.record.StoredRecord`.
    """
    lease = Lease(uuid.uuid4().hex, budget.total, now, process=identify_process(), actor=actor)
    if not settle_time:
        return lease
    # Not to be sent under before it has settled, and then renewed: if this worker dies or gives up, others need not
    # wait as long as for one who may have sent something.
    return replace(lease, sent=False, seconds=max(budget.spend, UNSETTLED * settle_time))


@dataclass(slots=True)
class HeldLease:
    """A lease that this process holds. A renewal changes ``record``, ``version``, ``began`` and ``began_wall``.

    :param snapshot: the connection as it was when the lease was taken.
    :param record: the record as written with the lease.
    :param version: the version of that.
    :param began: elapsed time, in seconds, before the lease was written.
    :param began_wall: the same by the wall clock.
    :param budget: how its time is divided.
    :param interrupted: what is known of a request whose outcome nobody knows.
    """

    snapshot: Snapshot
    record: Record
    version: str
    began: float
    began_wall: float
    budget: LeaseBudget
    interrupted: str | None = None

    @property
    def conn_id(self) -> str:
        """The connection's name."""
        return self.snapshot.configuration.conn_id

    @property
    def lease(self) -> Lease:
        """The lease as it was written last."""
        if self.record.lease is None:
            raise AssertionError("a held lease without a lease")
        return self.record.lease

    @property
    def renew_at(self) -> float:
        """Elapsed time from which on the lease has to be renewed before anything is sent under it."""
        return self.began + self.budget.renewal

    @property
    def spend_until(self) -> float:
        """Elapsed time at which the token request must have ended."""
        return self.began + self.budget.spend

    @property
    def write_until(self) -> float:
        """Elapsed time from which on the fallback store is used."""
        return self.spend_until + self.budget.write

    @property
    def ends_at(self) -> float:
        """Elapsed time at which other workers may take over."""
        return self.began + self.budget.total


@contextmanager
def keep_lease(first: float, renew: Callable[[], float | None]) -> Iterator[None]:
    """Renew a lease in a thread of its own while a request is in flight.

    :param first: seconds until the first renewal.
    :param renew: renews, and returns the seconds until the next time; None: no more.
    """
    ended = threading.Event()

    def run() -> None:
        wait: float | None = first
        while wait is not None and not ended.wait(wait):
            wait = renew()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    with suppress(RuntimeError):  # no thread is to be had: the request has the time of one lease
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join()  # a store is used by one thread at a time


class LeaseWatch:
    """Times leases by how long this process has seen them.

    The wall clocks of two machines may differ by minutes, so the date that a holder wrote on its lease is not used.
    Whoever looks saw the lease later than it was taken, so the holder's time is up first.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_seen: dict[tuple[str, int], float] = {}
        self._own: set[str] = set()
        self._held: set[str] = set()

    def hold(self, owner: str) -> None:
        """Note that this process refreshes under the lease ``owner``, from before it is written.

        As long as it does, the lease binds everybody, this process too: a signal handler may want a token in the middle
        of a refresh.
        """
        self._own.add(owner)
        self._held.add(owner)

    def end(self, owner: str) -> None:
        """Note that nothing is done under ``owner`` any more, even where it stays in the store."""
        self._held.discard(owner)

    def disown(self, owner: str) -> None:
        """Note that somebody else may be at work where ``owner`` stands: it has to run out, as any other's."""
        self._own.discard(owner)
        self._held.discard(owner)

    def left(self, lease: Lease) -> float:
        """Return the seconds for which ``lease`` still binds; zero or less: it is over."""
        if lease.owner in self._own:
            return lease.seconds if lease.owner in self._held else 0.0
        now = self._clock.elapsed()
        version = lease.owner, lease.renewals
        if version not in self._first_seen:
            # Only the lease seen last matters: versions never come back.
            self._first_seen = {version: now}
        left = lease.seconds - (now - self._first_seen[version])
        # A lease under which nothing was sent may have been written over another one: it has to run out.
        return 0.0 if lease.sent and is_process_gone(lease.process) else left

    def is_over(self, lease: Lease) -> bool:
        """Tell whether ``lease`` binds nobody any more."""
        return self.left(lease) <= 0


class WaitForHolder:
    """One caller's waiting for the holders of leases. It logs one line for each holder, and one at the end."""

    def __init__(self, clock: Clock, conn_id: str) -> None:
        self._clock = clock
        self._conn_id = conn_id
        self._owner: str | None = None
        self._began = self._owner_began = 0.0
        self._pauses = Backoff(clock, first=0.02)

    def seconds(self, lease: Lease | None) -> float:
        """Return for how long the holder of ``lease`` has been waited for."""
        return 0.0 if lease is None or lease.owner != self._owner else self._clock.elapsed() - self._owner_began

    def note(self, lease: Lease, left: float) -> None:
        """Note that ``lease`` is waited for; log it if it is another holder's than before.

        :param left: seconds for which it still binds.
        """
        if lease.owner == self._owner:
            return
        now = self._clock.elapsed()
        if self._owner is None:
            self._began = now
        self._owner, self._owner_began = lease.owner, now
        self._pauses = Backoff(self._clock, first=0.02)
        log.info("%s", messages.waiting_begins(self._conn_id, lease, left))

    def pause(self) -> None:
        """Wait a moment, a little longer each time."""
        self._pauses.wait()

    def end(self) -> float | None:
        """Log that the waiting has ended, and return its seconds; None where there was none."""
        if self._owner is None:
            return None
        waited = self._clock.elapsed() - self._began
        log.info("Connection %r: waited %.1f s for another worker's refresh", self._conn_id, waited)
        return waited


def identify_process() -> str:
    """Return a name for this process, for :func:`is_process_gone`; empty where it cannot be told apart for certain.

    It is made of machine, boot, namespaces, number and start time, so that a number that is used again, another
    container or another machine is never taken for this process. Linux only.
    """
    try:
        place, started = _identify_place(), _read_start_time(os.getpid())
    except OSError:
        return ""
    return f"{place}:{os.getpid()}:{started}" if place and started else ""


def is_process_gone(identity: str) -> bool:
    """Tell whether the process of that name has certainly ended; False where that cannot be told from here.

    :param identity: what :func:`identify_process` returned in that process.
    """
    place, _, rest = identity.partition(":")
    number, _, started = rest.partition(":")
    try:
        if not place or place != _identify_place() or not (number.isdecimal() and number.isascii()):
            return False
        os.kill(int(number), 0)  # the kernel's word: /proc may hide the processes of other users
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    try:
        return _read_start_time(int(number)) != started or _is_zombie(int(number))
    except OSError:
        return False  # if it has ended just now, the next look tells


def _identify_place() -> str:
    """Return a hash of machine, boot and namespaces; empty where /proc does not show this process's own namespace."""
    if os.readlink(_PROC / "self") != str(os.getpid()):
        return ""
    parts = [(_PROC / "sys/kernel/random/boot_id").read_text().strip(), os.uname().nodename]
    parts.append(os.readlink(_PROC / "self/ns/pid"))
    # Start times are counted by the clock of the time namespace, where the kernel has them (5.6).
    parts.append(os.readlink(_PROC / "self/ns/time") if (_PROC / "self/ns/time").is_symlink() else "")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read_start_time(number: int) -> str:
    return _read_fields(_PROC / str(number) / "stat")[19]


def _is_zombie(number: int) -> bool:
    """Tell whether no thread of the process runs any more; its parent has only not looked yet."""
    threads = (_PROC / str(number) / "task").iterdir()
    return all(_read_fields(thread / "stat")[0] in ("Z", "X") for thread in threads)


def _read_fields(stat: Path) -> list[str]:
    # The second field is the program's name in parentheses, and may hold anything.
    return stat.read_text().rpartition(")")[2].split()
