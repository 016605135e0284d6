"""The one place that spends a refresh token.

A refresh is: write a lease under the version of the record that was read; spend; write what came back under the
version of the lease. The lease is the lock, and it proves that the store can be written before anything is spent. What
can happen in between, and what then holds, is told on the page "What is guaranteed" of the documentation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    MalformedResponse,
    OAuth2Error,
    ReauthorizationRequired,
    StaleVersion,
    StoreUnavailable,
    TokenRequestError,
    name_connection,
)
from airflow_oauth_provider.oauth2 import deadline, errors, grants
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens import callbacks, messages, precedence
from airflow_oauth_provider.tokens.clock import Backoff, Clock
from airflow_oauth_provider.tokens.configuration import ConfigurationSource, GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.decision import TokenResult
from airflow_oauth_provider.tokens.events import GrantEvent, OnEvent, emit
from airflow_oauth_provider.tokens.lease import HeldLease, LeaseBudget, LeaseWatch, keep_lease, make_lease
from airflow_oauth_provider.tokens.persistence import Persistence, Superseded
from airflow_oauth_provider.tokens.record import MAX_NOTE, DeadGrant, Record, TokenStore

log = logging.getLogger(__name__)

RequestToken = Callable[[Client, Sequence[tuple[str, str]]], TokenResponse]

#: How many times a token request is sent at the most within one lease.
MAX_ATTEMPTS = 4
#: The longest ``Retry-After`` that other workers are told of, in seconds.
LONGEST_NOT_BEFORE = 120.0


class RestartRefresh(Exception):
    """Nothing came of this refresh, because somebody else has written, or may have: read again."""


@dataclass(frozen=True, slots=True, repr=False)
class Refresher:
    """Carries out one refresh after the other, each under a lease of its own.

    :param source: reads the connection anew before a grant is declared dead.
    :param persistence: brings new tokens into the store.
    :param watch: is told which leases are this process's own.
    :param mask: told of every secret of a record before anything can log it.
    :param budget: how the time of a lease is divided; None derives it from the connection's timeout.
    :param actor: who refreshes, for lease and history.
    :param on_event: is told what happens.
    :param keeper: renews a lease while a request is in flight.
    """

    source: ConfigurationSource
    request: RequestToken
    persistence: Persistence
    watch: LeaseWatch
    clock: Clock
    mask: Callable[[Record], None]
    budget: LeaseBudget | None = None
    actor: str = ""
    on_event: OnEvent | None = None
    keeper: Callable[[float, Callable[[], float | None]], AbstractContextManager[None]] = keep_lease

    def longest(self, configuration: GrantConfiguration) -> float:
        """Return the seconds that a refresh takes at the most, with resends and renewals."""
        timeout = configuration.client.transport.timeout
        return _longest_spend(configuration) + timeout + self._budget_for(configuration).total

    def refresh(self, snapshot: Snapshot, record: Record) -> TokenResult:
        """Refresh once; see :meth:`longest`. It must not be interrupted.

        :param snapshot: the connection as just read.
        :param record: what :func:`airflow_oauth_provider.tokens.precedence.current` makes of its record; nobody else
            holds it.
        :raises RestartRefresh: when somebody else was faster.
        :raises OAuth2Error: see :meth:`airflow_oauth_provider.tokens.manager.TokenManager.obtain`.
        """
        began = self.clock.elapsed()
        held = self._take_lease(snapshot, record)
        try:
            result = self._refresh_under(held)
        except ReauthorizationRequired:
            self._emit(held, "sign_in_again")
            raise
        except OAuth2Error as failure:
            self._emit(held, "failed", detail=type(failure).__name__)
            raise
        finally:
            self.watch.end(held.lease.owner)
        self._tell(held, result, self.clock.elapsed() - began)
        return result

    def _refresh_under(self, held: HeldLease) -> TokenResult:
        configuration = held.snapshot.configuration
        try:
            response, sent_at = self._spend(held)
        except errors.InvalidGrantResponse as refusal:
            raise self._handle_refusal(held, refusal) from None
        except errors.ErrorResponse as refusal:
            self._release(held, type(refusal).__name__)
            raise messages.configuration_error(configuration, refusal) from None
        except errors.OAuth2ProtocolError as failure:
            raise self._handle_failure(held, failure) from None
        except StoreUnavailable as failure:
            self._release(held, type(failure).__name__)
            raise
        new = _next_record(configuration, held.record, response, sent_at).with_event(sent_at, "refreshed", self.actor)
        try:
            self.mask(new)
        finally:
            store = self._save(held, new)
        rotated = new.refresh_token != held.record.refresh_token
        return TokenResult(new, store, refreshed=True, rotated=rotated)

    def _tell(self, held: HeldLease, result: TokenResult, seconds: float) -> None:
        """Log a refresh and tell the listener."""
        old, new, configuration = held.record, result.record, held.snapshot.configuration
        log.info(
            "Connection %r: refreshed the access token (generation %d, refresh token %s, kept in: %s)",
            held.conn_id,
            new.generation,
            "rotated" if result.rotated else "unchanged",
            result.store,
        )
        self._emit(held, "refreshed", seconds)
        if result.store == "fallback":
            self._emit(held, "rotation_not_saved", detail="fallback")
        if _was_failing(old):
            self._emit(held, "works_again")
        left = configuration.policy.ends_soon(old, new, self.clock.now())
        if left is not None:
            log.warning("%s", messages.refresh_token_ends(configuration, new.refresh_expires_at or 0.0, left))
            self._emit(held, "ends_soon", left)

    def _emit(self, held: HeldLease, kind: str, seconds: float | None = None, detail: str = "") -> None:
        emit(self.on_event, GrantEvent(kind, held.conn_id, self.clock.now(), self.actor, seconds, detail))

    def _budget_for(self, configuration: GrantConfiguration) -> LeaseBudget:
        return self.budget or LeaseBudget.for_timeout(configuration.client.transport.timeout)

    def _take_lease(self, snapshot: Snapshot, record: Record) -> HeldLease:
        budget, now = self._budget_for(snapshot.configuration), self.clock.now()
        conn_id, interrupted = snapshot.configuration.conn_id, record.interrupted
        if record.lease is not None:
            gone = messages.holder_gone(record.lease)
            interrupted = gone if record.lease.sent else interrupted
            log.warning("Connection %r: %s Going on with the stored refresh token.", conn_id, gone)
            record = record.with_event(now, "holder_gone", record.lease.actor)
        lease = make_lease(budget, now, self.actor, snapshot.settle_time)
        leased = replace(record, lease=lease, interrupted=interrupted)
        began = self.clock.elapsed()
        self.watch.hold(lease.owner)
        try:
            version = _write_lease(snapshot.store, leased, snapshot.version)
        except StaleVersion:
            # A store that cannot compare and set leaves a doubtful lease where it is, to keep others away.
            self.watch.disown(lease.owner)
            raise RestartRefresh from None
        except BaseException:
            self.watch.end(lease.owner)
            raise
        return HeldLease(snapshot, leased, version, began, now, budget, interrupted)

    def _renew(self, held: HeldLease) -> None:
        """Write the lease anew, so that it lasts as long as a new one.

        :raises StaleVersion: another worker has written: the lease is lost.
        :raises StoreUnavailable: the lease may end at its time.
        """
        began, began_wall = self.clock.elapsed(), self.clock.now()
        lease = replace(held.lease, seconds=held.budget.total, renewals=held.lease.renewals + 1, sent=True)
        renewed = replace(held.record, lease=lease, interrupted=held.interrupted)
        held.version = _write_lease(held.snapshot.store, renewed, held.version)
        held.record, held.began, held.began_wall = renewed, began, began_wall

    def _spend(self, held: HeldLease) -> tuple[TokenResponse, float]:
        """Send the token request, again where that is safe; return the response and when it was asked for."""
        configuration = held.snapshot.configuration
        attempts = _Attempts(configuration.policy.resend_lost_response)
        pauses = Backoff(self.clock, first=0.5, longest=4.0, factor=2.0)
        last_begin = held.began + _longest_spend(configuration) - configuration.client.transport.timeout
        self._secure_time(held)
        while True:
            sent_at = self.clock.now()
            try:
                return self._ask_and_keep(held), sent_at
            except errors.ErrorResponse:
                raise  # the server has decided
            except errors.OAuth2ProtocolError as failure:
                again = attempts.allow_another(failure)
                if attempts.lost:
                    held.interrupted = messages.answer_lost(sent_at)
                wait = max(getattr(failure, "retry_after", None) or 0.0, pauses.next_pause())
                if not again or self.clock.elapsed() + wait > last_begin:
                    raise
                log.warning("Connection %r: %s. Trying again in %.1f s", held.conn_id, failure, wait)
                if not self._wait_and_keep(held, wait):
                    raise

    def _wait_and_keep(self, held: HeldLease, seconds: float) -> bool:
        """Wait between two requests and renew the lease meanwhile; return whether another request may be sent."""
        ends = self.clock.elapsed() + seconds
        try:
            while ends > held.renew_at:
                self.clock.sleep(max(0.0, held.renew_at - self.clock.elapsed()))
                self._secure_time(held)
            self.clock.sleep(max(0.0, ends - self.clock.elapsed()))
            self._secure_time(held)
        except StoreUnavailable as failure:
            log.warning("Connection %r: the lease was not renewed (%s), so nothing more is sent", held.conn_id, failure)
            return False
        return True

    def _secure_time(self, held: HeldLease) -> None:
        """Have enough of the lease left for a request, or renew it first.

        :raises RestartRefresh: another worker may have taken over: this process may have been stopped for a while.
        :raises StoreUnavailable: the lease could not be renewed: nothing may be sent.
        """
        elapsed, by_wall_clock = self.clock.elapsed() - held.began, self.clock.now() - held.began_wall
        if max(elapsed, by_wall_clock) > held.lease.seconds:
            raise RestartRefresh
        if elapsed >= held.budget.renewal or not held.lease.sent:
            try:
                self._renew(held)
            except StaleVersion:
                raise RestartRefresh from None

    def _ask_and_keep(self, held: HeldLease) -> TokenResponse:
        """Make one attempt, which ends before the lease does, and renew the lease while it lasts."""
        configuration = held.snapshot.configuration
        last_renewal = self.clock.elapsed() + 2 * configuration.client.transport.timeout
        with deadline.within(held.spend_until - self.clock.elapsed()) as bound:

            def renew() -> float | None:
                return self._renew_in_flight(held, bound) if self.clock.elapsed() < last_renewal else None

            with self.keeper(held.renew_at - self.clock.elapsed(), renew):
                return self._ask(configuration, held.record)

    def _renew_in_flight(self, held: HeldLease, bound: deadline.Bound) -> float | None:
        """Renew the lease and let the request go on; return the seconds until the next renewal, None: no more."""
        try:
            self._renew(held)
        except StaleVersion:
            left = held.spend_until - self.clock.elapsed()
            log.warning("%s", messages.lease_not_renewed(held.conn_id, "another worker has written", left))
            return None
        except Exception as failure:  # noqa: BLE001 - in a thread of its own; the request must end in time whatever fails
            left = held.spend_until - self.clock.elapsed()
            reason = failure if isinstance(failure, OAuth2Error) else type(failure).__name__
            log.warning("%s", messages.lease_not_renewed(held.conn_id, reason, left))
            return 1.0 if left > 1.0 else None
        bound.extend(held.spend_until - self.clock.elapsed())
        return held.renew_at - self.clock.elapsed()

    def _ask(self, configuration: GrantConfiguration, record: Record) -> TokenResponse:
        """Make one attempt. Its parameters are its own: an assertion may be sent only once (RFC 7523 section 3)."""
        if configuration.callback:
            return callbacks.request_token(configuration.callback, configuration.client, configuration.values(record))
        if configuration.grant_type == "password":
            log.warning("Connection %r: %s", configuration.conn_id, messages.OUT_OF_DATE_GRANT)
        spendable = record.refresh_token or ""
        parameters = grants.parameters(
            configuration.grant_type, configuration.client, configuration.options, configuration.inputs, spendable
        )
        return self.request(configuration.client, parameters)

    def _handle_refusal(self, held: HeldLease, refusal: errors.InvalidGrantResponse) -> Exception:
        """``invalid_grant``: unless somebody rotated or re-authorized meanwhile, write down that the grant is dead."""
        configuration = held.snapshot.configuration
        if not configuration.rotates:
            self._release(held, type(refusal).__name__)
            return messages.configuration_error(configuration, refusal)
        if self._others_went_on(held):
            self._release(held)
            return RestartRefresh()
        refused = configuration.fingerprint_for_client(held.record.refresh_token)
        hints = [held.interrupted or "", messages.BOUND_TO_KEY if _is_bound(configuration) else ""]
        now = self.clock.now()
        dead = DeadGrant(refused, refusal.code[:200], now, " ".join(hint for hint in hints if hint)[:MAX_NOTE])
        spent = precedence.with_spent(held.record)
        ended = replace(held.record, lease=None, dead=dead, interrupted=None, spent=spent)
        try:
            ended = ended.with_event(now, "refused", self.actor)
            held.snapshot.store.write(ended, if_version=held.version)
        except StaleVersion:
            return RestartRefresh()
        except StoreUnavailable as failure:
            log.warning(
                "Connection %r: could not write down that its grant is dead: %s", configuration.conn_id, failure
            )
        return ReauthorizationRequired(messages.dead_grant(configuration, dead, refusal.description))

    def _others_went_on(self, held: HeldLease) -> bool:
        try:
            fresh = self.source.load()
        except OAuth2Error as failure:
            # The dead mark is for this refresh token only, and is written under the version of the lease.
            log.warning("Connection %r: not read again after the refusal: %s", held.conn_id, failure)
            return False
        return precedence.has_moved_on(held.record, precedence.current(fresh.configuration, fresh.record))

    def _handle_failure(self, held: HeldLease, failure: errors.OAuth2ProtocolError) -> OAuth2Error:
        """Give the lease back and return what the caller is to see."""
        message = name_connection(held.conn_id, str(failure))
        if isinstance(failure, errors.UnexpectedResponse):
            left = failure.refresh_token
            # Only a success brings a new one: error pages hold field names with messages, or echo the request.
            is_new = 200 <= failure.status < 300 and left != held.record.refresh_token
            if left and is_new and held.snapshot.configuration.rotates:
                self._save_what_is_left(held, left)
            else:
                has_token = isinstance(failure, errors.WrongTokenType)  # and no other refresh token
                if failure.is_whole and 200 <= failure.status < 300 and not has_token:
                    held.interrupted = messages.answer_useless(self.clock.now())
                self._release(held, type(failure).__name__)
            return MalformedResponse(message)
        if isinstance(failure, errors.NotConnected) and failure.lasting:
            self._release(held, type(failure).__name__)
            return ConfigurationError(message)
        retry_after = getattr(failure, "retry_after", None)
        not_before = None if not retry_after else self.clock.now() + min(retry_after, LONGEST_NOT_BEFORE)
        self._release(held, type(failure).__name__, not_before)
        return TokenRequestError(f"{message}. The refresh token is kept; a retry may succeed.")

    def _save_what_is_left(self, held: HeldLease, refresh_token: str) -> None:
        """Keep the refresh token out of an answer that is of no use otherwise: it may be the only one that lives."""
        kept = replace(
            held.record,
            generation=held.record.generation + 1,
            refresh_token=refresh_token,
            access_token=None,
            issued_at=self.clock.now(),
            expires_in=None,
            lease=None,
            interrupted=None,
        )
        self.mask(kept)
        self._save(held, kept)

    def _save(self, held: HeldLease, new: Record) -> str:
        try:
            return self.persistence.save(held, new)
        except Superseded:
            raise RestartRefresh from None
        except OAuth2Error:
            self._emit(held, "rotation_not_saved", detail="lost")
            raise

    def _release(self, held: HeldLease, failure: str = "", not_before: float | None = None) -> None:
        """Give the lease back, so that nobody has to wait for its end.

        :param failure: for the history: the class of the error that ended the refresh; empty: somebody was faster.
        :param not_before: seconds since the epoch before which nobody may ask again.
        """
        free = replace(held.record, lease=None, interrupted=held.interrupted, not_before=not_before)
        if failure:
            free = free.with_event(self.clock.now(), "failed", self.actor, failure)
        try:
            held.snapshot.store.write(free, if_version=held.version)
        except (StaleVersion, StoreUnavailable) as error:
            log.warning("Connection %r: the lease was not given back (%s); it ends by itself", held.conn_id, error)


def _longest_spend(configuration: GrantConfiguration) -> float:
    """Return the seconds within which the last request of a refresh has to have ended: time for two, and a pause."""
    return 2 * configuration.client.transport.timeout + 5


def _was_failing(record: Record) -> bool:
    """Tell whether the grant was dead, or its last refresh failed, and nobody has signed in since."""
    good, bad = ("refreshed", "signed_in"), ("failed", "refused", "revoked")
    outcomes = [entry.kind for entry in record.history if entry.kind in (*good, *bad)]
    return bool(outcomes) and outcomes[-1] in bad


def _is_bound(configuration: GrantConfiguration) -> bool:
    """Tell whether the refresh token works with one key only: a public client has nothing else to prove (RFC 9449)."""
    return configuration.client.dpop_key is not None and configuration.client.auth_method == "none"


def _write_lease(store: TokenStore, leased: Record, if_version: str | None) -> str:
    """Write a record with a lease and return its version.

    :raises StaleVersion: another worker was faster.
    :raises StoreUnavailable: it was not written, as far as can be told.
    """
    try:
        return store.write(leased, if_version=if_version)
    except StoreUnavailable:
        # Perhaps only the answer was lost. A store recognizes its own write, and knows whether a lease has settled.
        return store.write(leased, if_version=if_version)


@dataclass(slots=True)
class _Attempts:
    """Counts token requests, and tells which failure allows another one.

    :param resend_lost_response: whether a refresh token may be sent once more when the answer to it was lost.
    :param made: requests so far.
    :param lost: those that the server may have served although its answer brought no token.
    """

    resend_lost_response: bool
    made: int = 0
    lost: int = 0

    def allow_another(self, failure: errors.OAuth2ProtocolError) -> bool:
        """Count ``failure`` and tell whether to send again."""
        self.made += 1
        if isinstance(failure, errors.NotConnected) and failure.lasting:
            return False
        if isinstance(failure, errors.UnexpectedResponse) and (failure.is_whole or not 200 <= failure.status < 300):
            return False
        self.lost += _may_have_been_served(failure)
        if self.lost > 1 or (self.lost == 1 and not self.resend_lost_response):
            return False
        return self.made < MAX_ATTEMPTS


def _may_have_been_served(failure: errors.OAuth2ProtocolError) -> bool:
    """Tell whether the server may have rotated the refresh token, though its answer brought none."""
    if isinstance(failure, errors.ServerFailure):
        # A 503 that names no time may be a gateway's, whose connection to the server broke after the request.
        return failure.status != 429 and not (failure.status == 503 and failure.retry_after is not None)
    return isinstance(failure, errors.LostResponse | errors.UnexpectedResponse)


def _next_record(configuration: GrantConfiguration, old: Record, answer: TokenResponse, sent_at: float) -> Record:
    """Return the record that follows ``old``; an omitted refresh token or scope stays (RFC 6749 section 6)."""
    new = replace(
        old.follow(answer, sent_at),
        scope=answer.scope or old.scope or configuration.options.scope or None,
        issued_for=configuration.identity,
        unknown_members=old.unknown_members,
    )
    if not configuration.rotates:  # another grant, perhaps for a moment or by mistake, leaves the refresh token alone
        return replace(new, refresh_token=old.refresh_token, refresh_expires_at=old.refresh_expires_at)
    ends = configuration.policy.refresh_token_end(old, answer, sent_at)
    return replace(new, refresh_token=answer.refresh_token or old.refresh_token, refresh_expires_at=ends)
