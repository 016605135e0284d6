"""A refresh beside others of the same process: signal handlers, threads, forks."""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import os
import signal
import threading

import pytest

from airflow_oauth_provider.exceptions import OAuth2Error, StaleVersion
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.tokens.clock import SystemClock
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.manager import run_to_end
from tests.unit.fakes import Faults, World


class WorldsClock(SystemClock):
    """Waits in earnest, so that threads get on; the wall clock is the world's."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.time.now


class Terminated(BaseException):
    pass


@pytest.fixture
def on_sigterm():
    """Airflow's handler of SIGTERM calls ``on_kill`` of the task, in the main thread, whatever that is doing."""
    before = signal.getsignal(signal.SIGTERM)

    def install(on_kill):
        def handler(*_):
            on_kill()
            raise Terminated

        signal.signal(signal.SIGTERM, handler)

    yield install
    signal.signal(signal.SIGTERM, before)


class TestSignal:
    def test_on_kill_waits_for_the_refresh_that_it_interrupts(self, on_sigterm):
        world = World(grace=0.0)
        handled, seen = threading.Event(), []

        def spend(call):
            answer = call()
            world.pass_time(1.0)  # beyond the server's grace, which is none
            os.kill(os.getpid(), signal.SIGTERM)
            assert handled.wait(30), "the handler has not run"
            return answer

        faults = Faults(token=[spend])
        manager, _ = world.worker(faults, clock=WorldsClock(world))

        def on_kill():
            # It asks for the token while the answer is on its way, as a hook does that cancels a remote job.
            threading.Timer(0.2, handled.set).start()
            seen.append(manager.access_token())

        on_sigterm(on_kill)
        with pytest.raises(Terminated):
            manager.access_token()
        assert (world.server.refreshes, world.server.reuses, world.server.alive) == (1, 0, True)
        assert seen == [world.record.access_token]


class TestDoubtfulLease:
    def test_a_lease_that_is_left_in_the_store_binds_its_own_writer_too(self):
        """Who may be at work beside it cannot be told: a store without compare-and-set."""
        world = World(timeout=10.0)

        def doubtful(call):
            call()
            raise StaleVersion("the store was too slow to tell")

        manager, seam = world.worker(Faults(store_write=[doubtful]))
        before = world.time.now
        manager.access_token()
        assert world.time.now - before >= world.lease
        assert seam.counts["token"] == 1

    def test_a_lease_that_was_not_given_back_does_not_bind_its_own_writer(self):
        world = World(timeout=10.0)
        refusal = errors.InvalidClientResponse("answered 401: invalid_client", code="invalid_client")
        manager, _ = world.worker(Faults(token=[refusal], store_write=[None, "fail"]))
        with pytest.raises(OAuth2Error):
            manager.access_token()
        before = world.time.now
        manager.access_token()
        assert world.time.now - before < world.lease
        assert world.record.generation == 1


@contextlib.contextmanager
def refreshing_in_another_thread(manager, faults):
    """Have a thread in the middle of a forced refresh while the block runs."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(call):
        begun.set()
        assert go_on.wait(60)
        return call()

    faults.always["token"] = slowly
    thread = threading.Thread(target=lambda: manager.obtain(TokenRequirements(force=True)))
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        go_on.set()
        thread.join()


class TestThreads:
    def test_a_thread_whose_token_works_does_not_wait_for_another_threads_refresh(self):
        world = World(lifetime=600.0)
        manager, faults = world.worker(clock=WorldsClock(world))
        first = manager.access_token()
        with refreshing_in_another_thread(manager, faults):
            assert manager.access_token() == first
            assert manager.obtain(TokenRequirements(min_ttl=1.0)).record.access_token == first
        assert world.server.refreshes == 2

    def test_what_is_in_hand_is_known_without_waiting_and_nothing_else_is(self):
        world = World(lifetime=600.0)
        manager, faults = world.worker(clock=WorldsClock(world))
        assert manager.cached_token() is None
        first = manager.access_token()
        assert manager.cached_token() == first
        with refreshing_in_another_thread(manager, faults):
            assert manager.cached_token() is None  # it would have to wait
        assert manager.cached_token() == world.record.access_token != first


class TestRunToEnd:
    """What may interrupt the main thread just where it starts the thread that does the work."""

    @pytest.fixture
    def start(self, monkeypatch):
        """Have ``_thread.start_new_thread`` do what the test says, one thing after the other, and then its work."""
        begin = _thread.start_new_thread
        plan = []

        def start_and_wait(function, arguments):
            ended = threading.Event()
            begin(lambda: (function(*arguments), ended.set()), ())
            assert ended.wait(30)

        def start_new_thread(function, arguments):
            for step in plan.pop(0) if plan else ["start"]:
                if step != "start":
                    raise step
                start_and_wait(function, arguments)

        monkeypatch.setattr(_thread, "start_new_thread", start_new_thread)
        return plan

    def test_the_step_sees_the_context_of_its_caller(self):
        seen = contextvars.ContextVar("seen")
        seen.set("mine")
        assert run_to_end(lambda: (seen.get(), threading.current_thread() is threading.main_thread())) == (
            "mine",
            False,
        )

    def test_what_the_step_raises_comes_out(self):
        def fail():
            raise RuntimeError("of the step")

        with pytest.raises(RuntimeError, match="of the step"):
            run_to_end(fail)

    def test_where_no_thread_is_to_be_had_the_step_has_not_begun(self, start):
        steps = []
        start.append([RuntimeError("can't start new thread")])
        with pytest.raises(RuntimeError, match="can't start"):
            run_to_end(lambda: steps.append(1))
        assert steps == []

    @pytest.mark.parametrize(
        "plan",
        [
            [[Terminated("first")]],  # before the thread has been started
            [["start", Terminated("first")]],  # after that
            [[Terminated("first")], [Terminated("second")]],
            [[Terminated("first")], [RuntimeError("can't start new thread")]],
            [["start", Terminated("first")], ["start", Terminated("second")]],
        ],
    )
    def test_the_step_is_done_once_and_what_came_first_is_raised(self, start, plan):
        steps = []
        start.extend(plan)
        with pytest.raises(Terminated, match="first"):
            run_to_end(lambda: steps.append(1))
        assert steps == [1]

    def test_an_interruption_counts_more_than_what_the_step_raised(self, start):
        def fail():
            raise OSError("of the step")

        start.append(["start", Terminated("first")])
        with pytest.raises(Terminated, match="first"):
            run_to_end(fail)


class TestFork:
    def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have(self):
        world = World()
        manager, faults = world.worker(clock=WorldsClock(world))
        first = manager.access_token()
        with refreshing_in_another_thread(manager, faults):
            pid = os.fork()
            if pid == 0:
                # Still in hand: served at once, unless the lock is the parent's.
                signal.alarm(20)
                os._exit(0 if manager.cached_token() == first else 1)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
