"""Writing what must not be lost: new tokens, after the refresh token that brought them was spent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from airflow_oauth_provider.exceptions import OAuth2Error, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.clock import Backoff, Clock
from airflow_oauth_provider.tokens.configuration import Snapshot
from airflow_oauth_provider.tokens.lease import HeldLease, LeaseWatch
from airflow_oauth_provider.tokens.record import FallbackStore, Record, StoredRecord
from airflow_oauth_provider.tokens.sealing import fallback_key, seal, unseal

log = logging.getLogger(__name__)


class Superseded(Exception):
    """The store holds something newer than what this refresh began from: begin anew."""


@dataclass(slots=True)
class _Work:
    """How far a save has come: the version to replace, and whether the fallback store has a copy."""

    version: str | None
    rescued: bool = False


class Persistence:
    """Brings new tokens into the store, or else into the fallback store, and back from there.

    :param fallback: None where there is none.
    :param watch: knows when another worker's lease has ended.
    :param mask: told of every record before anything can log it.
    """

    def __init__(
        self, fallback: FallbackStore | None, clock: Clock, watch: LeaseWatch, mask: Callable[[Record], None]
    ) -> None:
        self._fallback = fallback
        self._clock = clock
        self._watch = watch
        self._mask = mask

    def save(self, held: HeldLease, new: Record) -> str:
        """Write the new tokens, whatever it takes, and return the kind of store that has them now.

        :param held: the lease under which they were obtained.
        :raises Superseded: another worker's tokens are newer and stay.
        :raises StoreUnavailable: neither the store nor the fallback store could be written until the lease ended.
        """
        work = _Work(held.version)
        pauses = Backoff(self._clock, first=0.05, longest=2.0)
        while True:
            try:
                if self._write(held, new, work):
                    break
            except StoreUnavailable as failure:
                if self._clock.elapsed() > held.write_until:
                    return self._give_to_fallback(held, new, work, failure)
                log.warning("Connection %r: the new tokens are not written yet: %s", held.conn_id, failure)
                # At once: the next try may hang beyond the end of the lease, or this process be killed meanwhile.
                self._copy(held, new, work, until=self._clock.elapsed())
                pauses.wait()
            except Superseded:
                raise
            except OAuth2Error as failure:
                # Trying again is of no use: somebody has taken away the store, or the right to write to it.
                return self._give_to_fallback(held, new, work, failure)
            except Exception as failure:
                self._give_to_fallback(held, new, work, StoreUnavailable(type(failure).__name__))
                raise
        if work.rescued:
            self._forget(held.conn_id, new.generation, held.record.refresh_token or "")
        return held.snapshot.store.name

    def _write(self, held: HeldLease, new: Record, work: _Work) -> bool:
        store = held.snapshot.store
        try:
            store.write(new, if_version=work.version)
        except StaleVersion:
            stored = store.read()
            if stored.record == new:
                return True  # an earlier write of ours did land, only its answer was lost
            self._yield_to(held, new, stored, work)
            work.version = stored.version
            return False
        return True

    def _give_to_fallback(self, held: HeldLease, new: Record, work: _Work, failure: OAuth2Error) -> str:
        if not held.snapshot.configuration.rotates:
            log.warning("Connection %r: the new token is kept in this process only: %s", held.conn_id, failure)
            return "memory"  # anyone can ask for such a token again
        if not work.rescued:
            # Whoever comes late tries for as long as everybody else: there is no other copy.
            until = max(held.ends_at, self._clock.elapsed() + held.budget.rescue)
            self._rescue(held, new, failure, until)
        return "fallback"

    def _copy(self, held: HeldLease, new: Record, work: _Work, until: float) -> None:
        """Have the fallback store keep a copy while the store is still being tried, once and until ``until``."""
        if work.rescued or not held.snapshot.configuration.rotates:
            return
        try:
            self._rescue(held, new, None, until)
        except Exception as failure:  # noqa: BLE001 - whatever ails the fallback, the store is still being tried
            reason = failure if isinstance(failure, OAuth2Error) else type(failure).__name__
            log.warning("Connection %r: no copy in the fallback store: %s", held.conn_id, reason)
        else:
            work.rescued = True

    def recover(self, snapshot: Snapshot, record: Record) -> bool:
        """Look for tokens that the last holder of the lease could not write; return whether the store has changed.

        :param snapshot: the connection as just read.
        :param record: its record, whose lease has ended.
        :raises StoreUnavailable: when it cannot be told whether there are any: then nothing may be spent.
        :raises StoreNotWritable: when there are, but they cannot be read.
        """
        configuration = snapshot.configuration
        if self._fallback is None or not configuration.rotates or not record.refresh_token:
            return False
        spent = record.refresh_token
        place = fallback_key(record.generation + 1, spent)
        ciphertext = self._fallback.load(place)
        if ciphertext is None:
            return False
        rescued = unseal(ciphertext, spent)
        if rescued is None:  # that there is an entry proves that the refresh token is spent
            raise StoreNotWritable(
                f"its newest tokens are in the fallback store, under {place!r}, but that entry does not open: it is "
                "damaged, or was written by a later version of this provider. The refresh token before them is spent, "
                "so nothing was sent. Restore the entry, or update the provider on this worker; else sign in again: "
                "enter a new refresh token.",
                conn_id=configuration.conn_id,
            )
        self._mask(rescued)
        rescued = rescued.with_event(self._clock.now(), "recovered")
        try:
            snapshot.store.write(rescued, if_version=snapshot.version)
        except StaleVersion:
            return True
        log.warning(
            "Connection %r: brought back the tokens of generation %d, which could not be written to the %s store",
            configuration.conn_id,
            rescued.generation,
            snapshot.store.name,
        )
        self._forget(configuration.conn_id, rescued.generation, spent)
        return True

    def _yield_to(self, held: HeldLease, new: Record, stored: StoredRecord, work: _Work) -> None:
        """Let another worker go first that has taken over and may spend the same refresh token."""
        other = stored.record
        if other is None:
            return
        if precedence.has_moved_on(held.record, other):
            log.warning(
                "Connection %r: this refresh came back after its lease had ended; another worker's newer tokens stay",
                held.conn_id,
            )
            raise Superseded
        # A lease under which nothing was sent gives way: whoever wrote it has spent nothing.
        if (
            other.lease is None
            or not other.lease.sent
            or other.lease.owner == held.lease.owner
            or self._watch.is_over(other.lease)
        ):
            return
        self._copy(held, new, work, until=self._clock.elapsed() + held.budget.rescue)
        Backoff(self._clock, first=0.3).wait()

    def _rescue(self, held: HeldLease, new: Record, failure: OAuth2Error | None, until: float) -> None:
        if self._fallback is None:
            raise failure or StoreUnavailable("there is no fallback store", conn_id=held.conn_id)
        spent = held.record.refresh_token or ""
        place, sealed = fallback_key(new.generation, spent), seal(replace(new, lease=None), spent)
        pauses = Backoff(self._clock, first=0.05, longest=1.0)
        while True:
            try:
                self._fallback.save(place, sealed)
            except StoreUnavailable:
                if self._clock.elapsed() >= until:
                    raise
                pauses.wait()
            else:
                break
        log.warning(
            "Connection %r: the tokens of generation %d are in the fallback store (%s) until the %s store takes them",
            held.conn_id,
            new.generation,
            place,
            held.snapshot.store.name,
        )

    def _forget(self, conn_id: str, generation: int, spent: str) -> None:
        if self._fallback is None:
            return
        try:
            self._fallback.remove(fallback_key(generation, spent))
        except StoreUnavailable as failure:
            # It opens with a spent refresh token only, and is never looked for again.
            log.warning("Connection %r: an outdated entry stays in the fallback store: %s", conn_id, failure)
