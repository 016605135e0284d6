"""Small parts of the life cycle: what a callback may be, whose token is whose, when a shared token counts as stale."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import ConfigurationError, MalformedResponse, OAuth2Error, TokenRequestError
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens import callbacks, revocation
from airflow_oauth_provider.tokens.clock import Backoff, iso_time, show_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration, RefreshPolicy
from airflow_oauth_provider.tokens.decision import TokenRequirements, TokenResult
from airflow_oauth_provider.tokens.json_members import LATEST_TIME
from airflow_oauth_provider.tokens.manager import PAUSE_AFTER_FAILURE, TokenCache
from airflow_oauth_provider.tokens.record import Record
from tests.unit.fakes import START, FakeClock, FakeSource, Faults, MemoryStore, Time, World

CLIENT = Client("id", "https://as.example/token")


class TestCallbacks:
    @pytest.mark.parametrize("path", ["mine.tokens:fetch", "mine:fetch", "mine.a.b:f"])
    def test_modules_under_a_prefix(self, path):
        callbacks.check_allowed("xero", path, ["other", "mine"])

    @pytest.mark.parametrize(
        "path",
        [
            "os:system",
            "mineral:fetch",
            "a.mine:fetch",
            "mine_:f",
            "mine",
            "mine:",
            ":f",
            "mine:f:g",
            "mine.:f",
            "mine:f()",
        ],
    )
    def test_no_others(self, path):
        with pytest.raises(ConfigurationError, match="'callback'"):
            callbacks.check_allowed("xero", path, ["mine", "other.package"])

    def test_none_where_nothing_is_allowed(self):
        with pytest.raises(ConfigurationError, match="Allowed are modules under: none"):
            callbacks.check_allowed("xero", "mine:fetch", [])

    @pytest.mark.parametrize("path", ["no_such_module_of_ours:f", "json:no_such_function", "json:__doc__"])
    def test_what_is_not_there_has_spent_nothing(self, path):
        with pytest.raises(errors.NotConnected) as caught:
            callbacks.request_token(path, CLIENT, {})
        assert caught.value.lasting

    def test_what_it_returns_is_a_response(self, monkeypatch):
        monkeypatch.setattr(
            "json.fetch", lambda values: {"access_token": values["new"], "expires_in": 60}, raising=False
        )
        assert callbacks.request_token("json:fetch", CLIENT, {"new": "at"}).access_token == "at"

    @pytest.mark.parametrize("refusal", ["invalid_grant", {"error": "invalid_grant"}])
    def test_an_error_is_a_refusal(self, monkeypatch, refusal):
        monkeypatch.setattr("json.fetch", lambda values: {"errorResponse": refusal}, raising=False)
        with pytest.raises(errors.InvalidGrantResponse):
            callbacks.request_token("json:fetch", CLIENT, {})

    def test_an_exception_may_have_spent_the_token_and_shows_nothing(self, monkeypatch):
        def fails(values):
            raise KeyError(values["refresh_token"])

        monkeypatch.setattr("json.fetch", fails, raising=False)
        with pytest.raises(errors.LostResponse, match=r"raised KeyError in fails, line \d+") as caught:
            callbacks.request_token("json:fetch", CLIENT, {"refresh_token": "s3cr3t"})
        assert "s3cr3t" not in str(caught.value)

    def test_what_is_no_json_is_no_token(self, monkeypatch):
        monkeypatch.setattr("json.fetch", lambda values: {"access_token": object()}, raising=False)
        with pytest.raises(errors.UnexpectedResponse):
            callbacks.request_token("json:fetch", CLIENT, {})


class TestWhose:
    def test_a_refusal_is_of_token_client_and_server(self):
        base = GrantConfiguration(
            "xero", Client("id", "https://as/token", refresh_url="https://as/r", issuer="https://as")
        )
        same = base.fingerprint_for_client("rt")
        assert base.fingerprint_for_client("other") != same
        for change in (
            {"client_id": "x"},
            {"token_url": "https://x"},
            {"refresh_url": "https://x"},
            {"issuer": "https://x"},
        ):
            assert replace(base, client=replace(base.client, **change)).fingerprint_for_client("rt") != same

    def test_an_access_token_is_of_grant_client_and_server(self):
        base = GrantConfiguration("xero", Client("id", "https://as/token", issuer="https://as"))
        assert replace(base, grant_type="client_credentials").identity != base.identity
        for change in ({"client_id": "x"}, {"token_url": "https://x"}, {"issuer": "https://x"}):
            assert replace(base, client=replace(base.client, **change)).identity != base.identity
        assert base.rotates
        assert not replace(base, grant_type="client_credentials").rotates


class TestCache:
    def cache(self, lifetime=600.0, policy=None):
        time = Time()
        cache = TokenCache(FakeClock(time))
        record = Record(generation=2, access_token="at", issued_at=START, expires_in=lifetime, entered_fingerprint="e")
        cache.take(TokenResult(record, "memory", refreshed=True, rotated=True), policy or RefreshPolicy())
        return cache, time, record

    def test_it_is_stale_from_the_leeway_on(self):
        cache, time, _ = self.cache()
        time.now = START + 539.9
        assert cache.serve(TokenRequirements())
        time.now = START + 540.0
        assert cache.serve(TokenRequirements()) is None

    def test_what_threads_share_works_to_its_end(self):
        cache, time, _ = self.cache()
        time.now = START + 599.9
        assert cache.find_working(TokenRequirements())
        assert cache.find_working(TokenRequirements(min_ttl=0.2)) is None
        assert cache.find_working(TokenRequirements(rejected="at")) is None
        assert cache.find_working(TokenRequirements(force=True)) is None
        time.now = START + 600.0
        assert cache.find_working(TokenRequirements()) is None

    def test_what_is_served_again_was_not_refreshed_by_this_call(self):
        cache, _, _ = self.cache()
        for served in (cache.serve(TokenRequirements()), cache.find_working(TokenRequirements())):
            assert (served.refreshed, served.rotated) == (False, False)

    def test_after_a_failure_it_is_served_for_a_while(self):
        cache, time, _ = self.cache()
        time.now = START + 541.0
        assert cache.serve_for_want_of_better(TokenRequirements(), "why").warning == "why"
        time.now += min(PAUSE_AFTER_FAILURE, 59.0 / 2) - 0.1
        assert cache.serve(TokenRequirements())
        time.now += 0.2
        assert cache.serve(TokenRequirements()) is None

    def test_but_not_beyond_its_end_nor_after_the_api_has_refused_it(self):
        cache, time, _ = self.cache()
        assert cache.serve_for_want_of_better(TokenRequirements(rejected="at"), "why") is None
        time.now = START + 600.0
        assert cache.serve_for_want_of_better(TokenRequirements(), "why") is None

    def test_another_token_is_not_served_for_the_failure_of_the_one_before(self):
        cache, time, record = self.cache()
        time.now = START + 541.0
        cache.serve_for_want_of_better(TokenRequirements(), "why")
        cache.take(TokenResult(replace(record, access_token="other"), "memory"), RefreshPolicy())
        assert cache.serve(TokenRequirements()) is None

    def test_a_clock_that_jumps_back_makes_it_no_younger(self):
        cache, time, record = self.cache()
        time.now = START + 500.0
        cache._clock.skew = -400.0
        cache.take(TokenResult(record, "memory"), RefreshPolicy())
        assert cache.left == pytest.approx(100.0)

    def test_interval_and_unauthorized(self):
        cache, time, _ = self.cache(policy=RefreshPolicy(when="interval", interval=100.0))
        time.now = START + 99.9
        assert cache.serve(TokenRequirements())
        time.now = START + 100.0
        assert cache.serve(TokenRequirements()) is None
        cache, time, _ = self.cache(policy=RefreshPolicy(when="unauthorized"))
        time.now = START + 599.0
        assert cache.serve(TokenRequirements())

    def test_ahead_of_the_store(self):
        cache, _, record = self.cache()
        assert cache.is_ahead_of(replace(record, generation=1))
        assert not cache.is_ahead_of(record)
        assert not cache.is_ahead_of(replace(record, generation=1, entered_fingerprint="another"))
        assert not TokenCache(FakeClock(Time())).is_ahead_of(record)


class TestExpiry:
    @pytest.mark.parametrize(
        ("policy", "answered", "token", "expected"),
        [
            ({}, None, "new", 500.0),  # as before
            ({}, 100.0, "new", 1100.0),
            ({"refresh_lifetime": 50.0}, None, "new", 1050.0),
            ({"refresh_lifetime": 50.0}, None, None, 500.0),
            ({"refresh_lifetime": 50.0}, None, "old", 500.0),
            ({"refresh_lifetime": 50.0}, 100.0, "new", 1100.0),
            ({"idle_lifetime": 70.0}, None, None, 1070.0),
            ({"idle_lifetime": 70.0}, 30.0, None, 1030.0),
            ({"idle_lifetime": 70.0, "refresh_lifetime": 50.0}, None, "new", 1050.0),
        ],
    )
    def test_when_the_refresh_token_ends(self, policy, answered, token, expected):
        old = Record(refresh_token="old", refresh_expires_at=500.0)
        response = TokenResponse("at", refresh_token=token, refresh_expires_in=answered)
        assert RefreshPolicy(**policy).refresh_token_end(old, response, 1000.0) == expected

    def test_a_lifetime_that_nobody_knows(self):
        assert RefreshPolicy().refresh_token_end(Record(), TokenResponse("at"), 1000.0) is None
        lives = RefreshPolicy(refresh_lifetime=50.0)
        assert lives.refresh_token_end(Record(refresh_token="x"), TokenResponse("at"), 1000.0) == 1050.0

    @pytest.mark.parametrize(
        ("before", "after", "now", "expected"),
        [
            (2000.0, 2000.0, 1500.0, 500.0),
            (2000.0, 2000.0, 1499.0, None),  # too far off
            (2000.0, 2050.0, 1900.0, 150.0),  # stands still, but for rounding
            (2000.0, 2051.0, 1900.0, None),  # moves along with the refreshes
            (None, 2000.0, 1900.0, None),
            (2000.0, None, 1900.0, None),
        ],
    )
    def test_when_to_say_so(self, before, after, now, expected):
        old, new = (
            Record(issued_at=1000.0, refresh_expires_at=before),
            Record(issued_at=1100.0, refresh_expires_at=after),
        )
        assert RefreshPolicy(warn_before=500.0).ends_soon(old, new, now) == expected

    def test_age_and_what_remains(self):
        record = Record(access_token="at", issued_at=1000.0, expires_in=60.0)
        assert (record.age(990.0), record.age(1010.0)) == (0.0, 10.0)
        assert (record.remaining(1010.0), record.remaining(990.0)) == (50.0, 60.0)
        assert replace(record, access_token=None).remaining(1010.0) == 0.0
        assert replace(record, expires_in=None).remaining(1010.0) == float("inf")


class TestRevocation:
    @pytest.mark.parametrize(
        ("failure", "expected"),
        [
            (errors.NotConnected("none", lasting=True), ConfigurationError),
            (errors.NotConnected("none"), TokenRequestError),
            (errors.ServerFailure("busy", status=503, retry_after=5.0), TokenRequestError),
            (errors.UnexpectedResponse("odd", status=200), MalformedResponse),
        ],
    )
    def test_what_a_failure_means(self, monkeypatch, failure, expected):
        world = World()

        def fail(*_):
            raise failure

        monkeypatch.setattr(revocation, "request_revocation", fail)
        store = MemoryStore(world.cell, Faults())
        source = FakeSource(world.connection, store, Faults())
        with pytest.raises(OAuth2Error) as caught:
            revocation.revoke(source, "refresh_token", FakeClock(world.time))
        assert type(caught.value) is expected


class TestSmallParts:
    def test_times_are_shown_in_utc_whatever_they_are(self):
        assert show_time(1_900_000_000.0) == "2030-03-17 17:46:40 UTC"
        assert iso_time(1_900_000_000.0) == "2030-03-17T17:46:40+00:00"
        assert show_time(1e300) == show_time(LATEST_TIME) == "9999-12-31 00:00:00 UTC"
        assert show_time(-5.0) == "1970-01-01 00:00:00 UTC"

    def test_pauses_grow_to_a_bound_and_are_never_in_step(self):
        pauses = [Backoff(FakeClock(Time()), first=1.0, longest=4.0, factor=2.0) for _ in range(40)]
        rows = [[backoff.next_pause() for backoff in pauses] for _ in range(4)]
        for row, average in zip(rows, (1.0, 2.0, 4.0, 4.0), strict=True):
            assert all(0.5 * average <= pause < 1.5 * average for pause in row)
            assert len(set(row)) > 30
            assert min(row) < 0.9 * average
            assert max(row) > 1.1 * average

    def test_a_minimum_interval_counts_from_the_first_refresh_on(self):
        world = World(RefreshPolicy(leeway=60.0, min_interval=50.0))
        world.worker()[0].obtain(TokenRequirements(force=True))  # nothing to wait for
        assert world.time.now == START
        manager, _ = world.worker()
        world.pass_time(10.0)
        manager.access_token(rejected=world.record.access_token)
        assert world.time.now == pytest.approx(START + 50.0)

    def test_a_lost_lease_write_is_taken_up_with_the_version_that_was_written(self):
        world = World()
        manager, seam = world.worker(Faults(store_write=["lose"]))
        manager.access_token()
        assert [old and old.generation for old, _ in world.cell.history] == [None, 0]
        assert seam.counts["store.write"] == 3
        assert (world.record.generation, world.record.lease) == (1, None)
