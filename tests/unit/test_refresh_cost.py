"""What the token life cycle costs, counted, and when it calls the token endpoint at all."""

from __future__ import annotations

import pytest

from airflow_oauth_provider.exceptions import ConfigurationError, RefreshTooEarly
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.decision import TokenRequirements
from tests.unit.fakes import Faults, World


def test_a_refresh_costs_one_read_two_writes_and_one_call():
    world = World()
    manager, seam = world.worker()
    assert manager.access_token() == world.record.access_token
    assert seam.counts == {"connection": 1, "store.read": 1, "store.write": 2, "token": 1}


def test_a_fresh_token_costs_one_read_and_no_other_call():
    world = World()
    world.worker()[0].access_token()
    manager, seam = world.worker()
    manager.access_token()
    assert seam.counts == {"connection": 1, "store.read": 1}


def test_a_token_in_hand_costs_nothing():
    world = World()
    manager, seam = world.worker()
    manager.access_token()
    seam.counts.clear()
    for _ in range(100):
        manager.access_token()
    assert not seam.counts


def test_a_dead_grant_costs_one_read():
    world = World()
    world.server.revoke()
    with pytest.raises(Exception, match="sign in again"):
        world.worker()[0].access_token()
    manager, seam = world.worker()
    with pytest.raises(Exception, match="sign in again"):
        manager.access_token()
    assert seam.counts == {"connection": 1, "store.read": 1}


def test_a_sibling_that_wins_the_race_costs_the_other_no_call():
    world = World()

    def sibling_first(call):
        world.worker()[0].access_token()
        return call()

    manager, seam = world.worker(Faults(store_write=[sibling_first]))
    assert manager.access_token() == world.record.access_token
    assert seam.counts["token"] == 0
    assert world.server.refreshes == 1


@pytest.mark.parametrize("lifetime", [4.0, 600.0, 86400.0])
def test_the_leeway_is_at_most_half_the_lifetime(lifetime):
    world = World(RefreshPolicy(leeway=3600.0), lifetime=lifetime)
    world.worker()[0].access_token()
    world.pass_time(lifetime * 0.45)
    manager, seam = world.worker()
    manager.access_token()
    assert seam.counts["token"] == (1 if lifetime * 0.55 <= min(3600.0, lifetime / 2) else 0)


def test_expiry_counts_from_when_the_request_was_sent():
    world = World(lifetime=100.0)

    def slowly(call):
        answer = call()
        world.pass_time(9.0)
        return answer

    world.worker(Faults(token=[slowly]))[0].access_token()
    assert world.record.expires_at == world.time.now - 9.0 + 100.0


def test_without_expires_in_a_token_serves_until_it_is_refused():
    world = World(lifetime=None)
    manager, seam = world.worker()
    first = manager.access_token()
    world.pass_time(10_000_000.0)
    assert manager.access_token() == first
    assert world.worker()[0].access_token() == first
    assert manager.access_token(rejected=first) != first
    assert seam.counts["token"] == 2


def test_min_ttl_refreshes_early_but_never_asks_for_more_than_there_can_be():
    world = World(lifetime=600.0)
    manager, seam = world.worker()
    manager.access_token()
    world.pass_time(100.0)
    manager.access_token(min_ttl=400.0)
    assert seam.counts["token"] == 1
    manager.access_token(min_ttl=530.0)
    manager.access_token(min_ttl=100_000.0)
    assert seam.counts["token"] == 2


def test_refresh_when_never_never_calls():
    world = World(RefreshPolicy(when="never"))
    manager, seam = world.worker()
    with pytest.raises(ConfigurationError, match="never"):
        manager.access_token()
    assert seam.counts["token"] == seam.counts["store.write"] == 0


def test_refresh_when_unauthorized_waits_for_the_401():
    world = World(RefreshPolicy(when="unauthorized"))
    world.worker()[0].access_token()
    world.pass_time(10_000.0)
    manager, seam = world.worker()
    old = manager.access_token()
    assert seam.counts["token"] == 0
    assert manager.access_token(rejected=old) != old
    assert seam.counts["token"] == 1


def test_refresh_when_always_refreshes_once_a_process():
    world = World(RefreshPolicy(when="always"))
    for process in (1, 2, 3):
        manager, _ = world.worker()
        manager.access_token()
        manager.access_token()
        assert world.server.refreshes == process


def test_refresh_when_interval_goes_by_age():
    world = World(RefreshPolicy(when="interval", interval=300.0), lifetime=3600.0)
    manager, _ = world.worker()
    manager.access_token()
    world.pass_time(299.0)
    manager.access_token()
    assert world.server.refreshes == 1
    world.pass_time(2.0)
    manager.access_token()
    assert world.server.refreshes == 2


class TestMinimumInterval:
    """Vendors such as Exact Online and Zoho refuse, or lock out, who refreshes too often."""

    policy = RefreshPolicy(leeway=60.0, min_interval=570.0)

    def test_no_worker_refreshes_before_it_has_passed(self):
        world = World(self.policy)
        world.worker()[0].access_token()
        world.pass_time(545.0)
        outcome = world.worker()[0].obtain(TokenRequirements())
        assert world.server.refreshes == 1
        assert outcome.warning is not None
        assert "25 s" in outcome.warning

    def test_force_does_not_override_it(self):
        world = World(self.policy)
        world.worker()[0].access_token()
        world.pass_time(100.0)
        assert world.worker()[0].obtain(TokenRequirements(force=True)).warning
        assert world.server.refreshes == 1

    def test_a_task_waits_when_the_token_is_of_no_more_use_and_the_wait_is_short(self):
        world = World(self.policy)
        token = world.worker()[0].access_token()
        world.pass_time(540.0)
        manager, _ = world.worker()
        assert manager.access_token(rejected=token) != token
        assert world.time.now - world.record.issued_at < 1.0
        times = [at for grant in world.server.grants for at, _ in grant.spent.values()]
        assert times[1] - times[0] >= 570.0

    def test_a_long_wait_is_an_error_worth_a_retry(self):
        world = World(self.policy)
        token = world.worker()[0].access_token()
        with pytest.raises(RefreshTooEarly, match="570 s"):
            world.worker()[0].access_token(rejected=token)
        assert world.server.refreshes == 1

    def test_a_new_sign_in_need_not_wait(self):
        world = World(self.policy)
        world.worker()[0].access_token()
        world.sign_in_again()
        world.worker()[0].access_token()
        assert world.server.refreshes == 2

    def test_the_server_may_ask_for_it_too(self):
        world = World()
        late = errors.ServerFailure("too many", status=429, retry_after=40.0)
        with pytest.raises(Exception, match="too many"):
            world.worker(Faults(token=[late]))[0].access_token()
        before = world.time.now
        manager, _ = world.worker()
        manager.access_token()
        assert world.time.now - before >= 40.0
