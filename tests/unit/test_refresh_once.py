"""A refresh token is spent once, and a dead one is not sent again."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    ReauthorizationRequired,
    RefreshTimeout,
    StoreUnavailable,
    TokenRequestError,
)
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.record import Lease
from tests.unit.fakes import FakeClock, Faults, World


def dead_worker(world, at="token"):
    """Leave behind what a process leaves that is killed at ``at``."""

    class Killed(BaseException):
        pass

    manager, _ = world.worker(Faults(**{at.replace(".", "_"): [Killed()]}))
    with pytest.raises(Killed):
        manager.access_token()


class TestWaiting:
    def test_a_worker_waits_for_a_live_lease_and_takes_its_result(self):
        world = World()
        world.worker()[0].access_token()
        world.pass_time(595.0)
        world.cell.record = replace(world.record, lease=Lease("sibling", 60.0, world.time.now))
        world.cell.number += 1
        polls = []

        def sibling_ends(call):
            polls.append(world.time.now)
            if len(polls) == 8:
                sent = {"grant_type": "refresh_token", "refresh_token": world.record.refresh_token or ""}
                answer = world.server.answer(sent)
                world.cell.record = replace(
                    world.record, generation=2, access_token=answer.access_token, refresh_token=answer.refresh_token,
                    issued_at=world.time.now, lease=None,
                )  # fmt: skip
                world.cell.number += 1
            return call()

        world.pass_time(10.0)
        seam = Faults()
        seam.always["store.read"] = sibling_ends
        assert world.worker(seam)[0].access_token() == world.record.access_token
        assert seam.counts["token"] == seam.counts["store.write"] == 0
        assert world.server.refreshes == 2
        # What the last poll brought is served, without another look: fifty waiters would ask fifty times more.
        assert (seam.counts["connection"], seam.counts["store.read"]) == (1, len(polls))

    def test_a_token_that_ends_while_its_user_waits_does_not_end_the_waiting(self):
        world = World(lifetime=600.0)
        world.worker()[0].access_token()
        world.pass_time(599.0)  # one second left: less than the patience with a token that works
        world.cell.record = replace(world.record, lease=Lease("gone", 30.0, world.time.now))
        world.cell.number += 1
        manager, _ = world.worker()
        assert world.server.is_good(manager.access_token())
        assert world.server.refreshes == 2

    def test_waiters_wait_at_least_as_long_as_the_lease(self):
        world = World(timeout=10.0)
        dead_worker(world)
        manager, _ = world.worker()
        before = world.time.now
        manager.access_token()
        assert world.time.now - before >= world.lease

    def test_a_lease_is_short_whatever_the_timeout(self):
        """A killed holder must not keep others waiting for longer than servers' grace periods: Okta's is 30 s."""
        assert [World(timeout=timeout).lease for timeout in (1.0, 5.0, 10.0, 30.0, 120.0)] == [11, 15, 20, 20, 20]

    def test_no_worker_ever_refreshes_without_the_lease(self):
        """After waiting in vain, a caller gets an error, not a refresh without the lock."""
        world = World(timeout=1.0)
        dead_worker(world)
        number = [0]

        def always_another_holder(call):
            # Some sibling takes the lease anew each time, and dies with it.
            stored = call()
            number[0] += 1
            record = replace(stored.record, lease=Lease(f"sibling {number[0]}", 30.0, world.time.now))
            world.cell.record, world.cell.number = record, world.cell.number + 1
            return type(stored)(record, world.cell.version)

        seam = Faults()
        seam.always["store.read"] = always_another_holder
        manager, _ = world.worker(seam)
        with pytest.raises(RefreshTimeout):
            manager.access_token()
        assert seam.counts["token"] == 0

    def test_waiters_do_not_wake_in_step(self):
        world = World()
        dead_worker(world)
        clocks = [FakeClock(world.time) for _ in range(2)]
        for clock in clocks:
            manager, _ = world.worker(clock=clock)
            world.cell.record = replace(world.record, lease=Lease("gone", 5.0, 0.0))
            world.cell.number += 1
            world.pass_time(10_000.0)
            manager.access_token()
        assert clocks[0].slept
        assert clocks[0].slept[:5] != clocks[1].slept[:5]

    def test_threads_of_one_process_share_one_refresh(self):
        world = World()
        manager, seam = world.worker()
        tokens = []
        threads = [threading.Thread(target=lambda: tokens.append(manager.access_token())) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(tokens) == 20
        assert len(set(tokens)) == 1
        assert seam.counts["token"] == 1

    def test_a_thread_does_not_take_its_own_process_s_lease_for_ended(self):
        """A process knows its leases as its own, so its threads have to take turns."""
        world = World()
        twice = threading.Event()
        others = []

        def second_thread_comes(call):
            if others:
                twice.set()
                return call()
            others.append(threading.Thread(target=manager.access_token))
            others[0].start()
            twice.wait(0.3)  # as long as nothing goes wrong, it is never set
            return call()

        manager, seam = world.worker(Faults(token=[second_thread_comes, second_thread_comes]))
        manager.access_token()
        others[0].join()
        assert seam.counts["token"] == 1


class TestOn401:
    def test_a_token_that_another_worker_has_replaced_is_not_refreshed_again(self):
        world = World()
        managers = [world.worker() for _ in range(10)]
        old = {manager.access_token() for manager, _ in managers}.pop()
        new = {manager.access_token(rejected=old) for manager, _ in managers}
        assert len(new) == 1
        assert world.server.refreshes == 2

    def test_a_process_goes_on_with_what_others_have_put_in_place(self):
        world = World()
        long_task, seam = world.worker()
        first = long_task.access_token()
        world.pass_time(590.0)
        second = world.worker()[0].access_token()
        world.pass_time(5.0)
        assert long_task.access_token() == second != first
        assert seam.counts["token"] == 1


class TestForced:
    """``RefreshTokenOperator`` in many DAG runs at once."""

    def test_those_within_the_window_share_one_refresh(self):
        world = World()
        demand = TokenRequirements(force=True, coalesce_within=30.0)
        for _ in range(20):
            world.worker()[0].obtain(demand)
            world.pass_time(1.0)
        assert world.server.refreshes == 1
        world.pass_time(30.0)
        world.worker()[0].obtain(demand)
        assert world.server.refreshes == 2

    def test_those_that_wait_for_the_lease_share_it_whatever_the_window(self):
        world = World()
        demand = TokenRequirements(force=True, coalesce_within=0.0)
        world.worker()[0].obtain(demand)

        def sibling_first(call):
            world.worker()[0].obtain(demand)
            return call()

        outcome = world.worker(Faults(store_write=[sibling_first]))[0].obtain(demand)
        assert world.server.refreshes == 2
        assert outcome.record == world.record
        assert not outcome.refreshed

    def test_a_shared_refresh_must_still_meet_min_ttl(self):
        world = World(lifetime=100.0)
        world.worker()[0].obtain(TokenRequirements(force=True))
        world.pass_time(20.0)
        world.worker()[0].obtain(TokenRequirements(force=True, coalesce_within=60.0, min_ttl=85.0))
        assert world.server.refreshes == 2

    def test_alone_it_always_refreshes(self):
        world = World()
        manager, _ = world.worker()
        statuses = [manager.obtain(TokenRequirements(force=True)).status for _ in range(3)]
        assert [status.generation for status in statuses] == [1, 2, 3]
        assert {status.action for status in statuses} == {"refreshed"}


class TestDeadGrant:
    def test_it_is_called_once(self):
        world = World()
        world.server.revoke()
        for _ in range(10):
            with pytest.raises(ReauthorizationRequired, match="sign in again") as caught:
                world.worker()[0].access_token()
            assert "dpop" not in str(caught.value)  # it was bound to no key
        assert len(world.server.calls) == 1

    def test_a_new_sign_in_revives_it(self):
        world = World()
        manager, _ = world.worker()
        world.server.revoke()
        with pytest.raises(ReauthorizationRequired):
            manager.access_token()
        world.sign_in_again()
        assert world.server.is_good(manager.access_token())
        assert world.record.dead is None

    def test_one_that_a_sibling_rotated_meanwhile_is_found_and_used(self):
        world = World()

        def sibling_rotates(call):
            # A sibling whose lease had run out comes back first.
            new = replace(
                world.record, generation=1, access_token="at-sibling", refresh_token="rt-sibling", expires_in=600.0,
                issued_at=world.time.now, lease=None,
            )  # fmt: skip
            world.cell.record, world.cell.number = new, world.cell.number + 1
            raise errors.InvalidGrantResponse("invalid_grant", code="invalid_grant")

        manager, _ = world.worker(Faults(token=[sibling_rotates]))
        assert manager.access_token() == "at-sibling"
        assert world.record.dead is None

    def test_a_sign_in_meanwhile_is_used_at_once(self):
        world = World()

        def person_signs_in(call):
            world.server.revoke()
            world.sign_in_again()
            return call()

        manager, _ = world.worker(Faults(token=[person_signs_in]))
        assert world.server.is_good(manager.access_token())

    def test_workers_with_an_old_copy_of_the_connection_do_not_call_again_and_again(self):
        """Half of the pods still have last week's environment: neither half revives the other's dead token."""
        world = World()
        old, _ = world.worker(frozen=True)
        old.access_token()
        world.sign_in_again()
        world.worker()[0].access_token()
        world.server.revoke()
        world.pass_time(10_000.0)
        calls = len(world.server.calls)
        for _ in range(5):
            for manager in (old, world.worker()[0]):
                with pytest.raises(ReauthorizationRequired):
                    manager.access_token()
        assert len(world.server.calls) - calls <= 2

    def test_the_error_of_later_workers_tells_the_same(self):
        world = World()
        dead_worker(world, "token")
        world.server.revoke()
        texts = []
        for _ in range(2):
            with pytest.raises(ReauthorizationRequired) as caught:
                world.worker()[0].access_token()
            texts.append(str(caught.value))
        assert all("has left no result" in text for text in texts)

    def test_the_client_credentials_grant_has_nothing_to_die(self):
        world = World(grant_type="client_credentials")
        refusal = errors.InvalidGrantResponse("invalid_grant", code="invalid_grant")
        with pytest.raises(ConfigurationError):
            world.worker(Faults(token=[refusal]))[0].access_token()
        world.worker()[0].access_token()
        assert world.server.refreshes == 1


class TestRequests:
    """What is sent again, and what is not."""

    @pytest.mark.parametrize("failures", [1, 2, 3])
    def test_a_connection_that_never_came_about_is_tried_again(self, failures):
        world = World()
        manager, seam = world.worker(Faults(token=["fail"] * failures))
        manager.access_token()
        assert seam.counts["token"] == failures + 1
        assert world.server.refreshes == 1

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_busy_server_is_asked_again(self, status):
        world = World()
        busy = errors.ServerFailure("busy", status=status, retry_after=1.0)
        manager, seam = world.worker(Faults(token=[busy, busy]))
        manager.access_token()
        assert seam.counts["token"] == 3

    def test_it_is_not_asked_for_minutes(self):
        world = World(timeout=10.0)
        seam = Faults()
        seam.always["token"] = "fail"
        before = world.time.now
        with pytest.raises(TokenRequestError):
            world.worker(seam)[0].access_token()
        assert seam.counts["token"] <= 4
        assert world.time.now - before < world.lease

    def test_a_certificate_that_does_not_verify_is_not_tried_again(self):
        world = World()
        seam = Faults(token=[errors.NotConnected("certificate", lasting=True)])
        with pytest.raises(ConfigurationError):
            world.worker(seam)[0].access_token()
        assert seam.counts["token"] == 1
        assert world.record.lease is None

    @pytest.mark.parametrize("code", ["invalid_client", "invalid_scope", "unauthorized_client", "surprise"])
    def test_a_refusal_is_not_tried_again_and_gives_the_lease_back(self, code):
        world = World()
        seam = Faults(token=[errors.ERROR_CLASSES.get(code, errors.ErrorResponse)("no", code=code)])
        with pytest.raises(ConfigurationError):
            world.worker(seam)[0].access_token()
        assert seam.counts["token"] == 1
        assert world.record.lease is None
        world.worker()[0].access_token()
        assert world.server.refreshes == 1

    def test_nobody_waits_for_a_failed_refresh(self):
        world = World()
        seam = Faults()
        seam.always["token"] = "fail"
        with pytest.raises(TokenRequestError):
            world.worker(seam)[0].access_token()
        before = world.time.now
        world.worker()[0].access_token()
        assert world.time.now - before < 1.0


class TestLostAnswer:
    def test_with_a_grace_period_the_same_request_brings_it_back(self):
        world = World(grace=60.0)
        manager, seam = world.worker(Faults(token=["lose"]))
        assert world.server.is_good(manager.access_token())
        assert seam.counts["token"] == 2
        assert (world.server.refreshes, world.server.reuses) == (1, 0)

    def test_without_one_the_error_says_what_happened(self):
        world = World()
        manager, seam = world.worker(Faults(token=["lose"]))
        with pytest.raises(ReauthorizationRequired, match=r"answer to the token request of .* was lost"):
            manager.access_token()
        assert seam.counts["token"] == 2
        with pytest.raises(ReauthorizationRequired, match=r"answer to the token request of .* was lost"):
            world.worker()[0].access_token()
        assert len(world.server.calls) == 2

    def test_it_is_sent_once_more_and_not_again(self):
        world = World(grace=600.0)
        manager, seam = world.worker(Faults(token=["lose", "lose", "lose"]))
        with pytest.raises(TokenRequestError):
            manager.access_token()
        assert seam.counts["token"] == 2
        assert world.server.is_good(world.worker()[0].access_token())

    def test_a_connection_can_forbid_it(self):
        world = World(RefreshPolicy(resend_lost_response=False), grace=600.0)
        manager, seam = world.worker(Faults(token=["lose"]))
        with pytest.raises(TokenRequestError):
            manager.access_token()
        assert seam.counts["token"] == 1

    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_a_failing_gateway_may_have_hidden_an_answer(self, status):
        world = World(grace=600.0)

        def hidden(call):
            call()
            raise errors.ServerFailure("gateway", status=status)

        manager, seam = world.worker(Faults(token=[hidden]))
        assert world.server.is_good(manager.access_token())
        assert seam.counts["token"] == 2

    def test_a_web_page_under_200_may_have_hidden_an_answer(self):
        world = World(grace=600.0)

        def hidden(call):
            call()
            raise errors.UnexpectedResponse("a web page", status=200)

        manager, seam = world.worker(Faults(token=[hidden]))
        assert world.server.is_good(manager.access_token())
        assert seam.counts["token"] == 2

    def test_the_note_of_a_lost_answer_survives_a_passing_failure(self):
        world = World()
        seam = Faults(token=["lose", errors.ServerFailure("busy", status=503)] + ["fail"] * 9)
        with pytest.raises(TokenRequestError):
            world.worker(seam)[0].access_token()
        with pytest.raises(ReauthorizationRequired, match="was lost"):
            world.worker()[0].access_token()


class TestAnswers:
    """Odd answers, and what the record becomes of them."""

    def test_an_omitted_refresh_token_stays(self):
        world = World(rotates=False)
        manager, _ = world.worker()
        entered = world.connection.configuration.entered.refresh_token
        for _ in range(3):
            outcome = manager.obtain(TokenRequirements(force=True))
            assert world.record.refresh_token == entered
            assert not outcome.rotated

    def test_a_rotated_one_replaces_it(self):
        world = World()
        outcome = world.worker()[0].obtain(TokenRequirements(force=True))
        assert world.record.refresh_token == world.server.grants[0].newest
        assert outcome.rotated

    def test_every_new_token_is_masked_before_it_is_written(self):
        world = World()

        def before_write(call):
            newest = world.server.grants[0].newest
            assert newest in world.masked
            return call()

        world.worker(Faults(store_write=[None, before_write]))[0].access_token()

    def test_a_masker_that_fails_loses_nothing(self):
        world = World()
        manager, _ = world.worker()

        def mask(secret):
            if secret in world.server.issued:
                raise BrokenPipeError("the supervisor is gone")

        manager._mask_secret = mask
        with pytest.raises(BrokenPipeError):
            manager.access_token()
        assert world.server.is_good(world.worker()[0].access_token())
        assert world.server.reuses == 0

    def test_a_refresh_token_in_a_useless_answer_is_kept(self):
        """HTTP 200 with ``access_token: null``: the refresh token beside it may be the only one that lives."""
        world = World()

        def useless(call):
            answer = call()
            raise errors.UnexpectedResponse("no access token", status=200, refresh_token=answer.refresh_token)

        with pytest.raises(TokenRequestError):
            world.worker(Faults(token=[useless]))[0].access_token()
        assert world.server.is_good(world.worker()[0].access_token())
        assert world.server.reuses == 0

    @pytest.mark.parametrize("echo", ["This field may not be blank.", None])
    def test_an_error_page_that_mentions_a_refresh_token_changes_nothing(self, echo):
        """Some frameworks answer 400 with ``{"refresh_token": "invalid"}``, or with the request itself."""
        world = World()
        manager, _ = world.worker()
        manager.access_token()
        before = world.record
        sent = before.refresh_token
        world.pass_time(570.0)
        page = errors.UnexpectedResponse("no OAuth error", status=400, refresh_token=echo or sent)
        assert world.worker(Faults(token=[page]))[0].obtain(TokenRequirements()).warning
        assert (world.record.access_token, world.record.refresh_token) == (before.access_token, sent)


class TestStaleButUsable:
    """A passing failure does not fail a task whose access token still works."""

    def stale(self, left=30.0):
        world = World(lifetime=600.0)
        world.worker()[0].access_token()
        world.pass_time(600.0 - left)
        return world

    @pytest.mark.parametrize("name", ["token", "store.write"])
    def test_it_is_served_with_a_warning(self, name, caplog):
        world = self.stale()
        seam = Faults()
        seam.always[name] = "fail"
        manager, _ = world.worker(seam)
        outcome = manager.obtain(TokenRequirements())
        assert world.server.is_good(outcome.record.access_token)
        assert outcome.warning
        assert "still works" in caplog.text

    def test_until_it_really_expires(self):
        world = self.stale()
        seam = Faults()
        seam.always["token"] = "fail"
        manager, _ = world.worker(seam)
        served = 0
        failure = None
        while failure is None:
            try:
                token = manager.access_token()
            except TokenRequestError as error:
                failure = error
            else:
                assert world.server.is_good(token)
                served += 1
                world.pass_time(1.0)
        assert world.time.now >= world.record.issued_at + 600.0
        assert served >= 5

    def test_not_every_call_tries_again(self):
        world = self.stale()
        seam = Faults()
        seam.always["token"] = "fail"
        manager, _ = world.worker(seam)
        manager.access_token()
        tried = seam.counts["token"]
        for _ in range(100):
            manager.access_token()
        assert seam.counts["token"] == tried

    def test_a_store_that_cannot_even_be_read_does_not_take_the_token_out_of_hand(self):
        world = World(lifetime=600.0)
        manager, seam = world.worker()
        token = manager.access_token()
        world.pass_time(580.0)
        seam.always["store.read"] = "fail"
        assert manager.access_token() == token
        world.pass_time(21.0)
        with pytest.raises(StoreUnavailable):
            manager.access_token()

    def test_a_caller_whose_token_works_does_not_wait_for_a_dead_holder(self):
        world = self.stale(55.0)
        dead_worker(world)
        before = world.time.now
        assert world.server.is_good(world.worker()[0].access_token())
        assert world.time.now - before < 5.0

    def test_it_does_not_serve_a_token_that_the_api_has_refused(self):
        world = self.stale()
        seam = Faults()
        seam.always["token"] = "fail"
        with pytest.raises(TokenRequestError):
            world.worker(seam)[0].access_token(rejected=world.record.access_token)
