"""A lease is short; who needs longer renews it first, and sends nothing under one that could not be renewed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import OAuth2Error, StaleVersion, StoreUnavailable, TokenRequestError
from airflow_oauth_provider.oauth2 import deadline, errors
from airflow_oauth_provider.tokens import lease, messages, precedence
from airflow_oauth_provider.tokens.clock import SystemClock
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.lease import LeaseBudget, LeaseWatch, keep_lease
from airflow_oauth_provider.tokens.record import Lease
from tests.unit.fakes import FakeClock, Faults, MemoryStore, Time, World

#: A token request is first renewed after 0.2 s and broken off after 0.4 s.
SHORT = LeaseBudget(spend=0.4, write=30.0, rescue=30.0)


class Killed(BaseException):
    """Stands for SIGKILL."""


def slowly(world, seconds):
    def step(call):
        answer = call()
        world.pass_time(seconds)
        return answer

    return step


class TestBeforeSending:
    def test_a_lease_that_took_long_to_write_is_renewed_first(self):
        world = World(timeout=10.0)
        seen = []

        def send(call):
            seen.append((world.record.lease.renewals, world.time.now))
            return call()

        manager, seam = world.worker(Faults(store_write=[slowly(world, 7.0)], token=[send]))
        manager.access_token()
        assert seen[0][0] == 1
        assert seam.counts["store.write"] == 3

    def test_one_that_did_not_is_not(self):
        world = World(timeout=10.0)
        manager, seam = world.worker(Faults(store_write=[slowly(world, 5.0)]))
        manager.access_token()
        assert seam.counts["store.write"] == 2

    def test_nothing_is_sent_where_another_worker_has_written_meanwhile(self):
        world = World(timeout=10.0)

        def overtaken(call):
            call()
            world.pass_time(7.0)
            answer = world.server.answer(
                {"grant_type": "refresh_token", "refresh_token": world.record.refresh_token or ""}
            )
            world.cell.record = replace(
                world.record, generation=1, lease=None, access_token=answer.access_token,
                refresh_token=answer.refresh_token, expires_in=600.0, issued_at=world.time.now,
            )  # fmt: skip
            world.cell.number += 1
            return str(world.cell.number - 1)

        manager, seam = world.worker(Faults(store_write=[overtaken]))
        assert manager.access_token() == world.record.access_token
        assert seam.counts["token"] == 0

    def test_nothing_is_sent_where_the_store_is_away(self):
        world = World(timeout=10.0)
        manager, seam = world.worker(Faults(store_write=[slowly(world, 7.0), "fail", "fail"]))
        with pytest.raises(StoreUnavailable):
            manager.access_token()
        assert seam.counts["token"] == 0
        assert world.record.lease is None  # given back by the next write, which went through

    def test_a_renewal_whose_answer_was_lost_counts(self):
        world = World(timeout=10.0)
        manager, seam = world.worker(Faults(store_write=[slowly(world, 7.0), "lose"]))
        manager.access_token()
        assert (seam.counts["token"], world.server.reuses, world.record.generation) == (1, 0, 1)


class TestBetweenRequests:
    def busy(self, seconds):
        return errors.ServerFailure("busy", status=503, retry_after=seconds)

    def test_it_is_renewed_while_the_server_wants_to_be_left_alone(self):
        world = World(timeout=30.0)
        manager, seam = world.worker(Faults(token=[self.busy(25.0)]))
        manager.access_token()
        assert seam.counts["token"] == 2
        assert seam.counts["store.write"] >= 2 + 4  # every 6 s
        assert max(record.lease.renewals for _, record in world.cell.history if record.lease) >= 4

    def test_others_wait_all_the_time(self):
        world = World(timeout=30.0)
        others = []

        class Clock(FakeClock):
            def sleep(self, seconds):
                super().sleep(seconds)
                watch = LeaseWatch(FakeClock(world.time)) if not others else others[0]
                others[:] = [watch]
                assert world.record.lease is None or not watch.is_over(world.record.lease)

        manager, _ = world.worker(Faults(token=[self.busy(25.0)]), clock=Clock(world.time))
        manager.access_token()
        assert others

    @pytest.mark.parametrize("failing", [1, 2, 3])
    def test_nothing_is_sent_again_after_a_renewal_that_failed(self, failing):
        world = World(timeout=30.0)
        writes = [None] * failing + ["fail", "fail"]
        manager, seam = world.worker(Faults(token=[self.busy(25.0)], store_write=writes))
        with pytest.raises(TokenRequestError):
            manager.access_token()
        assert seam.counts["token"] == 1

    def test_nor_after_another_worker_has_taken_over(self):
        world = World(timeout=30.0)

        def taken_over(call):
            world.cell.record = replace(world.record, lease=Lease("other", 20.0, world.time.now))
            world.cell.number += 1
            return call()

        manager, seam = world.worker(Faults(token=[self.busy(25.0)], store_write=[None, taken_over]))
        manager.access_token()  # after the other one's lease has ended
        assert seam.counts["token"] == 2
        assert (world.server.refreshes, world.server.reuses) == (1, 0)

    def test_the_pause_is_no_longer_than_the_time_for_all_requests(self):
        world = World(timeout=10.0)
        manager, seam = world.worker(Faults(token=[self.busy(100.0)]))
        with pytest.raises(TokenRequestError):
            manager.access_token()
        assert seam.counts["token"] == 1
        assert world.record.not_before == pytest.approx(world.time.now + 100.0)


class TestRenewalInFlight:
    def renewal(self, world, elapsed):
        """What the thread is told that could not renew the lease."""
        manager, seam = world.worker()
        snapshot = manager._load()
        held = manager._refresher._take_lease(
            snapshot, snapshot.record or precedence.current(snapshot.configuration, None)
        )
        world.pass_time(elapsed)
        seam.always["store.write"] = "fail"
        with deadline.within(1.0) as bound:
            return manager._refresher._renew_in_flight(held, bound)

    @pytest.mark.parametrize(("elapsed", "expected"), [(3.8, 1.0), (6.0, 1.0), (10.5, 1.0), (11.0, None), (12.0, None)])
    def test_one_that_failed_is_tried_again_each_second_while_there_is_time(self, elapsed, expected):
        assert self.renewal(World(timeout=30.0), elapsed) == expected


class TestInFlight:
    """With threads and time in earnest."""

    def manager(self, world, seam):
        return world.worker(seam, clock=SystemClock(), budget=SHORT)[0]

    def test_it_is_renewed_until_the_answer_has_come(self):
        world = World()
        renewed = threading.Event()

        def answer_late(call):
            answer = call()
            assert renewed.wait(30)
            return answer

        def note(call):
            version = call()
            if world.record.lease is not None and world.record.lease.renewals >= 3:
                renewed.set()
            return version

        seam = Faults(token=[answer_late])
        seam.always["store.write"] = note
        result = self.manager(world, seam).obtain(TokenRequirements())
        assert result.refreshed
        assert (world.server.refreshes, world.record.generation, world.record.lease) == (1, 1, None)

    @pytest.mark.parametrize("failure", ["fail", StaleVersion("another worker has written"), RuntimeError("a bug")])
    def test_a_renewal_that_fails_is_logged_and_loses_nothing(self, failure, caplog):
        world = World()
        failed = threading.Event()

        def answer_late(call):
            answer = call()
            assert failed.wait(30)
            return answer

        def fail(call):
            failed.set()
            raise failure if isinstance(failure, Exception) else StoreUnavailable("out of order")

        again = [fail] if failure == "fail" else []  # one that may only have lost its answer is asked once more
        manager = self.manager(world, Faults(token=[answer_late], store_write=[None, fail, *again]))
        assert world.server.is_good(manager.access_token())
        assert "its lease was not renewed" in caplog.text
        assert world.server.refreshes == 1

    def test_a_store_is_used_by_one_thread_at_a_time(self):
        world = World()
        renewing, busy, met = threading.Event(), [], []

        def write(call):
            met.extend(busy)
            busy.append(True)
            if world.record.lease is not None and not renewing.is_set():
                renewing.set()
                threading.Event().wait(0.3)  # the answer comes meanwhile
            version = call()
            busy.pop()
            return version

        def answer_late(call):
            answer = call()
            assert renewing.wait(30)
            return answer

        seam = Faults(token=[answer_late], store_write=[None])
        seam.always["store.write"] = write
        self.manager(world, seam).access_token()
        assert not met
        assert world.record.generation == 1

    def test_where_no_thread_is_to_be_had_the_request_has_the_time_of_one_lease(self, monkeypatch):
        def no_thread(*_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", no_thread)
        with keep_lease(0.0, lambda: pytest.fail("renewed")):
            pass

    def test_a_request_that_was_broken_off_counts_as_a_lost_answer(self):
        world = World(grace=600.0)
        manager, seam = world.worker(Faults(token=["lose"]))
        manager.access_token()
        assert seam.counts["token"] == 2


WAITING = "import sys; from airflow_oauth_provider.tokens import lease; print(lease.identify_process()); input()"


def a_process():
    command = [sys.executable, "-u", "-c", WAITING]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestDeadHolder:
    def test_a_process_that_was_killed_is_recognized_even_before_its_parent_looks(self):
        victim = a_process()
        identity = victim.stdout.readline().strip()
        assert not lease.is_process_gone(identity)
        victim.kill()
        os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
        assert lease.is_process_gone(identity)  # a zombie
        victim.communicate()
        assert lease.is_process_gone(identity)

    def test_a_process_that_is_stopped_is_not_gone(self):
        victim = a_process()
        identity = victim.stdout.readline().strip()
        victim.send_signal(signal.SIGSTOP)
        assert not lease.is_process_gone(identity)
        victim.kill()
        victim.communicate()

    def test_one_that_cannot_be_looked_at_is_not_gone(self, monkeypatch):
        """/proc may hide the processes of other users."""
        mine = lease.identify_process()

        def hidden(_):
            raise PermissionError

        monkeypatch.setattr(lease, "_read_start_time", hidden)
        assert not lease.is_process_gone(mine)
        assert lease.identify_process() == ""

    def test_one_that_has_the_same_number_is_another(self):
        place, number, started = lease.identify_process().split(":")
        assert lease.is_process_gone(f"{place}:{number}:{int(started) - 1}")

    @pytest.mark.parametrize(
        "identity",
        [
            "",
            ":",
            "::",
            "elsewhere:1:1",
            "elsewhere:999999:1",
            "x",
            "a:b:c:d",
            f"{'0' * 16}:{2**22 + 1}:5",
            "\ud800:1:1",
        ],
    )
    def test_of_other_machines_nothing_is_said(self, identity):
        assert not lease.is_process_gone(identity)

    @pytest.mark.parametrize("number", ["0", "-1", "x", "", "9" * 30, "1.0"])
    def test_a_number_that_is_none_says_nothing(self, number):
        place = lease.identify_process().partition(":")[0]
        assert not lease.is_process_gone(f"{place}:{number}:1")

    def test_a_container_with_a_namespace_of_its_own_has_another_place(self, monkeypatch):
        mine = lease.identify_process()
        link = os.readlink
        monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]" if str(path).endswith("ns/pid") else link(path))
        assert lease.identify_process().partition(":")[0] != mine.partition(":")[0]
        assert not lease.is_process_gone(f"{mine.partition(':')[0]}:{2**22 + 1}:5")

    def test_where_proc_shows_another_namespace_nothing_is_told(self, monkeypatch):
        link = os.readlink
        monkeypatch.setattr(os, "readlink", lambda path: "1" if str(path).endswith("self") else link(path))
        assert lease.identify_process() == ""

    def test_nobody_waits_for_a_holder_that_is_gone(self, caplog):
        world = World()
        victim = a_process()
        identity = victim.stdout.readline().strip()
        victim.kill()
        victim.communicate()
        manager, _ = world.worker()
        first, _ = world.worker()
        first.access_token()
        world.pass_time(700.0)
        world.cell.record = replace(world.record, lease=Lease("gone", 20.0, world.time.now, process=identity))
        world.cell.number += 1
        before = world.time.now
        manager.access_token()
        assert world.time.now - before < 1.0
        assert "has left no result" in caplog.text

    def test_a_lease_under_which_nothing_was_sent_runs_out_all_the_same(self):
        """It may have been written over the lease of a worker that is at work: a place without compare-and-set."""
        watch = LeaseWatch(FakeClock(Time()))
        place = lease.identify_process().partition(":")[0]
        gone = Lease("gone", 20.0, 0.0, process=f"{place}:{2**22 + 1}:5")
        assert watch.is_over(gone)
        assert not watch.is_over(replace(gone, sent=False))


class TestPlacesWithoutCompareAndSet:
    """A lease has to stay there for a while before anything is sent under it."""

    @pytest.fixture
    def world(self, monkeypatch):
        monkeypatch.setattr(MemoryStore, "settle_time", 3.0)
        return World(timeout=30.0)

    def test_the_lease_says_that_nothing_was_sent_until_it_is_renewed(self, world):
        seen = []

        def send(call):
            seen.append(world.record.lease)
            return call()

        manager, seam = world.worker(Faults(token=[send]))
        manager.access_token()
        leases = [record.lease for _, record in world.cell.history]
        assert [lease and (lease.sent, lease.seconds) for lease in leases] == [(False, 12.0), (True, 20.0), None]
        assert seen[0].sent
        assert seam.counts["store.write"] == 3

    def test_others_wait_less_for_one_that_sent_nothing(self, world, caplog):
        with pytest.raises(Killed):
            world.worker(Faults(store_write=[None, Killed()]))[0].access_token()
        before = world.time.now
        world.worker()[0].access_token()
        assert 12.0 <= world.time.now - before < 15.0
        assert "sent nothing" in caplog.text
        assert world.server.reuses == 0

    def test_tokens_are_written_over_a_lease_that_sent_nothing(self, world):
        """A slow write of another worker's landed after ours had settled."""

        def overwritten(call):
            answer = call()
            world.cell.record = replace(world.record, lease=Lease("late", 12.0, world.time.now, sent=False))
            world.cell.number += 1
            return answer

        before = world.time.now
        manager, _ = world.worker(Faults(token=[overwritten]))
        manager.access_token()
        assert (world.record.generation, world.record.lease) == (1, None)
        assert world.time.now - before < 1.0

    def test_one_that_took_too_long_to_settle_sends_nothing(self, world):
        seam = Faults(store_write=[slowly(world, 12.5)])
        manager, _ = world.worker(seam)
        manager.access_token()
        assert seam.counts["token"] == 1
        leases = [record.lease for _, record in world.cell.history if record.lease]
        assert [lease.sent for lease in leases] == [False, False, True]
        assert leases[0].owner != leases[1].owner == leases[2].owner


class TestWaitingIsVisible:
    def held(self, world, **more):
        world.worker()[0].access_token()
        world.pass_time(700.0)
        world.cell.record = replace(world.record, lease=Lease("other", 20.0, world.time.now, **more))
        world.cell.number += 1

    def test_one_line_at_the_beginning_and_one_at_the_end(self, caplog):
        world = World()
        self.held(world, actor="nightly/fetch")
        with caplog.at_level(logging.INFO):
            world.worker()[0].access_token()
        lines = [record.message for record in caplog.records if "wait" in record.message.lower()]
        assert len(lines) == 2
        assert "nightly/fetch" in lines[0]
        assert "has been refreshing since 2030-03-17" in lines[0]
        assert "at most 20 s" in lines[0]
        assert "waited 2" in lines[1]

    def test_a_renewal_is_no_other_holder(self, caplog):
        world = World()
        self.held(world)
        renewals = iter(range(1, 6))

        def renew(call):
            number = next(renewals, None)
            if number is not None:
                world.cell.record = replace(world.record, lease=replace(world.record.lease, renewals=number))
                world.cell.number += 1
                world.pass_time(10.0)
            return call()

        seam = Faults(store_read=[None])
        seam.always["store.read"] = renew
        before = world.time.now
        with caplog.at_level(logging.INFO):
            world.worker(seam)[0].access_token()
        assert world.time.now - before > 60.0
        assert caplog.text.count("has been refreshing since") == 1

    def test_who_needs_no_refresh_says_nothing_of_another_workers(self, caplog):
        world = World()
        world.worker()[0].access_token()
        world.cell.record = replace(world.record, lease=Lease("other", 20.0, world.time.now))
        told = []
        with caplog.at_level(logging.INFO):
            world.worker(on_event=told.append)[0].access_token()
        assert "refreshing" not in caplog.text
        assert told == []

    def test_who_does_not_wait_says_nothing(self, caplog):
        world = World()
        with caplog.at_level(logging.INFO):
            world.worker()[0].access_token()
        assert "wait" not in caplog.text.lower()

    def test_what_is_said_of_a_holder_that_sent_nothing(self):
        assert "sent nothing" in messages.holder_gone(Lease("x", 20.0, 5.0, sent=False))
        assert "lost" not in messages.holder_gone(Lease("x", 20.0, 5.0, sent=False))

    def test_a_holder_that_sent_nothing_leaves_no_doubt_about_the_grant(self):
        world = World()
        self.held(world, sent=False)
        written = []

        def note(call):
            version = call()
            written.append(world.record.interrupted)
            return version

        world.worker(Faults(store_write=[note]))[0].access_token()
        assert written == [None]


def test_an_error_under_way_gives_the_lease_back():
    world = World(timeout=30.0)
    manager, _ = world.worker(Faults(token=[errors.ServerFailure("busy", status=503, retry_after=100.0)]))
    with pytest.raises(OAuth2Error):
        manager.access_token()
    assert world.record.lease is None
