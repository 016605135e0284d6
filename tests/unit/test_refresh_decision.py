"""What to do next, step by step, without threads, stores or servers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    ReauthorizationRequired,
    RefreshTimeout,
    RefreshTooEarly,
)
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration, RefreshPolicy
from airflow_oauth_provider.tokens.decision import (
    LONGEST_PAUSE,
    PATIENCE_WITH_A_WORKING_TOKEN,
    Action,
    Situation,
    TokenRequirements,
    decide,
)
from airflow_oauth_provider.tokens.record import DeadGrant, Record, fingerprint
from tests.unit.fakes import anew

NOW = 1_900_000_000.0
RECORD = Record(
    generation=3,
    access_token="at",
    refresh_token="rt",
    issued_at=NOW - 100.0,
    expires_in=600.0,
    entered_fingerprint="e",
)
ANY = TokenRequirements()
FORCED = TokenRequirements(force=True)


def situation(record: Record = RECORD, left: float = 500.0, policy: RefreshPolicy | None = None, **more) -> Situation:
    policy = policy or RefreshPolicy()
    policy = replace(policy, when=anew(policy.when))
    client = Client("id", "https://as.example/token")
    configuration = GrantConfiguration(
        "xero", client, anew("refresh_token"), entered=EnteredTokens("rt"), policy=policy
    )
    usual = {
        "lease_left": 0.0,
        "first_generation": 3,
        "is_behind": False,
        "has_refreshed": False,
        "waited": 0.0,
        "is_out_of_time": False,
    }
    return Situation(configuration, record, NOW, left, **{**usual, **more})


def action(requirements: TokenRequirements = ANY, **more) -> Action:
    return decide(situation(**more), requirements).action


def error(requirements: TokenRequirements = ANY, **more) -> Exception | None:
    decision = decide(situation(**more), requirements)
    assert (decision.action is Action.FAIL) == (decision.error is not None)
    return decision.error


class TestServe:
    @pytest.mark.parametrize(
        ("left", "expected"),
        [(500.0, Action.SERVE), (60.1, Action.SERVE), (60.0, Action.REFRESH), (-1.0, Action.REFRESH)],
    )
    def test_a_token_is_stale_from_its_leeway_on(self, left, expected):
        assert action(left=left) is expected

    @pytest.mark.parametrize(
        ("min_ttl", "left", "expected"),
        [
            (100.0, 100.1, Action.SERVE),
            (100.0, 100.0, Action.REFRESH),
            (9999.0, 540.1, Action.SERVE),  # nine tenths of the lifetime can be had
            (9999.0, 540.0, Action.REFRESH),
        ],
    )
    def test_a_caller_may_want_more(self, min_ttl, left, expected):
        assert action(TokenRequirements(min_ttl=min_ttl), left=left) is expected

    def test_half_the_lifetime_is_the_most_that_a_leeway_counts(self):
        record = replace(RECORD, expires_in=60.0)
        assert action(record=record, left=30.1) is Action.SERVE
        assert action(record=record, left=30.0) is Action.REFRESH

    def test_one_of_unknown_lifetime_is_fresh_until_the_api_refuses_it(self):
        record = replace(RECORD, expires_in=None)
        assert action(record=record, left=math.inf) is Action.SERVE
        assert action(TokenRequirements(rejected="at"), record=record, left=math.inf) is Action.REFRESH

    def test_no_token_is_none(self):
        assert action(record=replace(RECORD, access_token=None), left=0.0) is Action.REFRESH

    def test_one_that_the_api_refused_is_not_served(self):
        assert action(TokenRequirements(rejected="at")) is Action.REFRESH
        assert action(TokenRequirements(rejected="another")) is Action.SERVE

    def test_what_the_store_has_is_not_served_where_this_process_has_something_newer(self):
        assert action(is_behind=True) is Action.REFRESH

    def test_what_another_worker_has_refreshed_meanwhile_serves_everyone(self):
        assert action(FORCED, first_generation=2) is Action.SERVE
        assert action(first_generation=2, left=5.0) is Action.SERVE
        assert action(first_generation=2, left=0.0) is Action.REFRESH
        assert action(FORCED, first_generation=3) is Action.REFRESH
        assert action(FORCED, first_generation=4) is Action.REFRESH  # a record that was begun anew meanwhile

    @pytest.mark.parametrize(
        ("within", "expected"), [(100.0, Action.REFRESH), (100.1, Action.SERVE), (0.0, Action.REFRESH)]
    )
    def test_a_forced_refresh_takes_a_recent_one_for_its_own(self, within, expected):
        assert action(TokenRequirements(force=True, coalesce_within=within)) is expected

    def test_but_not_one_that_was_entered_nor_one_that_ends_too_soon(self):
        wants = TokenRequirements(force=True, coalesce_within=1000.0)
        entered = replace(RECORD, generation=0)
        assert action(wants, record=entered, first_generation=0) is Action.REFRESH
        assert action(wants, left=0.0) is Action.REFRESH
        assert action(replace(wants, min_ttl=500.0)) is Action.REFRESH
        assert action(replace(wants, min_ttl=499.0)) is Action.SERVE


class TestPolicies:
    def test_unauthorized_refreshes_only_what_the_api_refused(self):
        policy = RefreshPolicy(when="unauthorized")
        assert action(policy=policy, left=-5.0) is Action.SERVE
        assert action(TokenRequirements(rejected="at"), policy=policy) is Action.REFRESH

    def test_never_refreshes_nothing(self):
        policy = RefreshPolicy(when="never")
        assert action(policy=policy, left=-5.0) is Action.SERVE
        for requirements in (FORCED, TokenRequirements(rejected="at")):
            assert isinstance(error(requirements, policy=policy), ConfigurationError)

    def test_always_refreshes_once_a_process(self):
        policy = RefreshPolicy(when="always")
        assert action(policy=policy) is Action.REFRESH
        assert action(policy=policy, has_refreshed=True) is Action.SERVE
        assert action(policy=policy, has_refreshed=True, left=60.0) is Action.REFRESH
        assert action(TokenRequirements(rejected="other"), policy=policy) is Action.SERVE

    @pytest.mark.parametrize(
        ("interval", "left", "expected"),
        [
            (100.0, 500.0, Action.REFRESH),
            (100.1, 500.0, Action.SERVE),
            (1000.0, 60.0, Action.SERVE),  # the interval counts, not the leeway
            (1000.0, 0.0, Action.REFRESH),
        ],
    )
    def test_interval(self, interval, left, expected):
        assert action(policy=RefreshPolicy(when="interval", interval=interval), left=left) is expected


class TestFail:
    def test_without_a_refresh_token(self):
        assert isinstance(error(FORCED, record=replace(RECORD, refresh_token=None)), ConfigurationError)

    def test_with_a_dead_one(self):
        for mark in (fingerprint("rt"), situation().configuration.fingerprint_for_client("rt")):
            dead = replace(RECORD, dead=DeadGrant(mark, "invalid_grant", NOW))
            assert isinstance(error(FORCED, record=dead), ReauthorizationRequired)
            assert action(record=dead) is Action.SERVE  # its access token still works

    def test_not_with_another_dead_one(self):
        dead = replace(RECORD, dead=DeadGrant("another", "invalid_grant", NOW))
        assert action(FORCED, record=dead) is Action.REFRESH

    def test_after_a_call_has_lasted_too_long(self):
        assert isinstance(error(FORCED, is_out_of_time=True), RefreshTimeout)
        assert action(is_out_of_time=True) is Action.SERVE


class TestPause:
    def test_the_vendors_minimum_interval_counts_from_the_last_refresh(self):
        stale = {"left": 0.0, "policy": RefreshPolicy(min_interval=130.0)}
        decision = decide(situation(**stale), ANY)
        assert (decision.action, decision.seconds) == (Action.PAUSE, 30.0)
        assert action(left=0.0, policy=RefreshPolicy(min_interval=100.0)) is Action.REFRESH

    def test_it_does_not_count_for_what_a_person_entered(self):
        first = {"record": replace(RECORD, generation=0), "first_generation": 0, "left": 0.0}
        assert action(policy=RefreshPolicy(min_interval=130.0), **first) is Action.REFRESH
        second = {"record": replace(RECORD, generation=1), "first_generation": 1, "left": 0.0}
        assert action(policy=RefreshPolicy(min_interval=130.0), **second) is Action.PAUSE

    def test_what_the_server_asked_for(self):
        decision = decide(situation(record=replace(RECORD, not_before=NOW + 25.0), left=0.0), ANY)
        assert (decision.action, decision.seconds) == (Action.PAUSE, 25.0)
        assert action(record=replace(RECORD, not_before=NOW), left=0.0) is Action.REFRESH

    def test_the_longer_one_of_both(self):
        record = replace(RECORD, not_before=NOW + 25.0)
        assert decide(situation(record=record, left=0.0, policy=RefreshPolicy(min_interval=140.0)), ANY).seconds == 40.0
        assert decide(situation(record=record, left=0.0, policy=RefreshPolicy(min_interval=110.0)), ANY).seconds == 25.0

    def test_nobody_waits_for_longer_than_a_minute(self):
        at_most = replace(RECORD, not_before=NOW + LONGEST_PAUSE)
        assert action(record=at_most, left=0.0) is Action.PAUSE
        longer = replace(RECORD, not_before=NOW + LONGEST_PAUSE + 1.0)
        assert isinstance(error(record=longer, left=0.0), RefreshTooEarly)

    def test_a_date_of_a_clock_that_is_far_off_does_not_count(self):
        assert action(record=replace(RECORD, not_before=NOW + 2 * LONGEST_PAUSE + 1.0), left=0.0) is Action.REFRESH
        assert isinstance(error(record=replace(RECORD, not_before=NOW + 2 * LONGEST_PAUSE), left=0.0), RefreshTooEarly)

    def test_who_has_a_token_that_works_does_not_wait(self):
        record = replace(RECORD, not_before=NOW + 5.0)
        assert isinstance(error(record=record, left=1.0), RefreshTooEarly)
        assert action(record=record, left=0.0) is Action.PAUSE
        assert action(TokenRequirements(rejected="at"), record=record, left=1.0) is Action.PAUSE


class TestWait:
    def test_while_another_worker_holds_the_lease(self):
        assert action(left=0.0, lease_left=0.1) is Action.WAIT
        assert action(left=0.0, lease_left=0.0) is Action.REFRESH

    def test_a_fresh_token_is_served_meanwhile(self):
        assert action(lease_left=20.0) is Action.SERVE

    @pytest.mark.parametrize("waited", [0.0, PATIENCE_WITH_A_WORKING_TOKEN])
    def test_who_has_a_token_that_works_waits_for_a_moment(self, waited):
        assert action(left=30.0, lease_left=20.0, waited=waited) is Action.WAIT

    def test_and_then_goes_on_with_it(self):
        late = {"lease_left": 20.0, "waited": PATIENCE_WITH_A_WORKING_TOKEN + 0.1}
        assert isinstance(error(left=30.0, **late), RefreshTimeout)
        assert action(left=0.0, **late) is Action.WAIT
        assert action(TokenRequirements(min_ttl=30.0), left=30.0, **late) is Action.WAIT
        assert action(TokenRequirements(rejected="at"), left=30.0, **late) is Action.WAIT
        assert action(FORCED, left=30.0, **late) is Action.WAIT
