"""How long the life cycle pauses, waits and holds a lease, in seconds. Here no pause is spread by chance."""

from __future__ import annotations

import logging
import math
import random
from contextlib import contextmanager
from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    ReauthorizationRequired,
    RefreshTimeout,
    RefreshTooEarly,
    StaleVersion,
    StoreUnavailable,
    TokenRequestError,
)
from airflow_oauth_provider.oauth2 import deadline, errors
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens import revocation
from airflow_oauth_provider.tokens.clock import Backoff
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.decision import Action, TokenRequirements, TokenResult, decide
from airflow_oauth_provider.tokens.lease import HeldLease, LeaseBudget, LeaseWatch, WaitForHolder
from airflow_oauth_provider.tokens.manager import TokenCache
from airflow_oauth_provider.tokens.record import Lease, Record
from tests.unit.fakes import START, FakeClock, FakeSource, Faults, MemoryStore, Time, World, anew
from tests.unit.test_refresh_decision import RECORD, situation

ANY = TokenRequirements()


@pytest.fixture(autouse=True)
def no_chance(monkeypatch):
    """Each pause is as long as it is on average."""
    monkeypatch.setattr(random, "random", lambda: 0.5)


def about(*seconds):
    return [pytest.approx(each) for each in seconds]


def stale(world, left=0.0):
    """Have a token whose lifetime (600 s) ends in ``left`` seconds."""
    world.worker()[0].access_token()
    world.pass_time(600.0 - left)


def hold(world, seconds=20.0, owner="other", **more):
    """Have another worker hold the lease."""
    world.cell.record = replace(world.record, lease=Lease(owner, seconds, world.time.now, **more))
    world.cell.number += 1


class TestPauses:
    def test_each_is_longer_by_more_than_half_up_to_a_second(self):
        backoff = Backoff(FakeClock(Time()), first=0.1)
        assert [backoff.next_pause() for _ in range(8)] == about(0.1, 0.16, 0.256, 0.4096, 0.65536, 1.0, 1.0, 1.0)

    def test_who_waits_looks_again_soon_at_first_and_then_each_second(self):
        world = World()
        stale(world)
        hold(world)
        clock = FakeClock(world.time)
        world.worker(clock=clock)[0].access_token()
        assert clock.slept[:3] == about(0.02, 0.032, 0.0512)
        assert max(clock.slept) == 1.0
        assert 20.0 <= world.time.now - START - 600.0 < 21.0

    def test_another_holder_is_looked_at_soon_again(self):
        clock = FakeClock(Time())
        wait = WaitForHolder(clock, "xero")
        for owner in ("one", "one", "two"):
            wait.note(Lease(owner, 20.0, START), 20.0)
            wait.pause()
        assert clock.slept == about(0.02, 0.032, 0.02)

    def test_who_came_second_with_the_lease_reads_again_soon(self):
        world = World()
        clock = FakeClock(world.time)
        taken = StaleVersion("somebody was faster")
        world.worker(Faults(store_write=[taken, taken]), clock=clock)[0].access_token()
        # What its own process has not written for certain binds nobody, and each try begins with a read.
        assert clock.slept[:2] == about(0.02, 0.032)

    def test_a_token_request_is_sent_again_after_half_a_second_one_and_two(self):
        world = World()
        clock = FakeClock(world.time)
        world.worker(Faults(token=["fail"] * 3), clock=clock)[0].access_token()
        assert [pause for pause in clock.slept if pause] == about(0.5, 1.0, 2.0)

    @pytest.mark.parametrize(("asked", "waited"), [(0.2, 0.5), (1.5, 1.5), (None, 0.5)])
    def test_and_not_before_the_server_wants_it(self, asked, waited):
        world = World()
        clock = FakeClock(world.time)
        busy = errors.ServerFailure("busy", status=429, retry_after=asked)
        world.worker(Faults(token=[busy]), clock=clock)[0].access_token()
        assert [pause for pause in clock.slept if pause] == about(waited)

    def test_a_write_is_tried_again_at_once_and_then_every_other_second(self):
        world = World(timeout=10.0)
        clock = FakeClock(world.time)
        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        world.worker(seam, clock=clock)[0].access_token()
        assert clock.slept[:3] == about(0.05, 0.08, 0.128)
        assert max(clock.slept) == 2.0

    def test_the_fallback_is_tried_again_at_once_and_then_every_second(self):
        world = World(timeout=10.0)
        clock = FakeClock(world.time)
        seam = Faults(store_write=[None, RuntimeError("a bug")])
        seam.always["fallback.save"] = "fail"
        with pytest.raises(StoreUnavailable):
            world.worker(seam, clock=clock)[0].access_token()
        assert clock.slept[:3] == about(0.05, 0.08, 0.128)
        assert max(clock.slept) == 1.0
        assert 20.0 <= world.time.now - START < 21.0  # to the end of the lease

    def test_who_comes_late_tries_the_fallback_for_as_long_as_everybody(self):
        world = World(timeout=10.0)
        clock = FakeClock(world.time)
        seam = Faults(store_write=[None, lambda call: world.pass_time(100.0) or _raise(RuntimeError("a bug"))])
        seam.always["fallback.save"] = "fail"
        with pytest.raises(StoreUnavailable):
            world.worker(seam, clock=clock)[0].access_token()
        assert 104.0 <= world.time.now - START < 105.0

    def test_a_revocation_looks_again_after_a_tenth_of_a_second(self, monkeypatch):
        monkeypatch.setattr(revocation, "request_revocation", lambda *_: None)
        world = World()
        world.worker()[0].access_token()
        hold(world)
        clock = FakeClock(world.time)
        assert revocation.revoke(
            FakeSource(world.connection, MemoryStore(world.cell, Faults()), Faults()), "access_token", clock
        )
        assert clock.slept[:3] == about(0.1, 0.16, 0.256)
        assert 20.0 <= world.time.now - START < 21.0

    @pytest.mark.parametrize(
        ("successor", "slept", "copies"),
        [
            ({"sent": True}, [0.3], 1),
            ({"sent": True, "owner": "!"}, [0.3], 1),  # before all others by name
            ({"sent": True, "seconds": 0.0}, [], 0),  # its time is up
            ({"sent": False}, [], 0),  # it has spent nothing
        ],
    )
    def test_a_latecomer_lets_its_successor_go_first_for_a_moment(self, successor, slept, copies):
        world = World()
        clock = FakeClock(world.time)

        def taken_over(call):
            answer = call()
            hold(world, **{"owner": "successor", **successor})
            return answer

        manager, seam = world.worker(Faults(token=[taken_over]), clock=clock)
        assert manager.access_token() == world.record.access_token
        assert (clock.slept, seam.counts["fallback.save"], world.kept) == (slept, copies, {})

    def test_a_latecomer_tries_for_its_copy_for_four_seconds(self):
        world = World(timeout=10.0)
        clock = FakeClock(world.time)

        def taken_over(call):
            answer = call()
            hold(world, owner="successor")
            return answer

        seam = Faults(token=[taken_over])
        seam.always["fallback.save"] = "fail"
        assert world.worker(seam, clock=clock)[0].access_token() == world.record.access_token
        assert 4.3 <= world.time.now - START < 5.3

    def test_a_read_is_tried_three_times_within_a_second(self, monkeypatch):
        monkeypatch.setattr(random, "uniform", lambda lowest, highest: highest)
        world = World()
        clock = FakeClock(world.time)
        seam = Faults(store_read=["fail"] * 3)
        with pytest.raises(StoreUnavailable):
            world.worker(seam, clock=clock)[0].access_token()
        assert (seam.counts["store.read"], seam.counts["store.write"]) == (3, 0)
        assert clock.slept == about(0.2, 0.4)


def _raise(failure):
    raise failure


class TestLease:
    @pytest.mark.parametrize(("timeout", "spend"), [(3.0, 5.0), (9.5, 11.5), (10.0, 12.0), (60.0, 12.0)])
    def test_it_covers_one_request_its_write_and_the_fallback(self, timeout, spend):
        budget = LeaseBudget.for_timeout(timeout)
        assert (budget.spend, budget.write, budget.rescue) == (spend, 4.0, 4.0)
        assert (budget.total, budget.renewal) == (spend + 8.0, spend / 2)

    def test_its_moments_count_from_when_it_was_taken(self):
        held = HeldLease(None, Record(lease=Lease("a", 11.0, 0.0)), "1", 100.0, 0.0, LeaseBudget(5.0, 4.0, 2.0))
        assert (held.renew_at, held.spend_until, held.write_until, held.ends_at) == (102.5, 105.0, 109.0, 111.0)

    def test_one_is_renewed_first_from_half_of_its_request_on(self):
        for delay, writes in ((5.9, 2), (6.0, 3), (20.0, 3), (20.1, 3)):
            world = World(timeout=10.0)

            def slowly(call, world=world, delay=delay):
                version = call()
                world.pass_time(delay)
                return version

            manager, seam = world.worker(Faults(store_write=[slowly]))
            manager.access_token()
            assert seam.counts["store.write"] == writes, delay
            leases = {record.lease.owner for _, record in world.cell.history if record.lease}
            assert len(leases) == (2 if delay > 20.0 else 1), delay

    def test_it_binds_to_its_end_and_no_longer(self):
        time = Time()
        watch, lease = LeaseWatch(FakeClock(time)), Lease("other", 20.0, 0.0)
        assert watch.left(lease) == 20.0
        time.now += 19.5
        assert (watch.left(lease), watch.is_over(lease)) == (0.5, False)
        time.now += 0.5
        assert (watch.left(lease), watch.is_over(lease)) == (0.0, True)

    def test_a_renewal_counts_anew(self):
        time = Time()
        watch, lease = LeaseWatch(FakeClock(time)), Lease("other", 20.0, 0.0)
        watch.left(lease)
        time.now += 15.0
        renewed = replace(lease, renewals=1)
        assert watch.left(renewed) == 20.0
        time.now += 15.0
        assert watch.left(renewed) == 5.0

    def test_ones_own_binds_while_it_is_held_and_never_after(self):
        watch, mine = LeaseWatch(FakeClock(Time())), Lease("mine", 20.0, 0.0)
        watch.hold("mine")
        assert watch.left(mine) == 20.0
        watch.end("mine")
        assert watch.left(mine) == 0.0
        watch.hold("mine")
        watch.disown("mine")
        assert watch.left(mine) == 20.0  # as any other's

    def test_waiting_counts_for_one_holder_and_in_all(self, caplog):
        time = Time()
        wait = WaitForHolder(FakeClock(time), "xero")
        assert (wait.end(), wait.seconds(None), wait.seconds(Lease("a", 20.0, 0.0))) == (None, 0.0, 0.0)
        with caplog.at_level(logging.INFO):
            for owner in ("b", "b", "c", "c", "a", "b", "b"):
                wait.note(Lease(anew(owner * 2), 20.0, START), 20.0)
                time.now += 5.0
            assert [wait.seconds(Lease(anew(owner * 2), 20.0, START)) for owner in "abc"] == [0.0, 10.0, 0.0]
            assert wait.end() == 35.0
        assert caplog.text.count("has been refreshing since") == 4
        assert "waited 35.0 s" in caplog.text

    def test_a_settling_lease_lasts_for_the_request_and_four_settle_times_at_least(self, monkeypatch):
        for settle, seconds in ((3.0, 12.0), (5.0, 20.0)):
            monkeypatch.setattr(MemoryStore, "settle_time", settle)
            world = World(timeout=10.0)
            world.worker()[0].access_token()
            leases = [record.lease for _, record in world.cell.history if record.lease]
            assert [lease.seconds for lease in leases] == [seconds, 20.0]


class TestRequests:
    @pytest.mark.parametrize(
        ("timeout", "asked", "sent"), [(10.0, 15.0, 2), (10.0, 15.1, 1), (4.0, 9.0, 2), (4.0, 9.1, 1)]
    )
    def test_the_last_one_begins_a_timeout_and_five_seconds_after_the_first_at_the_latest(self, timeout, asked, sent):
        world = World(timeout=timeout)
        busy = errors.ServerFailure("busy", status=503, retry_after=asked)
        manager, seam = world.worker(Faults(token=[busy]))
        if sent == 2:
            manager.access_token()
        else:
            with pytest.raises(TokenRequestError):
                manager.access_token()
        assert seam.counts["token"] == sent

    @pytest.mark.parametrize(("asked", "told"), [(50.0, 50.0), (120.0, 120.0), (500.0, 120.0)])
    def test_others_are_told_of_two_minutes_at_the_most(self, asked, told):
        world = World(timeout=1.0)
        with pytest.raises(TokenRequestError):
            world.worker(Faults(token=[errors.ServerFailure("busy", status=503, retry_after=asked)]))[0].access_token()
        assert world.record.not_before == world.time.now + told

    def test_nobody_is_told_of_no_time(self):
        world = World()
        seam = Faults()
        seam.always["token"] = errors.ServerFailure("busy", status=429, retry_after=0.0)
        with pytest.raises(TokenRequestError):
            world.worker(seam)[0].access_token()
        assert world.record.not_before is None
        assert seam.counts["token"] == 4

    @pytest.mark.parametrize("timeout", [2.0, 10.0])
    def test_a_caller_waits_for_two_refreshes_and_a_minute_at_the_most(self, timeout):
        world = World(timeout=timeout)
        stale(world)
        hold(world)
        number = [0]

        def always_another(call):
            number[0] += 1
            hold(world, owner=f"other {number[0]}")
            return call()

        seam = Faults()
        seam.always["store.read"] = always_another
        began = world.time.now
        with pytest.raises(RefreshTimeout):
            world.worker(seam)[0].access_token()
        one_refresh = 2 * timeout + 5 + timeout + world.lease
        assert 0.0 < world.time.now - began - (2 * one_refresh + 60.0) < 1.1


class Keeper:
    """Renews the lease once, ``delay`` seconds after the request has been sent, without a thread."""

    def __init__(self, world, delay):
        self.world, self.delay, self.first, self.next = world, delay, None, None

    def __call__(self, first, renew):
        self.first, self.renew = first, renew
        return self

    def __enter__(self):
        self.world.pass_time(self.delay)
        self.next = self.renew()

    def __exit__(self, *_):
        return None


class TestInFlight:
    def taking(self, world, seconds):
        def step(call):
            answer = call()
            world.pass_time(seconds)
            return answer

        return step

    def test_a_request_has_what_its_lease_leaves_and_more_with_each_renewal(self, monkeypatch):
        world = World(timeout=30.0)
        given = []

        class Bound:
            def extend(self, seconds):
                given.append(seconds)

        @contextmanager
        def within(seconds):
            given.append(seconds)
            yield Bound()

        monkeypatch.setattr(deadline, "within", within)
        manager, _ = world.worker(Faults(store_write=[self.taking(world, 2.0), self.taking(world, 1.0)]))
        keeper = Keeper(world, 4.0)
        manager._refresher = replace(manager._refresher, keeper=keeper)
        manager.access_token()
        # 12 s from before the write that took or renewed the lease, and half of that until the next renewal.
        assert given == [10.0, 11.0]
        assert (keeper.first, keeper.next) == (4.0, 5.0)
        assert [record.lease.renewals for _, record in world.cell.history if record.lease] == [0, 1]

    @pytest.mark.parametrize(("delay", "writes"), [(19.5, 3), (20.0, 2)])
    def test_it_is_kept_up_for_two_timeouts(self, delay, writes):
        world = World(timeout=10.0)
        manager, seam = world.worker()
        keeper = Keeper(world, delay)
        manager._refresher = replace(manager._refresher, keeper=keeper)
        manager.access_token()
        assert (seam.counts["store.write"], keeper.next) == (writes, 6.0 if writes == 3 else None)

    def test_who_has_waited_for_a_busy_server_long_enough_does_not_wait_more(self):
        world = World(timeout=30.0)
        clock = FakeClock(world.time)
        busy = errors.ServerFailure("busy", status=429, retry_after=3.0)

        def slow_to_refuse(call):
            world.pass_time(7.0)  # beyond the time of the renewal
            raise busy

        manager, seam = world.worker(Faults(token=[slow_to_refuse]), clock=clock)
        manager.access_token()
        assert clock.slept == [0.0, 3.0]
        slow_renewal = [None, self.taking(world, 5.0)]
        manager, seam = world.worker(Faults(token=[slow_to_refuse], store_write=slow_renewal), clock=clock)
        clock.slept.clear()
        manager.obtain(TokenRequirements(force=True))
        assert clock.slept == [0.0, 0.0]
        assert seam.counts["store.write"] == 3

    def test_a_renewal_that_finds_another_worker_ends_the_renewing(self, caplog):
        world = World(timeout=10.0)
        taken = StaleVersion("another worker has written")
        manager, _ = world.worker(Faults(store_write=[None, taken]))
        keeper = Keeper(world, 4.0)
        manager._refresher = replace(manager._refresher, keeper=keeper)
        manager.access_token()
        assert keeper.next is None
        assert "is broken off in 8 s" in caplog.text


class TestKeeping:
    @pytest.mark.parametrize(("hangs", "writes"), [(15.5, 3), (16.0, 3), (16.5, 2)])
    def test_the_store_is_tried_until_the_time_for_writing_is_over(self, hangs, writes):
        world = World(timeout=10.0)

        def hang(_):
            world.pass_time(hangs)
            raise StoreUnavailable("no answer")

        manager, seam = world.worker(Faults(store_write=[None, hang]))
        seam.always["store.write"] = "fail"
        assert manager.obtain(ANY).store == "fallback"
        assert min(seam.counts["store.write"], 3) == writes

    def test_a_copy_is_tried_once_at_each_failure(self):
        world = World()
        manager, seam = world.worker(Faults(store_write=[None, "fail", "fail"]))
        seam.always["fallback.save"] = "fail"
        manager.access_token()
        assert seam.counts["fallback.save"] == 2

    def test_one_copy_is_enough(self):
        world = World()
        manager, seam = world.worker(Faults(store_write=[None, "fail", "fail", "fail"]))
        manager.access_token()
        assert (seam.counts["fallback.save"], seam.counts["fallback.remove"]) == (1, 1)

    def test_nobody_lets_itself_go_first(self):
        """A renewal whose answer came too late: the lease in the store is its own."""
        world = World()
        clock = FakeClock(world.time)

        def renewed(call):
            answer = call()
            world.cell.record = replace(world.record, lease=replace(world.record.lease, renewals=1))
            world.cell.number += 1
            return answer

        world.worker(Faults(token=[renewed]), clock=clock)[0].access_token()
        assert clock.slept == []

    def rescued(self):
        world = World()
        away = Faults(store_write=[None])
        away.always["store.write"] = "fail"
        world.worker(away)[0].access_token()
        return world

    def test_who_is_second_to_bring_tokens_back_takes_what_the_first_one_did(self):
        world = self.rescued()

        def first_one_did(call):
            world.worker()[0].access_token()
            return call()

        manager, seam = world.worker(Faults(store_write=[first_one_did]))
        assert manager.access_token() == world.record.access_token
        assert (seam.counts["token"], world.server.refreshes, world.kept) == (0, 1, {})

    def test_an_entry_that_cannot_be_removed_is_in_nobodys_way(self, caplog):
        world = self.rescued()
        manager, seam = world.worker()
        seam.always["fallback.remove"] = "fail"
        assert world.server.is_good(manager.access_token())
        assert "an outdated entry stays" in caplog.text
        assert world.worker()[0].access_token() == world.record.access_token
        assert world.server.refreshes == 1

    def test_a_grant_without_refresh_token_looks_nowhere_else(self):
        world = World(grant_type="client_credentials")
        hold_first = Faults(store_write=[None], token=[KeyboardInterrupt()])
        with pytest.raises(KeyboardInterrupt):
            world.worker(hold_first)[0].access_token()
        manager, seam = world.worker()
        manager.access_token()
        assert seam.counts["fallback.load"] == 0

    def test_a_refusal_is_not_written_over_what_another_worker_wrote(self):
        world = World()

        def another_was_faster(call):
            world.cell.record = replace(
                world.record, generation=1, access_token="at-other", refresh_token="rt-other", expires_in=600.0,
                issued_at=world.time.now, lease=None,
            )  # fmt: skip
            world.cell.number += 1
            return call()

        refusal = errors.InvalidGrantResponse("invalid_grant", code="invalid_grant")
        manager, _ = world.worker(Faults(token=[refusal], store_write=[None, another_was_faster]))
        assert manager.access_token() == "at-other"
        assert world.record.dead is None

    def test_a_refusal_that_cannot_be_written_down_is_told_all_the_same(self, caplog):
        world = World()
        world.server.revoke()
        with pytest.raises(ReauthorizationRequired):
            world.worker(Faults(store_write=[None, "fail"]))[0].access_token()
        assert "could not write down that its grant is dead" in caplog.text

    def test_a_lease_that_cannot_be_given_back_is_told_of(self, caplog):
        for failure in ("fail", StaleVersion("somebody has written")):
            world = World()
            refusal = errors.InvalidScopeResponse("no", code="invalid_scope")
            with pytest.raises(ConfigurationError):
                world.worker(Faults(token=[refusal], store_write=[None, failure]))[0].access_token()
            assert "it ends by itself" in caplog.text
            caplog.clear()


class TestNextRecord:
    @pytest.mark.parametrize(
        ("answered", "stored", "asked", "expected"),
        [
            ("a", "b", "c", "a"),
            (None, "b", "c", "b"),
            (None, None, "c", "c"),
            (None, None, "", None),
        ],
    )
    def test_a_scope_that_is_not_answered_stays(self, answered, stored, asked, expected):
        world = World()
        configuration = world.connection.configuration
        options = replace(configuration.options, scope=asked)
        world.connection.configuration = replace(configuration, options=options)
        world.worker()[0].access_token()
        world.cell.record = replace(world.record, scope=stored)
        world.worker(Faults(token=[lambda call: replace(call(), scope=answered)]))[0].obtain(
            TokenRequirements(force=True)
        )
        assert world.record.scope == expected

    def test_what_a_refresh_takes_along(self):
        world = World()
        world.worker()[0].access_token()
        before = replace(world.record, superseded=("a",), spent=("b",), unknown_members={"later": 1}, interrupted="x")
        world.cell.record = before
        answer = {"token_type": "DPoP", "others": {"instance_url": "https://a.example"}, "refresh_expires_in": 50.0}
        world.worker(Faults(token=[lambda call: replace(call(), **answer)]))[0].obtain(TokenRequirements(force=True))
        new = world.record
        assert (new.superseded, new.spent, new.unknown_members) == (("a",), ("b",), {"later": 1})
        assert (new.entered_fingerprint, new.issued_for) == (before.entered_fingerprint, before.issued_for)
        assert (new.token_type, new.response_parameters) == ("DPoP", {"instance_url": "https://a.example"})
        assert (new.issued_at, new.refresh_expires_at) == (world.time.now, world.time.now + 50.0)
        assert (new.interrupted, new.lease, new.dead, new.not_before) == (None, None, None, None)


class TestDecisions:
    def test_a_pause_is_a_minute_at_the_most(self):
        for seconds, action in (
            (60.0, Action.PAUSE),
            (60.5, Action.FAIL),
            (120.0, Action.FAIL),
            (120.5, Action.REFRESH),
        ):
            later = replace(RECORD, not_before=1_900_000_000.0 + seconds)
            assert decide(situation(record=later, left=0.0), ANY).action is action, seconds

    def test_so_it_is_soon_after_the_epoch(self):
        """Where a difference and a remainder differ."""
        for not_before, action, seconds in ((25.0, Action.PAUSE, 15.0), (200.0, Action.REFRESH, 0.0)):
            record = replace(RECORD, not_before=not_before, generation=0)
            early = replace(situation(record=record, left=0.0, first_generation=0), now=10.0)
            decision = decide(early, ANY)
            assert (decision.action, decision.seconds) == (action, seconds)

    def test_who_has_a_token_that_works_waits_for_two_seconds(self):
        for waited, action in ((1.9, Action.WAIT), (2.0, Action.WAIT), (2.1, Action.FAIL)):
            assert decide(situation(left=30.0, lease_left=20.0, waited=waited), ANY).action is action, waited

    def test_the_callers_own_pause_is_as_long_as_it_has_to_be(self, caplog):
        world = World(RefreshPolicy(leeway=60.0, min_interval=625.0))
        stale(world)
        clock = FakeClock(world.time)
        with caplog.at_level(logging.INFO):
            world.worker(clock=clock)[0].access_token()
        assert clock.slept == [25.0]
        assert "allowed in 25.0 s" in caplog.text

    def test_one_that_is_longer_fails_and_says_how_long(self):
        world = World(RefreshPolicy(leeway=60.0, min_interval=700.0))
        stale(world)
        with pytest.raises(RefreshTooEarly, match="allowed in 100 s"):
            world.worker()[0].access_token()


class TestCache:
    def cache(self, lifetime=600.0, **policy):
        time = Time()
        cache = TokenCache(FakeClock(time))
        record = Record(generation=2, access_token="at", issued_at=START, expires_in=lifetime)
        policy = RefreshPolicy(**policy)
        cache.take(TokenResult(record, "memory"), replace(policy, when=anew(policy.when)))
        return cache, time, record

    def test_nothing_is_served_before_anything_was_taken(self):
        cache = TokenCache(FakeClock(Time()))
        assert cache.serve(ANY) is cache.find_working(ANY) is cache.serve_for_want_of_better(ANY, "why") is None

    def test_without_a_leeway_it_is_served_to_its_end(self):
        for policy in ({"leeway": 0.0}, {"when": "unauthorized"}, {"when": "interval", "interval": 9999.0}):
            cache, time, _ = self.cache(**policy)
            time.now = START + 599.5
            assert cache.serve(ANY), policy
            time.now = START + 600.0
            assert cache.serve(ANY) is None, policy

    @pytest.mark.parametrize("when", ["expired", "always"])
    def test_stale_is_what_has_the_leeway_left(self, when):
        cache, time, _ = self.cache(when=when, leeway=60.0)
        time.now = START + 539.5
        assert cache.serve(ANY)
        assert cache.left == 60.5
        time.now = START + 540.0
        assert cache.serve(ANY) is None

    def test_a_caller_may_want_more(self):
        cache, time, _ = self.cache(leeway=0.0)
        time.now = START + 499.5
        assert cache.serve(TokenRequirements(min_ttl=100.0))
        time.now = START + 500.0
        assert cache.serve(TokenRequirements(min_ttl=100.0)) is None

    def test_an_interval_counts_from_the_refresh_even_if_it_is_read_later(self):
        time = Time()
        cache = TokenCache(FakeClock(time))
        time.now = START + 70.0
        record = Record(generation=2, access_token="at", issued_at=START, expires_in=600.0)
        cache.take(TokenResult(record, "memory"), RefreshPolicy(when="interval", interval=100.0))
        time.now = START + 99.5
        assert cache.serve(ANY)
        time.now = START + 100.0
        assert cache.serve(ANY) is None

    def test_an_interval_beyond_its_end_does_not_count(self):
        cache, time, _ = self.cache(when="interval", interval=9999.0)
        time.now = START + 600.0
        assert cache.serve(ANY) is None

    def test_after_a_failure_for_half_a_minute_or_half_of_what_is_left(self):
        for lifetime, left, quiet in (
            (600.0, 59.0, 29.5),
            (600.0, 100.0, 30.0),
            (600.0, 60.0, 30.0),
            (50.0, 25.0, 12.5),
        ):
            cache, time, _ = self.cache(lifetime, leeway=200.0)
            time.now = START + lifetime - left
            assert cache.serve(ANY) is None
            cache.serve_for_want_of_better(ANY, "why")
            time.now += quiet - 0.25
            assert cache.serve(ANY), left
            time.now += 0.25
            assert cache.serve(ANY) is None, left

    def test_the_same_token_read_again_does_not_end_that(self):
        cache, time, record = self.cache()
        time.now = START + 550.0
        cache.serve_for_want_of_better(ANY, "why")
        again = replace(record, access_token=anew("at"))
        cache.take(TokenResult(again, "memory"), RefreshPolicy())
        assert cache.serve(ANY)

    def test_the_same_token_read_again_ends_no_later(self):
        """The machine's clock has been put back meanwhile."""
        cache, time, record = self.cache()
        time.now = START + 500.0
        cache._clock.skew = -400.0
        cache.take(TokenResult(replace(record, access_token=anew("at")), "memory"), RefreshPolicy())
        assert cache.left == 100.0

    def test_what_is_served_for_want_of_better_was_not_refreshed_by_this_call(self):
        time = Time()
        cache = TokenCache(FakeClock(time))
        record = Record(generation=2, access_token="at", issued_at=START, expires_in=600.0)
        cache.take(TokenResult(record, "memory", refreshed=True, rotated=True), RefreshPolicy())
        served = cache.serve_for_want_of_better(ANY, "why")
        assert (served.refreshed, served.rotated, served.warning) == (False, False, "why")

    def test_it_is_not_served_where_the_api_has_refused_it(self):
        cache, _, _ = self.cache()
        refused = TokenRequirements(rejected="at")
        assert (
            cache.serve(refused)
            is cache.find_working(refused)
            is cache.serve_for_want_of_better(refused, "why")
            is None
        )
        assert cache.serve(TokenRequirements(rejected="another"))
        assert cache.serve(TokenRequirements(force=True)) is None

    def test_a_record_without_a_token_serves_nobody(self):
        cache = TokenCache(FakeClock(Time()))
        cache.take(TokenResult(Record(generation=2, expires_in=600.0, issued_at=START), "memory"), RefreshPolicy())
        assert cache.serve(ANY) is cache.find_working(ANY) is cache.serve_for_want_of_better(ANY, "why") is None
        assert cache.left == 0.0

    def test_it_is_ahead_only_of_a_record_of_the_same_sign_in(self):
        cache, _, record = self.cache()
        cache.take(TokenResult(replace(record, entered_fingerprint="mm"), "memory"), RefreshPolicy())
        for entered, generation, ahead in (
            ("mm", 1, True),
            ("mm", 2, False),
            ("mm", 3, False),
            ("aa", 1, False),
            ("zz", 1, False),
        ):
            other = replace(record, entered_fingerprint=anew(entered), generation=generation)
            assert cache.is_ahead_of(other) is ahead

    def test_a_process_that_comes_late_to_a_newer_token_takes_it(self):
        """``left`` is what the token has left, not what the one before had."""
        cache, time, record = self.cache()
        time.now = START + 300.0
        newer = replace(record, access_token="new", issued_at=START + 300.0, generation=3)
        cache.take(TokenResult(newer, "memory"), RefreshPolicy())
        assert cache.left == 600.0


class TestExpiry:
    """Small numbers: no difference is taken for a remainder, no half for a whole."""

    def test_age_and_what_remains(self):
        record = Record(access_token="at", issued_at=10.0, expires_in=95.5)
        assert (record.age(37.0), record.remaining(37.0)) == (27.0, 68.5)
        assert (record.age(10.0), record.age(9.0)) == (0.0, 0.0)

    @pytest.mark.parametrize(
        ("lifetime", "leeway", "min_ttl", "expected"),
        [
            (61.0, 60.0, 0.0, 30.5),
            (61.0, 20.0, 0.0, 20.0),
            (61.0, 20.0, 25.0, 25.0),
            (61.0, 20.0, 60.0, 54.9),
            (None, 20.0, 25.0, 25.0),
        ],
    )
    def test_what_a_fresh_token_has_left(self, lifetime, leeway, min_ttl, expected):
        assert Record(access_token="at", expires_in=lifetime).min_remaining(leeway, min_ttl) == pytest.approx(expected)

    def test_a_warning_is_due_where_the_end_stands_still(self):
        policy = RefreshPolicy(warn_before=500.0)
        for moved, expected in ((50.5, 400.5), (51.0, None)):
            old = Record(issued_at=10.0, refresh_expires_at=450.0)
            new = Record(issued_at=111.0, refresh_expires_at=450.0 + moved)
            assert policy.ends_soon(old, new, 100.0) == expected
        for before, expected in ((600.0, 500.0), (600.5, None)):
            old = new = Record(issued_at=10.0, refresh_expires_at=before)
            assert policy.ends_soon(old, new, 100.0) == expected

    def test_the_same_refresh_token_answered_again_is_not_new(self):
        policy = RefreshPolicy(refresh_lifetime=50.0)
        old = Record(refresh_token="kept", refresh_expires_at=500.0)
        for answered, expected in (("kept", 500.0), ("a new one", 1050.0), ("zzz", 1050.0), (None, 500.0)):
            answer = TokenResponse("at", refresh_token=answered and anew(answered))
            assert policy.refresh_token_end(old, answer, 1000.0) == expected

    def test_a_refresh_token_ends_with_the_calendar(self):
        response = TokenResponse("at", refresh_expires_in=1e15)
        assert RefreshPolicy().refresh_token_end(Record(), response, 5.0) == 253402214400.0
        assert Record(access_token="at").remaining(5.0) == math.inf


def test_a_dead_grant_says_when(caplog):
    world = World()
    world.server.revoke()
    with pytest.raises(ReauthorizationRequired, match="at 2030-03-17 17:46:40 UTC"):
        world.worker()[0].access_token()
