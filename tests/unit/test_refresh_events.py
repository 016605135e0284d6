"""What listeners are told of a grant, and what its history keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import OAuth2Error, ReauthorizationRequired, StoreUnavailable
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens import events, precedence
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.record import Lease
from tests.unit.fakes import Faults, World

FORCED = TokenRequirements(force=True)
BUSY = errors.ServerFailure("busy", status=503, retry_after=500.0)


class Listener:
    def __init__(self, world, seam=None, **more):
        self.events = []
        self.manager, self.seam = world.worker(seam, actor="nightly/fetch", on_event=self.events.append, **more)

    @property
    def kinds(self):
        return [event.kind for event in self.events]

    def obtain(self):
        return self.manager.obtain(FORCED)


def kinds(world):
    return [entry.kind for entry in world.record.history]


class TestRefreshed:
    def test_who_when_and_how_long(self):
        world = World()

        def slowly(call):
            world.pass_time(2.5)
            return call()

        listener = Listener(world, Faults(token=[slowly]))
        listener.obtain()
        (event,) = listener.events
        assert (event.kind, event.conn_id, event.actor, event.seconds) == ("refreshed", "xero", "nightly/fetch", 2.5)
        assert event.at == world.time.now
        assert [(entry.kind, entry.actor) for entry in world.record.history] == [("refreshed", "nightly/fetch")]

    def test_a_token_that_is_fresh_is_no_event(self):
        world = World()
        Listener(world).obtain()
        listener = Listener(world)
        listener.manager.access_token()
        assert listener.events == []
        assert len(world.record.history) == 1

    def test_the_history_costs_no_write_of_its_own(self):
        world = World()
        listener = Listener(world)
        for _ in range(60):
            listener.obtain()
        assert listener.seam.counts["store.write"] == 120
        assert len(world.record.history) == events.MAX_ENTRIES


class TestFailed:
    @pytest.mark.parametrize(
        ("failure", "kind", "entry"),
        [
            (BUSY, "failed", ("failed", "ServerFailure")),
            (errors.InvalidClientResponse("no", code="invalid_client"), "failed", ("failed", "InvalidClientResponse")),
            (errors.NotConnected("no", lasting=True), "failed", ("failed", "NotConnected")),
            (errors.UnexpectedResponse("odd", status=400), "failed", ("failed", "UnexpectedResponse")),
            (errors.InvalidGrantResponse("no", code="invalid_grant"), "sign_in_again", ("refused", "")),
        ],
    )
    def test_each_kind_of_failure(self, failure, kind, entry):
        world = World()
        listener = Listener(world, Faults(token=[failure]))
        with pytest.raises(OAuth2Error):
            listener.obtain()
        assert listener.kinds == [kind]
        assert [(each.kind, each.detail) for each in world.record.history] == [entry]

    def test_a_dead_grant_is_told_of_once(self):
        world = World()
        world.server.revoke()
        listeners = [Listener(world) for _ in range(3)]
        for listener in listeners:
            with pytest.raises(ReauthorizationRequired):
                listener.obtain()
        assert [listener.kinds for listener in listeners] == [["sign_in_again"], [], []]

    def test_no_text_of_the_server_gets_into_the_history(self):
        world = World()
        world.worker()[0].access_token()
        secret = world.record.refresh_token
        refusal = errors.ErrorResponse(f"answered 400: {secret}", code=secret)
        with pytest.raises(OAuth2Error):
            Listener(world, Faults(token=[refusal])).obtain()
        assert secret not in str(world.record.history)


class TestWorksAgain:
    @pytest.mark.parametrize("failure", [BUSY, errors.InvalidClientResponse("no", code="invalid_client")])
    def test_after_a_failure(self, failure):
        world = World()
        with pytest.raises(OAuth2Error):
            Listener(world, Faults(token=[failure])).obtain()
        world.pass_time(1000.0)
        listener = Listener(world)
        listener.obtain()
        assert listener.kinds == ["refreshed", "works_again"]
        listener.obtain()
        assert listener.kinds == ["refreshed", "works_again", "refreshed"]

    def test_after_a_dead_grant_and_a_new_sign_in(self):
        world = World()
        world.server.revoke()
        with pytest.raises(ReauthorizationRequired):
            Listener(world).obtain()
        world.sign_in_again()
        listener = Listener(world)
        listener.obtain()
        assert listener.kinds == ["refreshed", "works_again"]
        assert kinds(world) == ["refused", "refreshed"]

    def test_a_sign_in_stands_in_the_history(self):
        world = World()
        world.worker()[0].access_token()
        tokens = TokenResponse("at", refresh_token=world.server.sign_in())
        new = precedence.record_sign_in(world.record, tokens, world.time.now, "jane")
        assert [(entry.kind, entry.actor) for entry in new.history] == [("refreshed", ""), ("signed_in", "jane")]


class TestEndsSoon:
    def test_a_fixed_end_is_told_of_and_one_that_moves_is_not(self):
        policy = RefreshPolicy(leeway=60.0, refresh_lifetime=1000.0, warn_before=500.0)
        world = World(policy, rotates=False)  # the refresh token stays, and so does its end
        listener = Listener(world)
        listener.obtain()
        world.pass_time(400.0)
        listener.obtain()
        assert listener.kinds == ["refreshed", "refreshed"]
        world.pass_time(200.0)
        listener.obtain()
        assert listener.kinds[2:] == ["refreshed", "ends_soon"]
        assert listener.events[-1].seconds == pytest.approx(400.0)


class TestNotSaved:
    def test_tokens_in_the_fallback_store(self):
        world = World()
        seam = Faults(store_write=[None])
        seam.always["store.write"] = "fail"
        listener = Listener(world, seam)
        listener.obtain()
        assert [(event.kind, event.detail) for event in listener.events] == [
            ("refreshed", ""),
            ("rotation_not_saved", "fallback"),
        ]
        world.worker()[0].access_token()
        assert kinds(world) == ["refreshed", "recovered"]

    def test_tokens_nowhere(self):
        world = World()
        seam = Faults(store_write=[None])
        seam.always["store.write"] = seam.always["fallback.save"] = "fail"
        listener = Listener(world, seam)
        with pytest.raises(StoreUnavailable):
            listener.obtain()
        assert ("rotation_not_saved", "lost") in [(event.kind, event.detail) for event in listener.events]


class TestWaited:
    def test_for_how_long(self):
        world = World()
        world.worker()[0].access_token()
        world.cell.record = replace(world.record, lease=Lease("gone", 20.0, world.time.now, actor="other/task"))
        world.cell.number += 1
        listener = Listener(world)
        listener.obtain()
        assert listener.kinds == ["refreshed", "waited"]
        assert listener.events[1].seconds >= 20.0
        assert [(entry.kind, entry.actor) for entry in world.record.history[1:]] == [
            ("holder_gone", "other/task"),
            ("refreshed", "nightly/fetch"),
        ]


class TestListener:
    def test_one_that_fails_breaks_nothing(self, caplog):
        world = World()

        def broken(event):
            raise RuntimeError("s3cr3t")

        manager, _ = world.worker(on_event=broken)
        assert world.server.is_good(manager.access_token())
        assert "RuntimeError" in caplog.text
        assert "s3cr3t" not in caplog.text

    def test_all_kinds_are_described(self):
        told = {"refreshed", "failed", "waited", "ends_soon", "sign_in_again", "works_again", "rotation_not_saved"}
        assert told <= set(events.KINDS)
