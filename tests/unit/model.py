"""An explorer of everything that several workers can do to each other, on the real refresh code.

Each worker is a greenlet that runs the real ``TokenManager`` and stops at every seam (a call to the connection, the
store, the fallback store, the token endpoint, or a sleep), so that the explorer decides who goes on. A run is told
completely by its *deviations*: at which seam what happens other than "the call succeeds and the same worker goes on".
``explore`` tries all combinations of up to so many deviations; ``run`` repeats one of them.

What has to hold is checked at each step and at the end of each run; see ``Run``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from greenlet import GreenletExit, getcurrent, greenlet

from airflow_oauth_provider.exceptions import OAuth2Error, ReauthorizationRequired
from airflow_oauth_provider.oauth2.errors import ServerFailure
from airflow_oauth_provider.tokens import lease, refresh
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.precedence import has_moved_on
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.sealing import unseal
from tests.unit.fakes import START, FakeClock, Faults, MemoryStore, World, failure_of, loss_of

Deviations = Mapping[int, str]

#: What can happen at which seam, beside success.
#:
#: ``yield`` the others go first; ``crash``, ``crash after`` SIGKILL before and after the call; ``fail`` the call fails;
#: ``lose`` it is carried out, but its answer is lost; ``late`` its answer is lost, and it is carried out much later;
#: ``stall``, ``stall after`` the worker stands still for longer than a lease; ``outage`` the store fails from here on
#: for longer than a lease, ``cut off`` for this worker alone; ``read-only`` it takes no writes for nearly a lease;
#: ``busy`` the server answers 503; ``slow`` it acts at once and answers after nearly two leases; ``sign in`` a person
#: enters a new refresh token.
_AROUND = ("yield", "crash", "crash after", "stall", "stall after", "outage", "read-only", "sign in")
ACTIONS: dict[str, tuple[str, ...]] = {
    "connection": ("yield", "crash", "fail", "stall", "sign in"),
    "store.read": ("yield", "crash", "fail", "stall", "sign in"),
    "store.write": (*_AROUND, "fail", "lose", "late", "cut off"),
    "token": (*_AROUND, "fail", "lose", "busy", "slow"),
    "fallback.save": ("yield", "crash", "crash after", "fail", "lose", "late"),
    "fallback.load": ("yield", "crash", "fail"),
    "fallback.remove": ("yield", "crash", "fail"),
}
#: Deviations after which every worker that lives on must come away with a token: nothing has failed.
HARMLESS = frozenset({"yield", "sign in", "slow"})
STALLS = frozenset({"stall", "stall after"})
#: More seams than any run passes that comes to an end.
LIMIT = 2000
#: Seconds that a call takes.
COST = 0.001


class Violation(AssertionError):
    """Something happened that must not; the message has the deviations that lead there."""


@dataclass
class Setting:
    """What is the same in all runs of an exploration.

    :param workers: how many begin at the same moment.
    :param grace: the server's grace period; 0: none, None: without end.
    :param skews: seconds by which the workers' wall clocks are ahead.
    :param demand: what the workers ask for.
    :param one_machine: whether all workers run on one machine, where a dead one is recognized at once.
    :param busy_for: what a busy server says in ``Retry-After``, in seconds; None: nothing.
    """

    workers: int = 2
    grace: float | None = 0.0
    skews: Sequence[float] = (0.0, 0.0, 0.0)
    demand: TokenRequirements = field(default_factory=TokenRequirements)
    one_machine: bool = False
    busy_for: float | None = None


class Clock(FakeClock):
    """A clock whose ``sleep`` lets the other workers run."""

    def __init__(self, worker: Worker, skew: float) -> None:
        super().__init__(worker.run.world.time, skew)
        self._worker = worker

    def sleep(self, seconds: float) -> None:
        self._worker.block(seconds)


class Worker:
    """One process."""

    def __init__(self, run: Run, name: int, skew: float) -> None:
        self.run = run
        self.name = name
        self.ready_at = run.world.time.now
        self.dead = False
        self.result: str | OAuth2Error | None = None
        #: When the lease in force was written, in true time.
        self.leased_at = 0.0
        #: The newest refresh token that the server gave to this worker.
        self.received: str | None = None
        self.connected_at = 0.0
        #: When the next renewal is due, and what renews.
        self.renew_at = math.inf
        self.renew: Callable[[], float | None] = lambda: None
        #: When the request in flight is broken off.
        self.broken_off_at = math.inf
        self.manager, _ = run.world.worker(self.pass_seam, clock=Clock(self, skew))
        self.manager._refresher = replace(self.manager._refresher, keeper=self.keep)
        self.greenlet = greenlet(self._work)

    def _work(self) -> None:
        try:
            self.result = self.manager.obtain(self.run.setting.demand).record.access_token or ""
            if not self.run.world.server.is_good(self.result):
                self.run.fail(f"worker {self.name} was handed a token that does not work")
        except OAuth2Error as error:
            self.result = error

    @property
    def outlived(self) -> bool:
        """Whether its lease is over, by the true time."""
        return self.run.world.time.now > self.leased_at + self.run.world.lease

    @property
    def is_excused(self) -> bool:
        """Whether it outlived its lease because it was stopped: it could not know."""
        return self.outlived and not STALLS.isdisjoint(self.run.deviations.values())

    @property
    def has_unsaved_tokens(self) -> bool:
        """Whether this worker alone has the newest refresh token."""
        return self.received is not None and self.received not in self.run.findable_tokens()

    @contextlib.contextmanager
    def keep(self, first: float, renew: Callable[[], float | None]) -> Iterator[None]:
        """Stand in for the thread that renews the lease of a request in flight."""
        self.renew_at, self.renew = self.run.world.time.now + first, renew
        yield

    def extend(self, seconds: float) -> None:
        """Stand in for the bound of the request in flight."""
        self.broken_off_at = self.run.world.time.now + seconds

    def block(self, seconds: float) -> None:
        self.ready_at = self.run.world.time.now + seconds
        getcurrent().parent.switch()  # type: ignore[union-attr]

    def die(self) -> None:
        self.dead = True
        if self.has_unsaved_tokens:
            self.run.excuses.add("killed between rotation and write")
        getcurrent().parent.switch()  # type: ignore[union-attr]

    def pass_seam(self, name: str, call: Callable[[], object]) -> object:
        """Let the explorer decide what happens to ``call``."""
        if self.run.closed or self.dead:
            raise GreenletExit
        action = self.run.step(self, name)
        world = self.run.world
        began = world.time.now
        self._before(action)
        world.time.now += COST
        if action == "busy":
            raise ServerFailure("busy", status=503, retry_after=self.run.setting.busy_for)
        is_cut_off = name.startswith("store.") and world.time.now < self.connected_at
        if action == "fail" or is_cut_off or self.run.is_away(name):
            raise failure_of(name)
        if action == "late":
            self.run.later.append((world.time.now + 0.6 * world.lease, call))
            raise loss_of(name)
        answer = self._carry_out(name, call)
        if name == "store.write" and self._holds_lease():
            self.leased_at = began
        if action == "slow":
            self._wait_for_answer(began + 1.8 * world.lease)
        self._after(action, name)
        return answer

    def _holds_lease(self) -> bool:
        lease = self.run.world.record.lease
        return lease is not None and lease.owner in self.manager._watch._own

    def _wait_for_answer(self, arrives_at: float) -> None:
        """Let time pass until the answer arrives, or the request is broken off; the lease is renewed meanwhile."""
        time = self.run.world.time
        while time.now < arrives_at:
            self.block(max(0.0, min(self.renew_at, self.broken_off_at, arrives_at) - time.now))
            if time.now >= self.broken_off_at:
                if self.has_unsaved_tokens:
                    self.run.excuses.add("the answer was lost")
                raise loss_of("token")
            if time.now >= self.renew_at:
                wait = self.renew()
                self.renew_at = math.inf if wait is None else time.now + wait

    def _before(self, action: str | None) -> None:
        world = self.run.world
        if action == "yield":
            self.block(COST)
        elif action == "stall":
            self.block(1.5 * world.lease)
        elif action == "crash":
            self.die()
        elif action == "sign in":
            world.sign_in_again()
        elif action == "cut off":
            self.connected_at = world.time.now + 2 * world.lease
        elif action == "outage":
            self.run.store_is_back_at = world.time.now + 2 * world.lease
        elif action == "read-only":
            self.run.writable_at = world.time.now + 0.9 * world.lease

    def _after(self, action: str | None, name: str) -> None:
        if action == "lose":
            if self.has_unsaved_tokens:
                self.run.excuses.add("the answer was lost")
            raise loss_of(name)
        if action == "crash after":
            self.die()
        elif action == "stall after":
            self.block(1.5 * self.run.world.lease)

    def _carry_out(self, name: str, call: Callable[[], object]) -> object:
        server = self.run.world.server
        before = server.reuses
        if name == "token" and self.is_excused:
            self.run.excuses.add("sent under a lease that was over")
        answer = None
        try:
            answer = call()
        finally:
            if server.reuses > before:
                self.run.judge_reuse(self)
        if name == "token":
            self.received = getattr(answer, "refresh_token", None)
        return answer


class Run:
    """One run.

    What holds at each step: a record is never replaced by an older one; a spent refresh token is sent again only where
    a worker has outlived its lease, or a crash or a lost answer left no other way. At the end: every worker that lives
    has ended, with a token or an error of this package; the next worker gets a token and can refresh once more, but
    for the losses that the documentation names.

    :param setting: what is the same in all runs.
    :param deviations: what happens at which step.
    """

    def __init__(self, setting: Setting, deviations: Deviations) -> None:
        random.seed(20)
        self.setting = setting
        self.deviations = deviations
        self.world = World(RefreshPolicy(leeway=60.0), timeout=30.0, lifetime=3600.0, grace=setting.grace)
        self.steps: list[str] = []
        self.excuses: set[str] = set()
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.store_is_back_at = 0.0
        self.writable_at = 0.0
        self.closed = False
        self._violation: str | None = None
        self.world.worker()[0].access_token()
        self.world.pass_time(4000.0)
        self.refreshes_before = self.world.server.refreshes
        self.world.cell.history.clear()
        self.workers = [Worker(self, number, setting.skews[number]) for number in range(setting.workers)]
        self.running = self.workers[0]

    def fail(self, what: str) -> None:
        """Note a violation; the run goes on, for its steps."""
        self._violation = self._violation or what

    def step(self, worker: Worker, name: str) -> str | None:
        """Count a seam and return what happens there."""
        if len(self.steps) > LIMIT:
            self.fail("the workers do not come to an end")
            raise GreenletExit
        self.steps.append(name)
        action = self.deviations.get(len(self.steps) - 1)
        return action if action in ACTIONS[name] else None

    def is_away(self, name: str) -> bool:
        """Tell whether the store fails now."""
        until = {"store.read": self.store_is_back_at, "store.write": max(self.store_is_back_at, self.writable_at)}
        return self.world.time.now < until.get(name, 0.0)

    def findable_tokens(self) -> set[str | None]:
        """The refresh tokens that another worker can find."""
        record = self.world.record
        rescued = (unseal(sealed, record.refresh_token or "") for sealed in self.world.kept.values())
        return {record.refresh_token, *(found.refresh_token for found in rescued if found is not None)}

    def judge_reuse(self, culprit: Worker) -> None:
        """A spent refresh token was sent: is there an excuse?"""
        if any(worker.is_excused and (worker is culprit or worker.has_unsaved_tokens) for worker in self.workers):
            self.excuses.add("a worker outlived its lease")
        elif not self.excuses:
            self.fail(f"worker {culprit.name} sent a spent refresh token")

    def go(self) -> Run:
        """Run to the end and judge."""
        try:
            with self._simulated_processes():
                self._schedule()
            if not self._violation:
                self._judge()
        finally:
            self.closed = True
            for worker in self.workers:
                if worker.greenlet:
                    worker.greenlet.throw(GreenletExit)
        if self._violation:
            raise Violation(f"{self._violation}; deviations: {dict(self.deviations)}; steps: {self.steps[:60]}")
        return self

    def is_gone(self, identity: str) -> bool:
        """Tell what the machine tells of a worker."""
        return identity != "" and self.workers[int(identity)].dead

    @contextlib.contextmanager
    def _simulated_processes(self) -> Iterator[None]:
        """Have the workers pass for processes of one machine, or of several, and requests end by the model's time."""

        @contextlib.contextmanager
        def within(seconds: float) -> Iterator[Worker]:
            self.running.extend(seconds)
            yield self.running

        before = lease.identify_process, lease.is_process_gone, refresh.deadline
        lease.identify_process = lambda: str(self.running.name) if self.setting.one_machine else ""
        lease.is_process_gone = self.is_gone
        refresh.deadline = types.SimpleNamespace(within=within, Bound=Worker)  # type: ignore[assignment]
        try:
            yield
        finally:
            lease.identify_process, lease.is_process_gone, refresh.deadline = before

    def _schedule(self) -> None:
        time = self.world.time
        while waiting := [worker for worker in self.workers if not worker.dead and not worker.greenlet.dead]:
            worker = min(waiting, key=lambda each: each.ready_at)
            for due in [entry for entry in self.later if entry[0] <= worker.ready_at]:
                self._carry_out_late(due)
            time.now = max(time.now, worker.ready_at)
            self.running = worker
            worker.greenlet.switch()
            self._check_history()
        for due in list(self.later):
            self._carry_out_late(due)
        self._check_history()

    def _carry_out_late(self, due: tuple[float, Callable[[], object]]) -> None:
        self.later.remove(due)
        self.world.time.now = max(self.world.time.now, due[0])
        with contextlib.suppress(OAuth2Error):  # it may find another version; nobody waits for its answer
            due[1]()

    def _check_history(self) -> None:
        for old, new in self.world.cell.history:
            if old is None:
                continue
            if has_moved_on(new, old):
                self.fail("a newer record was overwritten by an older one")
            if _same_generation(old, new) and old.refresh_token != new.refresh_token:
                self.fail("a refresh token was replaced without a refresh")
        self.world.cell.history.clear()

    def _judge(self) -> None:
        kinds = set(self.deviations.values())
        server = self.world.server
        alive = [worker for worker in self.workers if not worker.dead]
        if kinds <= HARMLESS:
            if any(not isinstance(worker.result, str) for worker in alive):
                self.fail(f"nothing failed, but a worker did: {[worker.result for worker in alive]}")
            signed_in = list(self.deviations.values()).count("sign in")
            if not self.setting.demand.force and server.refreshes - self.refreshes_before > 1 + signed_in:
                self.fail(f"{server.refreshes - self.refreshes_before} refreshes where one does")
        if self.setting.grace is None:
            self.excuses.clear()  # with a grace period there is none
        for worker in alive:
            if isinstance(worker.result, ReauthorizationRequired) and not self.excuses:
                self.fail(f"worker {worker.name} says that the grant is dead: {worker.result}")
        self._probe()

    def _probe(self) -> None:
        """Send in the next worker, with nothing in its way."""
        self.world.time.now = max(self.world.time.now, self.store_is_back_at, self.writable_at)
        manager, _ = self.world.worker(Faults())
        server = self.world.server
        reuses = server.reuses
        try:
            token = manager.access_token()
            again = manager.access_token(rejected=token)
        except OAuth2Error as error:
            if not self.excuses:
                self.fail(f"the next worker fails: {type(error).__name__}: {error}")
            elif not isinstance(error, ReauthorizationRequired):
                self.fail(f"the next worker does not say that the grant is dead, but: {error}")
            elif "has left no result" not in str(error) and "was lost" not in str(error) and server.reuses > reuses:
                self.fail(f"the next worker does not say why: {error}")
            return
        if not (server.is_good(token) and server.is_good(again)):
            self.fail("the next worker got a token that does not work")
        if not self.excuses and server.reuses:
            self.fail("a spent refresh token was sent")
        newest = self.world.connection.configuration.entered.refresh_token
        if newest != server.grants[-1].newest and newest not in server.grants[-1].spent:
            self.fail("the newest sign-in is not in use")


def _same_generation(old: Record, new: Record) -> bool:
    return old.generation == new.generation and old.entered_fingerprint == new.entered_fingerprint


def run(setting: Setting, deviations: Deviations) -> Run:
    """Run once. Not in the main thread, where a refresh would move to a thread of its own."""
    return Run(setting, deviations).go()


def variations(
    setting: Setting, most: int, actions: frozenset[str] | None = None, base: Deviations | None = None
) -> Iterator[Run]:
    """Run with every combination of at the most ``most`` deviations.

    :param setting: what is the same in all runs.
    :param most: how many deviations a run has beside ``base``.
    :param actions: which ones; None: all.
    :param base: deviations that all runs share.
    """
    base = base or {}
    done = run(setting, base)
    yield done
    if most == 0:
        return
    first = max(base, default=-1) + 1
    for index in range(first, len(done.steps)):
        for action in ACTIONS[done.steps[index]]:
            if actions is None or action in actions:
                yield from variations(setting, most - 1, actions, {**base, index: action})


def in_a_thread(work: Callable[[], object]) -> object:
    """Do ``work`` outside the main thread and without logging; return what it returns."""
    results: list[object] = []
    failures: list[BaseException] = []

    def wrapped() -> None:
        try:
            results.append(work())
        except BaseException as failure:  # noqa: BLE001 - raised in the thread that waits
            failures.append(failure)

    logging.disable(logging.CRITICAL)
    try:
        thread = threading.Thread(target=wrapped)
        thread.start()
        thread.join()
    finally:
        logging.disable(logging.NOTSET)
    if failures:
        raise failures[0]
    return results[0]


def explore(setting: Setting, most: int, actions: frozenset[str] | None = None) -> int:
    """Run all variations; return how many.

    :raises Violation: at the first one that does what must not happen.
    """
    return in_a_thread(lambda: sum(1 for _ in variations(setting, most, actions)))  # type: ignore[return-value]


__all__ = ["START", "MemoryStore", "Setting", "Violation", "explore", "in_a_thread", "run", "variations"]
