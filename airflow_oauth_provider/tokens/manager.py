"""Keeps the access token of one connection fresh, together with everybody else who uses it."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import tenacity

from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    OAuth2Error,
    ReauthorizationRequired,
    RefreshTimeout,
    RefreshTooEarly,
    StoreUnavailable,
    TokenRequestError,
)
from airflow_oauth_provider.oauth2.dpop import Prover, get_prover
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.tokens import expiry, history, messages, precedence
from airflow_oauth_provider.tokens.backoff import Backoff
from airflow_oauth_provider.tokens.cache import TokenCache
from airflow_oauth_provider.tokens.clock import Clock, SystemClock
from airflow_oauth_provider.tokens.configuration import ConfigurationSource, GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.lease import LeaseBudget, LeaseWatch
from airflow_oauth_provider.tokens.persistence import Persistence
from airflow_oauth_provider.tokens.record import Record, fingerprint
from airflow_oauth_provider.tokens.refresh import Refresher, RequestToken, RestartRefresh
from airflow_oauth_provider.tokens.result import TokenRequirements, TokenResult
from airflow_oauth_provider.tokens.shield import run_to_end
from airflow_oauth_provider.tokens.store import FallbackStore

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for which a caller whose token still works waits for another worker's refresh before it goes on with it.
PATIENCE_WITH_A_WORKING_TOKEN = 2.0
#: Seconds that one call waits at the most because the server or the vendor wants the refresh later.
LONGEST_PAUSE = 60.0


_managers: weakref.WeakSet[TokenManager] = weakref.WeakSet()


def _renew_managers() -> None:
    for manager in _managers:
        manager.renew_after_fork()


os.register_at_fork(after_in_child=_renew_managers)


class TokenManager:
    """Hands out the access token of one connection, and has it refreshed when that is due.

    :param source: reads the connection and its record.
    :param fallback: where rotated tokens go when the store stays away; None: nowhere.
    :param request: sends one token request.
    :param clock: wall clock, elapsed time and sleep.
    :param mask: told of every secret before anything can log it.
    :param budget: how the time of a lease is divided; None derives it from the connection's timeout.
    :param actor: who asks, for the grant's history: ``dag_id/task_id``, a command, a user's name.

    One instance may be used by many threads.
    """

    def __init__(
        self,
        source: ConfigurationSource,
        fallback: FallbackStore | None = None,
        *,
        request: RequestToken = request_token,
        clock: Clock | None = None,
        mask: Callable[[str], None] = lambda _: None,
        budget: LeaseBudget | None = None,
        actor: str = "",
    ) -> None:
        self._source = source
        self._clock = clock or SystemClock()
        self._mask_secret = mask
        self._masked: set[str | None] = set()
        self._watch = LeaseWatch(self._clock)
        actor = history.printable(actor)[: history.MAX_ACTOR]
        self._keeping = Persistence(fallback, self._clock, self._watch, self._mask)
        self._refresher = Refresher(source, request, self._keeping, self._watch, self._clock, self._mask, budget, actor)
        self._in_hand = TokenCache(self._clock)
        self._refreshed_once = False
        self._conn_id = ""
        self._prover: Prover | None = None
        self._lock = threading.RLock()
        _managers.add(self)

    def renew_after_fork(self) -> None:
        """Begin anew in a child process: a thread that held the lock is the parent's."""
        self._lock = threading.RLock()

    def access_token(self, *, min_ttl: float = 0.0, rejected: str | None = None) -> str:
        """Return an access token to send now; see :meth:`obtain`.

        :param min_ttl: seconds that it must still live.
        :param rejected: an access token that the API turned down.
        """
        token = self.obtain(TokenRequirements(min_ttl=min_ttl, rejected=rejected)).record.access_token
        if token is None:
            raise AssertionError("obtain() returned without an access token")
        return token

    @property
    def prover(self) -> Prover | None:
        """What proves possession of the key that the access token is bound to (RFC 9449); None: it is bound to none.

        Known from the first token on.
        """
        return self._prover

    def token_in_hand(self) -> str | None:
        """Return the access token if it is fresh and known without asking anybody; never blocks."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            return None
        try:
            held = self._in_hand.serve(TokenRequirements())
        finally:
            lock.release()
        return None if held is None else held.record.access_token

    def obtain(self, demand: TokenRequirements) -> TokenResult:
        """Return a record whose access token meets ``demand``, refreshed where need be.

        A fresh token costs one read of the store, and nothing while this process has it in hand; a refresh costs one
        read, two writes and one token request. When a refresh fails for a passing reason and the token at hand still
        works, that one is returned, with a warning.

        :param demand: what the caller wants.
        :raises ReauthorizationRequired: when the refresh token is dead.
        :raises ConfigurationError: when the connection is wrong.
        :raises TokenRequestError: when the token endpoint fails.
        :raises StoreUnavailable: when the store fails.
        :raises RefreshTimeout: when other workers hold the lease for too long.
        :raises RefreshTooEarly: when the vendor wants the refresh later than a task should wait.
        """
        lock = self._lock
        if not lock.acquire(timeout=PATIENCE_WITH_A_WORKING_TOKEN):
            working = self._in_hand.working(demand)  # while another thread refreshes
            if working is not None:
                return working
            lock.acquire()
        try:
            return self._in_hand.serve(demand) or self._obtain(demand)
        finally:
            lock.release()

    def _obtain(self, demand: TokenRequirements) -> TokenResult:
        try:
            with self._named():
                return self._until_served(demand)
        except (TokenRequestError, StoreUnavailable, RefreshTimeout, RefreshTooEarly) as failure:
            served = self._in_hand.serve_for_want_of_better(demand, str(failure))
            if served is None:
                raise
            log.warning("%s The token at hand still works and is served.", failure)
            return served

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OAuth2Error as failure:
            if self._conn_id:
                failure.name_connection(self._conn_id)
            raise

    def _until_served(self, demand: TokenRequirements) -> TokenResult:
        first_generation: int | None = None
        gives_up_at = math.inf
        pauses = Backoff(self._clock, first=0.02)
        while True:
            snapshot = self._retried(self._source.load)
            configuration = snapshot.configuration
            self._conn_id = configuration.conn_id
            self._prover = get_prover(configuration.client.dpop_key) if configuration.client.dpop_key else None
            record = precedence.current(configuration, snapshot.record)
            if first_generation is None:
                first_generation = record.generation
                gives_up_at = (
                    self._clock.elapsed() + 3 * self._refresher.budget_for(configuration).total + LONGEST_PAUSE
                )
            served = self._stored(snapshot, record, demand, first_generation)
            if served is not None:
                return served
            self._check_refreshable(configuration, record)
            if self._clock.elapsed() > gives_up_at:
                raise RefreshTimeout(messages.lease_held_too_long(configuration.conn_id))
            if self._may_not_yet(configuration, record, demand):
                continue
            polled = self._wait_for_lease(snapshot, record, demand)
            if polled is not None:
                # Good for being served. A refresh would take the connection as it is now.
                served = self._stored(
                    polled, precedence.current(configuration, polled.record), demand, first_generation
                )
                if served is not None:
                    return served
                continue
            try:
                refreshed = run_to_end(lambda now=snapshot, r=record: self._refresher.refresh(now, r))  # type: ignore[misc]
            except RestartRefresh:
                pauses.wait()
                continue
            self._refreshed_once = True
            return self._in_hand.take(refreshed, configuration.policy)

    def _stored(
        self, snapshot: Snapshot, record: Record, demand: TokenRequirements, first_generation: int
    ) -> TokenResult | None:
        """Take the stored token in hand, and return it if it meets ``demand``."""
        self._mask(record)
        if self._in_hand.is_ahead_of(record):
            return None
        outcome = self._in_hand.take(TokenResult(record, snapshot.store.name), snapshot.configuration.policy)
        return outcome if self._serves(snapshot.configuration, record, demand, first_generation) else None

    def _serves(
        self, configuration: GrantConfiguration, record: Record, demand: TokenRequirements, first_generation: int
    ) -> bool:
        """Tell whether the stored token, just taken in hand, does without a refresh."""
        if record.access_token in (None, demand.rejected):
            return False
        now = self._clock.now()
        if record.generation > first_generation and self._in_hand.left > 0:
            return True  # another worker has refreshed meanwhile, and its result serves everyone
        if demand.force:
            coalesced = record.generation > 0 and expiry.age(record, now) < demand.coalesce_within
            return coalesced and self._in_hand.left > demand.min_ttl
        return not self._is_due(configuration, record, demand, now)

    def _is_due(self, configuration: GrantConfiguration, record: Record, demand: TokenRequirements, now: float) -> bool:
        policy = configuration.policy
        if policy.when in ("never", "unauthorized"):
            return False
        if policy.when == "always" and not self._refreshed_once:
            return demand.rejected is None
        if policy.when == "interval" and self._in_hand.left > demand.min_ttl:
            return expiry.age(record, now) >= policy.interval
        return self._in_hand.left <= expiry.wanted(record, policy.leeway, demand.min_ttl)

    def _check_refreshable(self, configuration: GrantConfiguration, record: Record) -> None:
        """Refuse, before anything is sent, what cannot succeed."""
        if configuration.policy.when == "never":
            raise ConfigurationError(messages.never_refreshed(configuration.conn_id, bool(record.access_token)))
        if configuration.rotates and not record.refresh_token:
            raise ConfigurationError(messages.no_refresh_token(configuration.conn_id, configuration.hint))
        if record.dead is not None and precedence.is_dead(configuration, record):
            raise ReauthorizationRequired(messages.dead_grant(configuration.conn_id, record.dead))

    def _may_not_yet(self, configuration: GrantConfiguration, record: Record, demand: TokenRequirements) -> bool:
        """Keep to the vendor's minimum interval and the server's ``Retry-After``; return whether that took time."""
        now = self._clock.now()
        wait = 0.0
        if record.generation > 0:
            wait = configuration.policy.min_interval - expiry.age(record, now)
        if record.not_before is not None and record.not_before - now <= 2 * LONGEST_PAUSE:
            wait = max(wait, record.not_before - now)
        if wait <= 0:
            return False
        works = record.access_token not in (None, demand.rejected) and self._in_hand.left > 0
        if works or wait > LONGEST_PAUSE:
            raise RefreshTooEarly(messages.too_early(configuration.conn_id, wait))
        log.info("Connection %r: the next refresh is allowed in %.1f s; waiting", configuration.conn_id, wait)
        self._clock.sleep(wait)
        return True

    def _wait_for_lease(self, snapshot: Snapshot, record: Record, demand: TokenRequirements) -> Snapshot | None:
        """Wait while another worker refreshes; return what the store holds then, None where nobody is at it."""
        lease, now = record.lease, snapshot
        if lease is None:
            return None
        if self._watch.is_over(lease):
            return self._polled(snapshot) if self._retried(lambda: self._keeping.recover(snapshot, record)) else None
        works = record.access_token not in (None, demand.rejected) and not demand.force
        began = self._clock.elapsed()
        pauses = Backoff(self._clock, first=0.02)
        while not self._watch.is_over(lease):
            pauses.wait()
            now = self._polled(snapshot)
            if now.record is None or now.record.lease is None or now.record.lease.owner != lease.owner:
                break
            waited_enough = self._clock.elapsed() - began > PATIENCE_WITH_A_WORKING_TOKEN
            if waited_enough and works and self._in_hand.left > demand.min_ttl:
                raise RefreshTimeout(messages.another_worker_refreshes(snapshot.configuration.conn_id))
        return now

    def _polled(self, snapshot: Snapshot) -> Snapshot:
        stored = self._retried(snapshot.store.read)
        return replace(snapshot, record=stored.record, version=stored.version)

    def _retried(self, call: Callable[[], T]) -> T:
        """Call the store, and again after a passing failure."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return retrying(call)

    def _mask(self, record: Record) -> None:
        for secret in record.secrets:
            if fingerprint(secret) not in self._masked:
                self._masked.add(fingerprint(secret))
                self._mask_secret(secret)
