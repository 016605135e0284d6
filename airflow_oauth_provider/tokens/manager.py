"""Keeps the access token of one connection fresh, together with everybody else who uses it."""

from __future__ import annotations

import _thread
import contextvars
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import tenacity

from airflow_oauth_provider.exceptions import (
    OAuth2Error,
    RefreshTimeout,
    RefreshTooEarly,
    StoreUnavailable,
    TokenRequestError,
)
from airflow_oauth_provider.oauth2.dpop import Prover, get_prover
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.tokens import events, precedence
from airflow_oauth_provider.tokens.clock import Backoff, Clock, SystemClock
from airflow_oauth_provider.tokens.configuration import ConfigurationSource, RefreshPolicy, Snapshot
from airflow_oauth_provider.tokens.decision import (
    LONGEST_PAUSE,
    PATIENCE_WITH_A_WORKING_TOKEN,
    Action,
    Decision,
    Situation,
    TokenRequirements,
    TokenResult,
    decide,
)
from airflow_oauth_provider.tokens.events import GrantEvent, OnEvent, emit
from airflow_oauth_provider.tokens.lease import LeaseBudget, LeaseWatch, WaitForHolder
from airflow_oauth_provider.tokens.persistence import Persistence
from airflow_oauth_provider.tokens.record import FallbackStore, Record, fingerprint
from airflow_oauth_provider.tokens.refresh import Refresher, RequestToken, RestartRefresh

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What may go away by itself: until then a token that still works is served.
PASSING = (TokenRequestError, StoreUnavailable, RefreshTimeout, RefreshTooEarly)
#: Seconds after a failed refresh during which a token that still works is served without another try.
PAUSE_AFTER_FAILURE = 30.0
#: Seconds for which a signal may go unnoticed while a step runs.
LONGEST_DEAFNESS = 0.5

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
    :param on_event: is told what happens to the grant; see :mod:`airflow_oauth_provider.tokens.events`.

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
        on_event: OnEvent | None = None,
    ) -> None:
        self._source = source
        self._clock = clock or SystemClock()
        self._mask_secret = mask
        self._masked: set[str | None] = set()
        self._watch = LeaseWatch(self._clock)
        self._actor = events.printable(actor)[: events.MAX_ACTOR]
        self._on_event = on_event
        self._persistence = Persistence(fallback, self._clock, self._watch, self._mask)
        self._refresher = Refresher(
            source, request, self._persistence, self._watch, self._clock, self._mask, budget, self._actor, on_event
        )
        self._cache = TokenCache(self._clock)
        self._has_refreshed = False
        self._conn_id = ""
        #: What proves possession of the key that the access token is bound to (RFC 9449), from the first token on.
        self.prover: Prover | None = None
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

    def cached_token(self) -> str | None:
        """Return the access token if it is fresh and known without asking anybody; never blocks."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            return None
        try:
            cached = self._cache.serve(TokenRequirements())
        finally:
            lock.release()
        return None if cached is None else cached.record.access_token

    def obtain(self, requirements: TokenRequirements) -> TokenResult:
        """Return a record whose access token meets ``requirements``, refreshed where need be.

        A fresh token costs one read of the store, and nothing while this process has it cached; a refresh costs one
        read, two writes and one token request. When a refresh fails for a passing reason and the cached token still
        works, that one is returned, with a warning.

        :raises ReauthorizationRequired: when the refresh token is dead.
        :raises ConfigurationError: when the connection is wrong.
        :raises TokenRequestError: when the token endpoint fails.
        :raises StoreUnavailable: when the store fails.
        :raises RefreshTimeout: when other workers hold the lease for too long.
        :raises RefreshTooEarly: when the vendor wants the refresh later than a task should wait.
        """
        lock = self._lock
        if not lock.acquire(timeout=PATIENCE_WITH_A_WORKING_TOKEN):
            working = self._cache.find_working(requirements)  # while another thread refreshes
            if working is not None:
                return working
            lock.acquire()
        try:
            return self._cache.serve(requirements) or self._obtain(requirements)
        finally:
            lock.release()

    def _obtain(self, requirements: TokenRequirements) -> TokenResult:
        try:
            return self._until_served(requirements)
        except OAuth2Error as failure:
            if self._conn_id:
                failure.name_connection(self._conn_id)
            is_passing = isinstance(failure, PASSING)
            served = self._cache.serve_for_want_of_better(requirements, str(failure)) if is_passing else None
            if served is None:
                raise
            log.warning("%s The cached token still works and is served.", failure)
            return served

    def _until_served(self, requirements: TokenRequirements) -> TokenResult:
        """Read, decide and do what was decided, until there is a token or an error."""
        snapshot, is_current = self._load(), True
        call = _Call(requirements, snapshot, self._clock, self._refresher.longest(snapshot.configuration))
        pauses = Backoff(self._clock, first=0.02)
        try:
            while True:
                decision, result = self._decide(snapshot, call)
                if decision.action is Action.SERVE:
                    return result
                if decision.error is not None:
                    raise decision.error
                if decision.action is Action.WAIT:
                    call.wait.pause()
                    stored = self._retry(snapshot.store.read)
                    snapshot = replace(snapshot, record=stored.record, version=stored.version)
                    is_current = False
                    continue
                if decision.action is Action.PAUSE:
                    log.info(
                        "Connection %r: the next refresh is allowed in %.1f s; waiting", self._conn_id, decision.seconds
                    )
                    self._clock.sleep(decision.seconds)
                elif is_current:  # a refresh takes the connection as it is now
                    refreshed = self._refresh(snapshot, pauses)
                    if refreshed is not None:
                        return refreshed
                snapshot, is_current = self._load(), True
        finally:
            waited = call.wait.end()
            if waited is not None:
                emit(self._on_event, GrantEvent("waited", self._conn_id, self._clock.now(), self._actor, waited))

    def _load(self) -> Snapshot:
        snapshot = self._retry(self._source.load)
        configuration = snapshot.configuration
        self._conn_id = configuration.conn_id
        self.prover = get_prover(configuration.client.dpop_key) if configuration.client.dpop_key else None
        return snapshot

    def _decide(self, snapshot: Snapshot, call: _Call) -> tuple[Decision, TokenResult]:
        """Cache what was read, and decide."""
        configuration, record = snapshot.configuration, precedence.current(snapshot.configuration, snapshot.record)
        self._mask(record)
        is_behind = self._cache.is_ahead_of(record)
        result = TokenResult(record, snapshot.store.name)
        if not is_behind:
            self._cache.take(result, configuration.policy)
        lease_left = 0.0 if record.lease is None else self._watch.left(record.lease)
        situation = Situation(
            configuration=configuration,
            record=record,
            now=self._clock.now(),
            token_left=self._cache.left,
            lease_left=lease_left,
            first_generation=call.first_generation,
            is_behind=is_behind,
            has_refreshed=self._has_refreshed,
            waited=call.wait.seconds(record.lease),
            is_out_of_time=self._clock.elapsed() > call.ends_at,
        )
        decision = decide(situation, call.requirements)
        if decision.action is Action.WAIT and record.lease is not None:
            call.wait.note(record.lease, lease_left)
        return decision, result

    def _refresh(self, snapshot: Snapshot, pauses: Backoff) -> TokenResult | None:
        """Refresh, or bring back what another worker could not write; None: read again."""
        record = precedence.current(snapshot.configuration, snapshot.record)
        if record.lease is not None and self._retry(lambda: self._persistence.recover(snapshot, record)):
            return None
        try:
            refreshed = run_to_end(lambda: self._refresher.refresh(snapshot, record))
        except RestartRefresh:
            pauses.wait()
            return None
        self._has_refreshed = True
        return self._cache.take(refreshed, snapshot.configuration.policy)

    def _retry(self, call: Callable[[], T]) -> T:
        """Call the store, and again after a passing failure."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(multiplier=0.2),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return retrying(call)

    def _mask(self, record: Record) -> None:
        for secret in record.secrets:
            if fingerprint(secret) not in self._masked:
                self._masked.add(fingerprint(secret))
                self._mask_secret(secret)


class _Call:
    """One call of :meth:`TokenManager.obtain`: what it wants, its waiting, and what it remembers of its beginning."""

    def __init__(
        self, requirements: TokenRequirements, snapshot: Snapshot, clock: Clock, longest_refresh: float
    ) -> None:
        configuration = snapshot.configuration
        self.requirements = requirements
        self.wait = WaitForHolder(clock, configuration.conn_id)
        self.first_generation = precedence.current(configuration, snapshot.record).generation
        self.ends_at = clock.elapsed() + 2 * longest_refresh + LONGEST_PAUSE


class TokenCache:
    """Serves a token without a look into the store for as long as it is fresh.

    :param clock: the wall clock is looked at once, when a token is taken; from then on only elapsed time counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._result: TokenResult | None = None
        self._stale_at = 0.0
        self._ends_at = 0.0
        self._quiet_until = 0.0

    def take(self, result: TokenResult, policy: RefreshPolicy) -> TokenResult:
        """Cache ``result`` and return it."""
        record, now, wall = result.record, self._clock.elapsed(), self._clock.now()
        left = record.remaining(wall)
        same = self._result is not None and self._result.record.access_token == record.access_token
        if same:
            left = min(left, self._ends_at - now)
        self._result = replace(result, refreshed=False, rotated=False)
        self._ends_at = now + left
        if policy.when in ("expired", "always"):
            self._stale_at = self._ends_at - record.min_remaining(policy.leeway, 0.0)
        elif policy.when == "interval":
            self._stale_at = min(self._ends_at, now + policy.interval - record.age(wall))
        else:
            self._stale_at = math.inf  # only the API's 401 tells
        if not same:
            self._quiet_until = 0.0
        return result

    @property
    def left(self) -> float:
        """Seconds for which the cached token still works, whatever the wall clock says by now."""
        return self._ends_at - self._clock.elapsed()

    def is_ahead_of(self, record: Record) -> bool:
        """Tell whether the cached token is newer than ``record``: it was refreshed, but its store was away."""
        cached = self._result.record if self._result is not None else None
        if cached is None or cached.entered_fingerprint != record.entered_fingerprint:
            return False
        return cached.generation > record.generation

    def serve(self, requirements: TokenRequirements) -> TokenResult | None:
        """Return the cached token if it meets ``requirements``, else None."""
        cached, now = self._result, self._clock.elapsed()
        if cached is None or requirements.force or cached.record.access_token in (None, requirements.rejected):
            return None
        fresh = now < self._stale_at and now + cached.record.min_remaining(0.0, requirements.min_ttl) < self._ends_at
        quiet = now < self._quiet_until and now < self._ends_at
        return cached if fresh or quiet else None

    def find_working(self, requirements: TokenRequirements) -> TokenResult | None:
        """Return the cached token if it works for as long as it has to, however stale it is. Changes nothing."""
        cached = self._find_usable(requirements)
        return cached if not requirements.force and self.left > requirements.min_ttl else None

    def serve_for_want_of_better(self, requirements: TokenRequirements, warning: str) -> TokenResult | None:
        """Return the cached token if it works at all, and keep on serving it for a while.

        :param warning: why there is nothing better.
        """
        cached, now = self._find_usable(requirements), self._clock.elapsed()
        if cached is None or now >= self._ends_at:
            return None
        self._quiet_until = now + min(PAUSE_AFTER_FAILURE, (self._ends_at - now) / 2)
        return replace(cached, warning=warning)

    def _find_usable(self, requirements: TokenRequirements) -> TokenResult | None:
        """Return the cached token unless there is none, or the API has turned it down."""
        cached = self._result
        return None if cached is None or cached.record.access_token in (None, requirements.rejected) else cached


def run_to_end(step: Callable[[], T]) -> T:
    """Run ``step``; what interrupts it meanwhile (SIGTERM, a task's time-out) is raised when it has ended.

    Airflow cancels a task by an exception out of a signal handler, and Python runs those in the main thread only: so
    the step runs in a thread of its own, and the main thread, which waits for it, keeps what is thrown at it.

    :param step: something that ends by itself within a bounded time.
    :raises BaseException: what interrupted the step, else what the step raised.
    """
    if threading.current_thread() is not threading.main_thread():
        return step()
    results: list[T] = []
    failures: list[BaseException] = []
    begun, running = threading.Lock(), threading.Lock()
    running.acquire()

    def run() -> None:
        if not begun.acquire(blocking=False):
            return  # an interruption left open whether the thread had been started, so there are two
        try:
            results.append(step())
        except BaseException as failure:  # noqa: BLE001 - carried over to the thread that waits, and raised there
            failures.append(failure)
        finally:
            running.release()

    # Not threading.Thread: before Python 3.13, a join() that is interrupted takes the running thread for ended.
    is_started = False
    interruption: BaseException | None = None
    while not (results or failures):
        try:
            if not is_started:
                _thread.start_new_thread(contextvars.copy_context().run, (run,))
                is_started = True
            # For a while only: a signal that came just before this call interrupts nothing, and its handler has to run.
            running.acquire(timeout=LONGEST_DEAFNESS)
        except BaseException as caught:
            if not is_started and not begun.locked() and interruption is None and isinstance(caught, RuntimeError):
                raise  # no thread is to be had, so the step has not begun
            interruption = interruption or caught
    if interruption is not None or failures:
        raise interruption or failures[0]
    return results[0]
