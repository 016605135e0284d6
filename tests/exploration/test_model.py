"""The refresh protocol under every interleaving and fault, up to a bound; see ``tests/unit/model.py``.

``OAUTH2_MODEL_DEPTH`` raises the bound: 2 takes minutes, 3 takes an hour.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_oauth_provider.exceptions import StoreUnavailable
from airflow_oauth_provider.tokens import decision, refresh
from airflow_oauth_provider.tokens.decision import Action, Decision, TokenRequirements
from airflow_oauth_provider.tokens.lease import LeaseWatch
from airflow_oauth_provider.tokens.persistence import Persistence
from airflow_oauth_provider.tokens.refresh import Refresher
from tests.unit import model
from tests.unit.model import ACTIONS, Setting, Violation, explore, in_a_thread, run

DEPTH = int(os.environ.get("OAUTH2_MODEL_DEPTH", "2"))
EXAMPLES = int(os.environ.get("OAUTH2_MODEL_EXAMPLES", "300"))

SETTINGS = {
    "strict server": Setting(),
    "server with a grace period": Setting(grace=None),
    "clocks apart": Setting(skews=(300.0, -300.0)),
    "forced": Setting(demand=TokenRequirements(force=True, coalesce_within=30.0)),
    "one machine": Setting(one_machine=True),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_all_combinations_up_to_the_bound(name):
    assert explore(SETTINGS[name], DEPTH) > 1000


def test_three_workers():
    assert explore(Setting(workers=3), 1) > 50
    assert explore(Setting(workers=3), 3, frozenset({"yield"})) > 50


@pytest.mark.parametrize("workers", [2, 3])
def test_whatever_the_order_one_refresh_serves_all(workers):
    """Four changes of turn at any seam: the model itself counts the refreshes."""
    assert explore(Setting(workers=workers), 4 if workers == 2 else 3, frozenset({"yield"})) > 20


_everything = sorted({action for actions in ACTIONS.values() for action in actions})
_deviations = st.dictionaries(st.integers(0, 60), st.sampled_from(_everything), max_size=8)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    _deviations,
    st.integers(1, 3),
    st.sampled_from([0.0, None]),
    st.tuples(*[st.sampled_from([-300.0, 0.0, 300.0])] * 3),
    st.booleans(),
    st.booleans(),
)
def test_many_deviations(deviations, workers, grace, skews, force, one_machine):
    demand = TokenRequirements(force=force, coalesce_within=30.0)
    setting = Setting(workers=workers, grace=grace, skews=skews, demand=demand, one_machine=one_machine)
    in_a_thread(lambda: run(setting, deviations))


class TestPlantedBugs:
    """The model is worth something only if it finds what is wrong."""

    def found(self, setting=None, most=2, actions=None):
        with pytest.raises(Violation) as caught:
            explore(setting or Setting(), most, actions)
        return str(caught.value)

    def test_a_lease_that_is_not_respected(self, monkeypatch):
        monkeypatch.setattr(LeaseWatch, "left", lambda *_: 0.0)
        assert self.found(actions=frozenset({"yield"}))

    def test_a_lease_timed_by_the_date_on_it(self, monkeypatch):
        def by_the_wall_clock(watch, lease):
            return 0.0 if lease.owner in watch._own else lease.taken_at + lease.seconds - watch._clock.now()

        monkeypatch.setattr(LeaseWatch, "left", by_the_wall_clock)
        assert self.found(Setting(skews=(-300.0, 300.0)), actions=frozenset({"yield"}))

    def test_a_lease_without_fencing(self, monkeypatch):
        """The lock is taken by compare-and-set, but what came back is written whatever the store holds."""

        def unfenced(keeping, held, new, work):
            held.snapshot.store.overwrite(new)
            return True

        monkeypatch.setattr(Persistence, "_write", unfenced)
        assert "overwritten" in self.found(Setting(grace=None))

    def test_a_lease_taken_without_compare_and_set(self, monkeypatch):
        class Careless(model.MemoryStore):
            def write(self, record, *, if_version):
                if record.lease is None:
                    return super().write(record, if_version=if_version)
                return self.seam("store.write", lambda: self.overwrite(record))

        monkeypatch.setattr("tests.unit.fakes.MemoryStore", Careless)
        assert self.found()

    def test_a_read_before_the_lease_that_is_not_repeated(self, monkeypatch):
        """After a lost race the lease is taken again, with the refresh token that was read before it."""
        take = Refresher._take_lease

        def with_what_was_read_before(refresher, snapshot, record):
            try:
                return take(refresher, snapshot, record)
            except refresh.RestartRefresh:
                version = snapshot.store.read().version
                return take(refresher, replace(snapshot, version=version), record)

        monkeypatch.setattr(Refresher, "_take_lease", with_what_was_read_before)
        assert self.found(actions=frozenset({"yield"}))

    def test_a_fallback_that_nobody_looks_at(self, monkeypatch):
        monkeypatch.setattr(Persistence, "recover", lambda *_: False)
        assert self.found(most=1)

    def test_a_fallback_that_passes_for_empty_when_it_cannot_be_asked(self, monkeypatch):
        recover = Persistence.recover

        def careless(keeping, snapshot, record):
            try:
                return recover(keeping, snapshot, record)
            except StoreUnavailable:
                return False

        monkeypatch.setattr(Persistence, "recover", careless)
        assert self.found(actions=frozenset({"read-only", "fail"}))

    def test_a_write_that_gives_up(self, monkeypatch):
        def gives_up(keeping, held, new):
            try:
                held.snapshot.store.write(new, if_version=held.version)
            except StoreUnavailable:
                return "memory"
            return "memory"

        monkeypatch.setattr(Persistence, "save", gives_up)
        assert self.found(most=1)

    def test_a_refresh_without_the_lease_after_a_wait(self, monkeypatch):
        monkeypatch.setattr(decision, "_wait_or_fail", lambda *_: Decision(Action.REFRESH))
        assert self.found(actions=frozenset({"yield"}))

    def test_a_refused_worker_that_does_not_look_again(self, monkeypatch):
        from airflow_oauth_provider.tokens import precedence

        monkeypatch.setattr(precedence, "has_moved_on", lambda *_: False)
        assert self.found()

    def test_a_lease_that_is_never_over(self, monkeypatch):
        monkeypatch.setattr(LeaseWatch, "left", lambda watch, lease: 0.0 if lease.owner in watch._own else 9.0)
        assert self.found(most=1)

    def test_a_renewal_that_waiters_do_not_notice(self, monkeypatch):
        def by_its_first_sight(watch, lease):
            return left(watch, replace(lease, renewals=0))

        left = LeaseWatch.left
        monkeypatch.setattr(LeaseWatch, "left", by_its_first_sight)
        assert self.found(actions=frozenset({"yield", "slow"}))

    def test_a_renewal_without_compare_and_set(self, monkeypatch):
        def careless(refresher, held):
            held.version = held.snapshot.store.read().version
            renew(refresher, held)

        renew = Refresher._renew
        monkeypatch.setattr(Refresher, "_renew", careless)
        assert "overwritten" in self.found(Setting(grace=None), actions=frozenset({"slow", "stall"}))

    def test_no_renewal_while_a_request_is_in_flight(self, monkeypatch):
        """It goes on for longer than its lease, and is not broken off."""
        monkeypatch.setattr(Refresher, "_renew_in_flight", lambda *_: None)
        monkeypatch.setattr(model.Worker, "extend", lambda *_: None)
        assert self.found(actions=frozenset({"yield", "slow"}))

    def test_a_request_that_is_not_broken_off_when_the_renewal_fails(self, monkeypatch):
        def goes_on(refresher, held, bound):
            bound.extend(held.budget.spend + 1000.0)
            return renew(refresher, held, bound)

        renew = Refresher._renew_in_flight
        monkeypatch.setattr(Refresher, "_renew_in_flight", goes_on)
        assert self.found(actions=frozenset({"slow", "cut off"}))

    def test_a_request_under_a_lease_that_could_not_be_renewed(self, monkeypatch):
        def waits(refresher, held, seconds):
            refresher.clock.sleep(seconds)
            return True

        monkeypatch.setattr(Refresher, "_wait_and_keep", waits)
        assert self.found(Setting(busy_for=25.0), actions=frozenset({"busy", "yield"}))

    def test_a_renewal_that_fails_and_is_taken_for_a_success(self, monkeypatch):
        def takes_it_for_one(refresher, held):
            with contextlib.suppress(StoreUnavailable):
                renew(refresher, held)
            held.began, held.began_wall = refresher.clock.elapsed(), refresher.clock.now()

        renew = Refresher._renew
        monkeypatch.setattr(Refresher, "_renew", takes_it_for_one)
        assert self.found(Setting(busy_for=25.0), actions=frozenset({"busy", "cut off"}))

    def test_a_holder_that_passes_for_dead(self, monkeypatch):
        """Another machine's process, say, that has no number here."""
        monkeypatch.setattr(model.Run, "is_gone", lambda run, name: True)
        assert self.found(Setting(one_machine=True), actions=frozenset({"yield", "stall"}))

    def test_a_dead_holder_whose_fallback_entry_is_not_looked_for(self, monkeypatch):
        monkeypatch.setattr(Persistence, "recover", lambda *_: False)
        assert self.found(Setting(one_machine=True), actions=frozenset({"read-only", "crash"}))
