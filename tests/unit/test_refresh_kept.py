"""Nothing is lost to a crash, a store, a pause or a wrong clock; a person's new sign-in wins."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import (
    MalformedResponse,
    ReauthorizationRequired,
    StoreNotWritable,
    StoreUnavailable,
    TokenRequestError,
)
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.tokens import revocation
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.manager import run_to_end
from airflow_oauth_provider.tokens.record import Lease, fingerprint
from airflow_oauth_provider.tokens.revocation import revoke
from tests.unit.fakes import FakeClock, FakeSource, Faults, MemoryStore, World


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the worker's code catches it."""


def kill(call=None):
    raise Killed


def kill_afterwards(call):
    call()
    raise Killed


#: A step, and what a worker that is killed there leaves to do for the next one.
CRASHES = {
    "before the lease": {"store_write": [kill]},
    "with the lease": {"store_write": [kill_afterwards]},
    "before the request is sent": {"token": [kill]},
    "after the answer arrived": {"token": [kill_afterwards]},
    "before the write": {"store_write": [None, kill]},
    "after the write": {"store_write": [None, kill_afterwards]},
}
IN_THE_WINDOW = ("after the answer arrived", "before the write")


@pytest.mark.parametrize("step", CRASHES)
@pytest.mark.parametrize("grace", [None, 0.0])
def test_a_killed_worker(step, grace):
    world = World(grace=grace)
    with pytest.raises(Killed):
        world.worker(Faults(**CRASHES[step]))[0].access_token()
    manager, _ = world.worker()
    if step in IN_THE_WINDOW and grace == 0.0:
        with pytest.raises(ReauthorizationRequired, match="has left no result"):
            manager.access_token()
    else:
        assert world.server.is_good(manager.access_token())
        assert world.server.alive
        assert world.server.reuses == 0


def test_the_next_one_says_so_in_the_log(caplog):
    world = World(grace=None)
    with pytest.raises(Killed):
        world.worker(Faults(token=[kill]))[0].access_token()
    world.worker()[0].access_token()
    assert "has left no result" in caplog.text


class TestStoreAway:
    """The store goes away after the spend."""

    @pytest.mark.parametrize("failures", [1, 3, 6])
    def test_it_comes_back_in_time(self, failures):
        world = World()
        world.worker(Faults(store_write=[None] + ["fail"] * failures))[0].access_token()
        assert world.server.is_good(world.worker()[0].access_token())
        assert world.server.refreshes == 1
        assert not world.kept

    @pytest.mark.parametrize("failure", ["fail", StoreNotWritable("the policy was changed"), RuntimeError("a bug")])
    def test_it_stays_away_and_any_worker_recovers_the_tokens(self, failure):
        world = World()
        seam = Faults(store_write=[None])
        seam.always["store.write"] = failure
        manager, _ = world.worker(seam)
        if isinstance(failure, RuntimeError):
            with pytest.raises(RuntimeError):
                manager.access_token()
        else:
            outcome = manager.obtain(TokenRequirements())
            assert outcome.store == "fallback"
            assert world.server.is_good(outcome.record.access_token or "")
        assert world.kept
        assert world.server.grants[0].newest not in str(world.kept)
        assert world.server.is_good(world.worker()[0].access_token())
        assert (world.server.refreshes, world.server.reuses) == (1, 0)
        assert not world.kept

    def test_its_own_worker_recovers_them_too(self):
        world = World()
        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        manager, _ = world.worker(seam)
        first = manager.access_token()
        del seam.always["store.write"]
        world.pass_time(590.0)
        assert manager.access_token() != first
        assert (world.server.refreshes, world.server.reuses) == (2, 0)

    def test_what_is_in_hand_is_served_while_it_is_away(self):
        world = World()
        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        manager, _ = world.worker(seam)
        token = manager.access_token()
        while world.server.issued[token] > world.time.now + 5.0:
            assert manager.access_token() == token
            world.pass_time(20.0)
        assert world.server.refreshes == 1

    def test_the_fallback_is_in_time_for_whoever_takes_over(self):
        """A worker that waits out the lease finds the tokens there: the fallback's turn comes before its end."""
        world = World(timeout=10.0)
        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        before = world.time.now
        world.worker(seam)[0].access_token()
        assert world.time.now - before < world.lease

    def test_a_store_that_hangs_does_not_keep_the_tokens_beyond_the_lease(self):
        """Each write runs into a timeout of its own, and the last one could end after the lease."""
        world = World(timeout=10.0)
        seam = Faults(store_write=[None])

        def hang(_):
            world.pass_time(15.0)
            raise StoreUnavailable("no answer")

        saved_at = []

        def note_when(call):
            saved_at.append(world.time.now)
            return call()

        seam.always["store.write"], seam.always["fallback.save"] = hang, note_when
        before = world.time.now
        world.worker(seam)[0].access_token()
        assert saved_at[0] - before < world.lease

    def test_a_worker_that_is_killed_while_it_is_away_loses_nothing(self):
        world = World()
        with pytest.raises(Killed):
            world.worker(Faults(store_write=[None, "fail", kill]))[0].access_token()
        assert world.server.is_good(world.worker()[0].access_token())
        assert (world.server.refreshes, world.server.reuses) == (1, 0)

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [("fail", "fallback.save: out of order"), (RuntimeError("quotes a token"), "RuntimeError")],
    )
    def test_a_copy_that_the_fallback_does_not_take_holds_nothing_up(self, failure, reason, caplog):
        world = World()
        seam = Faults(store_write=[None, "fail", "fail"])
        seam.always["fallback.save"] = failure
        before = world.time.now
        assert world.worker(seam)[0].obtain(TokenRequirements()).store == "memory"
        assert world.time.now - before < 1.0
        assert f"no copy in the fallback store: {reason}\n" in caplog.text

    def test_a_latecomer_of_an_older_sign_in_does_not_overwrite_the_copy_of_the_newer_one(self):
        """Both are the first refresh of their sign-in, and so of the same generation."""
        world = World()
        away = Faults(store_write=[None])
        away.always["store.write"] = "fail"

        def overtaken(call):
            answer = call()
            world.sign_in_again()
            assert world.worker(away)[0].obtain(TokenRequirements()).store == "fallback"
            return answer

        late = Faults(store_write=[None], token=[overtaken])
        late.always["store.write"] = "fail"
        world.worker(late)[0].access_token()
        assert world.server.is_good(world.worker()[0].access_token())
        assert (world.server.refreshes, world.server.reuses, world.server.alive) == (2, 0, True)

    def test_a_fallback_that_cannot_be_asked_stops_the_next_spend(self):
        world = World()
        with pytest.raises(Killed):
            world.worker(Faults(token=[kill]))[0].access_token()
        seam = Faults()
        seam.always["fallback.load"] = "fail"
        with pytest.raises(StoreUnavailable):
            world.worker(seam)[0].access_token()
        assert seam.counts["token"] == 0

    def test_a_fallback_that_fails_at_first_is_tried_again(self):
        world = World()
        seam = Faults(store_write=[None], fallback_save=["fail", "fail"])
        seam.always["store.write"] = "fail"
        world.worker(seam)[0].access_token()
        assert world.kept

    def test_both_away_is_an_error_and_says_so(self):
        world = World()
        seam = Faults(store_write=[None])
        seam.always["store.write"] = seam.always["fallback.save"] = "fail"
        with pytest.raises(StoreUnavailable):
            world.worker(seam)[0].access_token()

    def test_the_write_lands_but_its_answer_is_lost(self):
        world = World()
        outcome = world.worker(Faults(store_write=[None, "lose"]))[0].obtain(TokenRequirements(force=True))
        assert outcome.refreshed  # and not taken for another worker's
        assert world.server.is_good(world.worker()[0].access_token())
        assert (world.server.refreshes, len(world.cell.history)) == (1, 2)

    def test_the_lease_lands_but_its_answer_is_lost(self):
        world = World()
        manager, seam = world.worker(Faults(store_write=["lose"]))
        before = world.time.now
        manager.access_token()
        assert world.time.now - before < 1.0
        assert seam.counts["token"] == 1

    def test_nothing_is_spent_where_nothing_can_be_written(self):
        world = World()
        for failure in ("fail", StoreNotWritable("read-only")):
            seam = Faults()
            seam.always["store.write"] = failure
            with pytest.raises((StoreUnavailable, StoreNotWritable)):
                world.worker(seam)[0].access_token()
            assert seam.counts["token"] == 0

    @pytest.mark.parametrize("name", ["connection", "store.read"])
    def test_a_read_that_fails_for_a_moment_is_repeated(self, name):
        world = World()
        manager, _ = world.worker(Faults(**{name.replace(".", "_"): ["fail", "fail"]}))
        assert world.server.is_good(manager.access_token())

    def test_client_credentials_stay_in_the_process_when_the_store_is_away(self):
        world = World(grant_type="client_credentials")
        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        outcome = world.worker(seam)[0].obtain(TokenRequirements())
        assert outcome.store == "memory"
        assert not world.kept


class TestFencing:
    """A worker that stalls beyond its lease cannot overwrite a newer record."""

    def test_one_that_stalls_before_it_sends_does_not_send(self):
        world = World()

        def stall(call):
            answer = call()
            world.pass_time(world.lease + 1.0)
            return answer

        manager, seam = world.worker(Faults(store_write=[stall]))
        assert world.server.is_good(manager.access_token())
        assert world.server.refreshes == 1
        assert seam.counts["store.write"] == 3

    def test_one_whose_steady_clock_stood_still_meanwhile_does_not_send_either(self):
        """On a paused virtual machine no time may seem to pass; then the wall clock tells."""
        world = World()
        clock = FakeClock(world.time)

        def pause(call):
            answer = call()
            clock.skew += world.lease + 1.0
            return answer

        manager, seam = world.worker(Faults(store_write=[pause]), clock=clock)
        assert world.server.is_good(manager.access_token())
        assert (seam.counts["token"], seam.counts["store.write"]) == (1, 3)

    def test_one_that_stalls_with_the_answer_yields_to_newer_tokens(self):
        world = World(grace=None)
        taken = []

        def stall(call):
            world.pass_time(world.lease + 1.0)
            taken.append(world.worker()[0])
            world.cell.record = replace(world.record, lease=None)
            world.cell.number += 1
            taken[0].obtain(TokenRequirements(force=True))
            taken[0].obtain(TokenRequirements(force=True))
            return call()

        manager, _ = world.worker(Faults(store_write=[None, stall]))
        token = manager.access_token()
        assert world.record.generation == 2
        assert token == world.record.access_token
        assert world.server.alive

    @pytest.mark.parametrize("has_fallback", [True, False])
    def test_one_that_stalls_with_the_answer_still_saves_it_where_nobody_was_faster(self, has_fallback):
        world = World(has_fallback=has_fallback)

        def stall(call):
            world.pass_time(world.lease + 1.0)
            # Another worker has just taken over the lease.
            world.cell.record = replace(world.record, lease=Lease("successor", world.lease, world.time.now))
            world.cell.number += 1
            return call()

        manager, _ = world.worker(Faults(store_write=[None, stall]))
        token = manager.access_token()
        assert world.record.access_token == token
        assert world.record.lease is None
        assert world.server.is_good(world.worker()[0].access_token())

    def test_a_successor_that_is_refused_finds_the_latecomers_tokens(self):
        world = World()
        late, _ = world.worker()

        def latecomer_writes(call):
            late.access_token()
            world.server.refusals += 1
            from tests.unit.fakes import _invalid_grant

            raise _invalid_grant()

        manager, _ = world.worker(Faults(token=[latecomer_writes]))
        clock = late._clock
        late._watch.is_over = lambda lease: True
        assert world.server.is_good(manager.access_token())
        assert world.record.dead is None
        assert clock.now() > 0


class TestClocks:
    @pytest.mark.parametrize("skew", [-300.0, 300.0])
    def test_a_lease_stands_any_skew(self, skew):
        world = World()
        with pytest.raises(Killed):
            world.worker(Faults(token=[kill]), clock=FakeClock(world.time, skew))[0].access_token()
        before = world.time.now
        world.worker(clock=FakeClock(world.time, -skew))[0].access_token()
        assert world.time.now - before >= world.lease

    @pytest.mark.parametrize("jump", [-86400.0, -300.0, 300.0, 86400.0])
    def test_a_lease_stands_a_jump_while_waiting(self, jump):
        world = World()
        with pytest.raises(Killed):
            world.worker(Faults(token=[kill]))[0].access_token()
        clock = FakeClock(world.time)

        def jump_then(call):
            clock.skew += jump
            return call()

        before = world.time.now
        world.worker(Faults(store_read=[None, None, jump_then]), clock=clock)[0].access_token()
        assert world.time.now - before >= world.lease

    @pytest.mark.parametrize("skew", [-300.0, 300.0])
    def test_two_machines_that_disagree_do_not_refresh_in_turns(self, skew):
        """With an ordinary lifetime, a token from a machine 5 minutes off is fresh on all others."""
        world = World(lifetime=3600.0)
        world.worker(clock=FakeClock(world.time, skew))[0].access_token()
        for _ in range(5):
            for clock in (FakeClock(world.time), FakeClock(world.time, -skew), FakeClock(world.time, skew)):
                world.worker(clock=clock)[0].access_token()
        assert world.server.refreshes == 1

    @pytest.mark.parametrize("skew", [-300.0, 300.0])
    def test_whatever_the_skew_a_refused_token_is_replaced_by_one_refresh(self, skew):
        """A machine behind may take a token for alive that has ended: the API's 401 puts that right."""
        world = World(lifetime=600.0)
        world.worker(clock=FakeClock(world.time, -skew))[0].access_token()
        world.pass_time(700.0)
        manager, _ = world.worker(clock=FakeClock(world.time, skew))
        token = manager.access_token()
        if not world.server.is_good(token):
            token = manager.access_token(rejected=token)
        assert world.server.is_good(token)
        assert world.server.refreshes == 2

    @pytest.mark.parametrize("jump", [-86400.0, -300.0, 300.0, 86400.0])
    def test_a_token_in_hand_is_timed_by_a_clock_that_does_not_jump(self, jump):
        world = World(lifetime=600.0)
        clock = FakeClock(world.time)
        manager, seam = world.worker(clock=clock)
        first = manager.access_token()
        clock.skew += jump
        world.pass_time(300.0)
        assert manager.access_token() == first
        world.pass_time(300.0)
        assert world.server.is_good(manager.access_token())
        assert seam.counts["token"] == 2

    @pytest.mark.parametrize("jump", [-86400.0, 86400.0])
    def test_a_jump_during_the_refresh_harms_nothing(self, jump):
        for name in ("store_write", "token"):
            world = World(lifetime=600.0)
            clock = FakeClock(world.time)

            def jump_then(call, clock=clock):
                answer = call()
                clock.skew += jump
                return answer

            manager, _ = world.worker(Faults(**{name: [jump_then]}), clock=clock)
            assert world.server.is_good(manager.access_token())
            assert world.server.reuses == 0


class TestReauthorization:
    def test_within_one_refresh_all_use_it(self):
        world = World()
        workers = [world.worker()[0] for _ in range(5)]
        for worker in workers:
            worker.access_token()
        world.sign_in_again()
        world.pass_time(590.0)
        for worker in workers:
            assert world.server.is_good(worker.access_token())
        assert len(world.server.grants[1].spent) == 1
        assert not [call for call in world.server.calls[1:] if call["refresh_token"] in world.server.grants[0].spent]

    def test_late_tokens_of_the_old_sign_in_give_way(self):
        """A worker comes back with them after its lease, and nobody has refreshed with the new one yet."""
        world = World()
        kept = []

        def signed_in_meanwhile(call):
            answer = call()
            kept.append(fingerprint(world.sign_in_again()))
            unlucky = Faults()
            unlucky.always["token"] = "fail"
            with pytest.raises(TokenRequestError):
                world.worker(unlucky)[0].access_token()
            world.cell.history.clear()
            return answer

        manager, _ = world.worker(Faults(token=[signed_in_meanwhile]))
        assert world.server.is_good(manager.access_token())
        assert {record.entered_fingerprint for _, record in world.cell.history} == set(kept)
        assert world.server.alive

    def test_one_that_still_holds_the_old_one_never_overwrites_it(self):
        world = World()
        frozen, _ = world.worker(frozen=True)
        frozen.access_token()
        world.sign_in_again()
        world.worker()[0].access_token()
        mark = world.record.entered_fingerprint
        for _ in range(3):
            world.pass_time(590.0)
            assert world.server.is_good(frozen.access_token())
        assert world.record.entered_fingerprint == mark
        assert all(new.entered_fingerprint == mark for _, new in world.cell.history[-6:])
        assert len(world.server.grants[0].spent) == 1

    def test_during_a_refresh_with_the_old_one(self):
        world = World()

        def person_signs_in(call):
            answer = call()
            world.sign_in_again()
            return answer

        world.worker(Faults(token=[person_signs_in]))[0].access_token()
        assert world.server.is_good(world.worker()[0].access_token())
        assert len(world.server.grants[1].spent) == 1

    def test_during_the_write_of_a_worker_that_stalled(self):
        world = World()

        def stall(call):
            world.pass_time(world.lease + 1.0)
            world.sign_in_again()
            successor, seam = world.worker()
            successor._watch.is_over = lambda lease: True
            successor.access_token()
            assert seam.counts["token"] == 1
            return call()

        manager, _ = world.worker(Faults(store_write=[None, stall]))
        token = manager.access_token()
        assert token == world.record.access_token
        assert world.record.refresh_token == world.server.grants[1].newest

    def test_an_old_fallback_entry_does_not_come_back(self):
        world = World()
        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        world.worker(seam)[0].access_token()
        world.sign_in_again()
        world.worker()[0].access_token()
        assert world.record.refresh_token == world.server.grants[1].newest

    def test_a_sign_in_without_a_store_record_begins_with_what_was_entered(self):
        world = World()
        configuration = world.connection.configuration
        good = world.server._new("at")
        world.server.issued[good] = world.time.now + 500.0
        entered = replace(configuration.entered, access_token=good, expires_at=world.time.now + 500.0)
        world.connection.configuration = replace(configuration, entered=entered)
        manager, seam = world.worker()
        assert manager.access_token() == good
        assert seam.counts["token"] == 0


class TestCancelled:
    def test_the_write_is_finished_although_the_task_is_cancelled(self):
        """Airflow raises out of a signal handler in the main thread; the refresh runs to its end first."""
        world = World()

        arrived = threading.Event()

        class Cancelled(BaseException):
            pass

        def cancel(call):
            # One signal may slip in just before the main thread begins to wait, and be seen only afterwards.
            while not arrived.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                arrived.wait(0.05)
            return call()

        def handler(*_):
            if not arrived.is_set():
                arrived.set()
                raise Cancelled

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            manager, _ = world.worker(Faults(token=[cancel]))
            with pytest.raises(Cancelled):
                manager.access_token()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert world.record.lease is None
        assert world.server.is_good(world.worker()[0].access_token())
        assert world.server.refreshes == 1

    def test_outside_the_main_thread_the_step_runs_in_place(self):
        seen = []
        thread = threading.Thread(target=lambda: seen.append(run_to_end(threading.current_thread) is thread))
        thread.start()
        thread.join()
        assert seen == [True]


def test_a_worker_that_never_saw_a_refresh_knows_of_the_minimum_interval():
    world = World(RefreshPolicy(min_interval=1000.0), lifetime=600.0)
    world.worker()[0].access_token()
    world.pass_time(580.0)
    assert world.worker()[0].obtain(TokenRequirements()).warning
    assert world.server.refreshes == 1


def test_a_store_that_does_not_know_whose_tokens_it_keeps():
    seam = Faults()
    seam.always["store.write"] = "fail"
    with pytest.raises(StoreUnavailable, match=r"^Connection 'xero': store\.write: out of order"):
        World().worker(seam)[0].access_token()


class TestConnectionChanges:
    def test_another_grant_for_a_while_leaves_the_refresh_token_alone(self):
        world = World(grace=0.0)
        world.worker()[0].access_token()
        kept = world.record.refresh_token
        configuration = world.connection.configuration
        world.connection.configuration = replace(configuration, grant_type="client_credentials")
        world.pass_time(700)
        world.worker()[0].access_token()
        assert world.record.refresh_token == kept
        world.connection.configuration = configuration
        world.pass_time(700)
        assert world.server.is_good(world.worker()[0].access_token())
        assert (world.server.alive, world.server.reuses) == (True, 0)

    @pytest.mark.parametrize("change", ["grant", "client", "server"])
    def test_an_access_token_of_another_client_is_not_served(self, change):
        world = World()
        before = world.worker()[0].access_token()
        configuration = world.connection.configuration
        world.connection.configuration = {
            "grant": replace(configuration, grant_type="client_credentials"),
            "client": replace(configuration, client=replace(configuration.client, client_id="another")),
            "server": replace(
                configuration, client=replace(configuration.client, token_url="https://other.example.com/token")
            ),
        }[change]
        assert world.worker()[0].access_token() != before

    def test_a_record_that_was_removed_and_begun_anew_is_not_overwritten(self):
        """A person removes the record, as some messages say, and enters a new token while a worker refreshes."""
        world = World(grace=0.0)
        for _ in range(3):
            world.worker()[0].access_token()
            world.pass_time(700)

        def meanwhile(call):
            answer = call()
            world.cell.record = None
            world.cell.number += 1
            world.sign_in_again()
            world.worker()[0].access_token()
            world.pass_time(1.0)
            return answer

        world.worker(Faults(token=[meanwhile]))[0].access_token()
        assert world.server.is_good(world.worker()[0].access_token())
        assert (world.server.alive, world.server.reuses) == (True, 0)

    def test_a_refusal_counts_for_the_client_that_was_refused(self):
        """RFC 6749 section 5.2: a refresh token that was issued to another client is refused as a dead one is."""
        world = World()
        configuration = world.connection.configuration
        world.connection.configuration = replace(configuration, client=replace(configuration.client, client_id="wrong"))
        refusal = errors.InvalidGrantResponse("answered 400: invalid_grant", code="invalid_grant")
        with pytest.raises(ReauthorizationRequired):
            world.worker(Faults(token=[refusal]))[0].access_token()
        with pytest.raises(ReauthorizationRequired):
            world.worker()[0].access_token()
        assert world.server.calls == []
        world.connection.configuration = configuration
        assert world.server.is_good(world.worker()[0].access_token())

    def test_a_connection_that_cannot_be_read_after_a_refusal_leaves_no_lease(self):
        world = World()
        world.worker()[0].access_token()
        world.server.revoke()
        world.pass_time(700)
        faults = Faults(connection=[None])
        faults.always["connection"] = "fail"
        with pytest.raises(ReauthorizationRequired):
            world.worker(faults)[0].access_token()
        assert world.record.lease is None
        manager, seam = world.worker()
        with pytest.raises(ReauthorizationRequired):
            manager.access_token()
        assert seam.counts["token"] == 0


class TestAnswersThatCameWhole:
    def test_nothing_is_sent_again_where_another_answer_would_say_the_same(self):
        world = World(grace=0.0)
        useless = errors.UnexpectedResponse("answered 200: no access_token", status=200, is_whole=True)
        manager, seam = world.worker(Faults(token=[useless]))
        with pytest.raises(MalformedResponse):
            manager.access_token()
        assert seam.counts["token"] == 1
        assert "something else than a token" in (world.record.interrupted or "")

    def test_a_503_without_a_time_may_have_been_served(self):
        world = World()
        world.connection.configuration = replace(
            world.connection.configuration, policy=RefreshPolicy(leeway=60.0, resend_lost_response=False)
        )
        gateway = errors.ServerFailure("answered 503", status=503)
        manager, seam = world.worker(Faults(token=[gateway]))
        with pytest.raises(TokenRequestError):
            manager.access_token()
        assert seam.counts["token"] == 1

    def test_a_503_that_names_a_time_has_not(self):
        world = World()
        world.connection.configuration = replace(
            world.connection.configuration, policy=RefreshPolicy(leeway=60.0, resend_lost_response=False)
        )
        overloaded = errors.ServerFailure("answered 503", status=503, retry_after=1.0)
        assert world.worker(Faults(token=[overloaded]))[0].access_token() == world.record.access_token


class TestRevocation:
    """A server says yes to a rotated token as well (RFC 7009 section 2.2), and does nothing."""

    @pytest.fixture
    def revoked(self, monkeypatch):
        seen = []
        monkeypatch.setattr(revocation, "request_revocation", lambda client, token, kind: seen.append(token))
        return seen

    def source(self, world, seam=None):
        seam = seam or Faults()
        return FakeSource(world.connection, MemoryStore(world.cell, seam), seam)

    def test_what_a_worker_rotates_meanwhile_is_revoked_too(self, revoked, monkeypatch):
        world = World()
        world.worker()[0].access_token()
        old = world.record.refresh_token

        def rotated_meanwhile(client, token, kind):
            revoked.append(token)
            if len(revoked) == 1:
                world.worker()[0].obtain(TokenRequirements(force=True))

        monkeypatch.setattr(revocation, "request_revocation", rotated_meanwhile)
        assert revoke(self.source(world), "refresh_token", FakeClock(world.time))
        assert revoked == [old, world.record.refresh_token]
        assert world.record.dead is not None

    def test_nothing_is_revoked_while_a_worker_refreshes(self, revoked):
        world = World()
        world.worker()[0].access_token()
        new = []

        def revoke_meanwhile(call):
            polls = []

            def until_it_is_written(read):
                polls.append(read())
                if len(polls) == 3:
                    new.append(world.server.answer(sent).refresh_token)
                    world.cell.record = replace(
                        world.record, lease=None, generation=2, refresh_token=new[0], access_token="at"
                    )
                    world.cell.number += 1
                return polls[-1]

            sent = {"grant_type": "refresh_token", "refresh_token": world.record.refresh_token or ""}
            seam = Faults()
            seam.always["store.read"] = until_it_is_written
            assert revoke(self.source(world, seam), "refresh_token", FakeClock(world.time))
            raise Killed

        world.pass_time(700)
        with pytest.raises(Killed):
            world.worker(Faults(token=[revoke_meanwhile]))[0].access_token()
        assert revoked == new
        assert world.record.dead is not None

    def test_an_access_token_is_revoked_alone(self, revoked):
        world = World()
        world.worker()[0].access_token()
        assert revoke(self.source(world), "access_token", FakeClock(world.time))
        assert revoked == [world.record.access_token]
        assert world.record.dead is None
