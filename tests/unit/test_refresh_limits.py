"""What the life cycle takes at the most and at the least: sizes, statuses, counts."""

from __future__ import annotations

import base64
import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_oauth_provider import tokens
from airflow_oauth_provider.exceptions import MalformedResponse, OAuth2Error, ReauthorizationRequired, TokenRequestError
from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.oauth2.transport import HttpResponse
from airflow_oauth_provider.tokens import callbacks, events, json_members, lease, precedence, refresh, revocation
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration, RefreshPolicy
from airflow_oauth_provider.tokens.decision import TokenRequirements, TokenResult
from airflow_oauth_provider.tokens.grant_state import State, determine_state, format_duration, read_name
from airflow_oauth_provider.tokens.record import DeadGrant, Lease, Record, fingerprint
from tests.unit.fakes import START, FakeClock, FakeSource, Faults, MemoryStore, World, anew

FORCED = TokenRequirements(force=True)
DAY = 86400.0
CONFIGURATION = GrantConfiguration("xero", Client("id", "https://as.example/token"))


def parse(**members):
    return Record.from_json(json.dumps({"format": 1, **members}))


class TestValues:
    def test_nobody_can_change_what_threads_share(self):
        working = {"HeldLease", "_Attempts", "_Work"}  # of one refresh, and of one write
        for module in pkgutil.iter_modules(tokens.__path__):
            for name, found in vars(importlib.import_module(f"{tokens.__name__}.{module.name}")).items():
                if dataclasses.is_dataclass(found) and found.__module__.startswith(tokens.__name__):
                    assert found.__dataclass_params__.frozen is (name not in working), name
                    assert "__slots__" in vars(found), name

    def test_every_parameter_may_be_named(self):
        for module in pkgutil.iter_modules(tokens.__path__):
            for _, found in inspect.getmembers(importlib.import_module(f"{tokens.__name__}.{module.name}")):
                if getattr(found, "__module__", "").startswith(tokens.__name__) and callable(found):
                    members = [found, *(vars(found).values() if inspect.isclass(found) else ())]
                    for function in filter(inspect.isfunction, members):
                        kinds = {each.kind for each in inspect.signature(function).parameters.values()}
                        assert inspect.Parameter.POSITIONAL_ONLY not in kinds, function

    def test_no_secret_is_shown(self):
        record = Record(
            access_token="s3cr3t-a",
            refresh_token="s3cr3t-r",
            response_parameters={"x": "s3cr3t"},
            unknown_members={"y": "s3cr3t"},
        )
        entered = EnteredTokens("s3cr3t-r", "s3cr3t-a")
        for shown in (record, TokenResult(record, "memory"), entered, replace(CONFIGURATION, entered=entered)):
            assert "s3cr3t" not in repr(shown)
        assert (
            repr(TokenRequirements(rejected="s3cr3t")) == "TokenRequirements(min_ttl=0.0, force=False, rejected=True)"
        )

    def test_a_fingerprint_is_short_and_nothing_has_none(self):
        assert len(fingerprint("a refresh token") or "") == 16
        assert fingerprint(None) is fingerprint("") is None


class TestRecord:
    @pytest.mark.parametrize("padding", [0, 1])
    def test_the_longest_is_eight_mebibytes(self, padding):
        text = '{"format":1,"scope":"a"}'
        text += " " * (8 * 2**20 - len(text) + padding)
        if padding:
            with pytest.raises(ValueError, match="longer than 8388608 characters"):
                Record.from_json(text)
        else:
            assert Record.from_json(text).scope == "a"

    @pytest.mark.parametrize(
        ("member", "longest"),
        [("entered_fingerprint", 64), ("issued_for", 64), ("interrupted", 2000)],
    )
    def test_texts(self, member, longest):
        assert getattr(parse(**{member: "x" * longest}), member) == "x" * longest
        with pytest.raises(ValueError, match=f"at most {longest} characters"):
            parse(**{member: "x" * (longest + 1)})

    @pytest.mark.parametrize(("member", "longest"), [("owner", 200), ("process", 200), ("actor", 200)])
    def test_texts_of_a_lease(self, member, longest):
        lease = {"owner": "me", "seconds": 0.5, "taken_at": 0}
        assert getattr(parse(lease=lease | {member: "x" * longest}).lease, member) == "x" * longest
        with pytest.raises(ValueError, match=f"at most {longest} characters"):
            parse(lease=lease | {member: "x" * (longest + 1)})

    @pytest.mark.parametrize(("member", "longest"), [("token_fingerprint", 64), ("error", 200), ("hint", 2000)])
    def test_texts_of_a_dead_grant(self, member, longest):
        dead = {"token_fingerprint": "f", "error": "invalid_grant", "at": 0}
        assert getattr(parse(dead=dead | {member: "x" * longest}).dead, member) == "x" * longest
        with pytest.raises(ValueError, match=f"at most {longest} characters"):
            parse(dead=dead | {member: "x" * (longest + 1)})

    def test_numbers(self):
        for member in ("issued_at", "expires_in", "refresh_expires_at", "not_before"):
            for value in (0, 0.5, 253402214400.0):
                assert getattr(parse(**{member: value}), member) == value
            for value in (-0.5, 253402214400.5):
                with pytest.raises(ValueError, match=member):
                    parse(**{member: value})
        assert [parse(generation=number).generation for number in (0, 1, 2**53)] == [0, 1, 2**53]
        with pytest.raises(ValueError, match="generation"):
            parse(generation=2**53 + 1)

    def test_a_lease_lasts_for_two_minutes_at_the_most(self):
        lease = {"owner": "me", "taken_at": 0}
        for written, read in ((0, 0.0), (0.5, 0.5), (119.5, 119.5), (120.5, 120.0)):
            assert parse(lease=lease | {"seconds": written}).lease.seconds == read
        renewed = {**lease, "seconds": 1, "renewals": 10**6}
        assert parse(lease=renewed).lease.renewals == 10**6
        with pytest.raises(ValueError, match="renewals"):
            parse(lease=renewed | {"renewals": 10**6 + 1})
        assert parse(lease=lease | {"seconds": 1}).lease == Lease("me", 1.0, 0.0, 0, True, "", "")

    def test_fifty_fingerprints_are_remembered(self):
        stored = Record(
            generation=1,
            entered_fingerprint="before",
            superseded=tuple(map(str, range(60))),
            spent=tuple(map(str, range(60))),
            refresh_token="rotated",
        )
        entered = replace(CONFIGURATION, entered=EnteredTokens("new"))
        found = precedence.current(entered, stored)
        assert found.superseded == (*map(str, range(11, 60)), "before")
        assert found.spent == (*map(str, range(11, 60)), "before")
        assert precedence.with_spent(replace(found, entered_fingerprint="59")) == found.spent

    def test_an_access_token_ends_with_the_calendar(self):
        assert Record(issued_at=5.0, expires_in=60.0).expires_at == 65.0
        assert Record(issued_at=5.0, expires_in=253402214400.0).expires_at == 253402214400.0

    def test_only_what_is_named_a_token_is_secret(self):
        record = Record(
            access_token="a", refresh_token="r", response_parameters={"id_token": "i", "name": "n", "token": 5}
        )
        assert record.secrets == ("a", "r", "i")
        assert Record(access_token="", response_parameters={"id_token": ""}).secrets == ()

    def test_what_was_replaced_may_come_back_only_if_it_was_never_spent(self):
        dead = DeadGrant("x", "invalid_grant", 5.0)
        alive = Record(superseded=("old",), spent=("spent",))
        assert alive.has_replaced("old")
        assert not alive.has_replaced("other")
        assert not replace(alive, dead=dead).has_replaced("old")
        assert replace(alive, dead=dead, superseded=("spent",)).has_replaced("spent")
        assert not replace(alive, dead=dead).has_replaced("spent")


class TestHistory:
    def test_entries_are_short(self):
        entry = Record().with_event(1.23456, "failed", "a" * 81, "d" * 41).history[0]
        assert (entry.at, len(entry.actor), len(entry.detail)) == (1.235, 80, 40)
        assert events.HistoryEntry.from_json(entry.to_json()) == entry

    @pytest.mark.parametrize(("place", "longest"), [(1, 20), (2, 80), (3, 40)])
    def test_longer_ones_are_none(self, place, longest):
        items = [0, "k", "a", "d"]
        items[place] = "x" * longest
        assert events.HistoryEntry.from_json([*items, "of a later version"]).to_json() == items
        items[place] = "x" * (longest + 1)
        with pytest.raises(ValueError, match=f"at most {longest} characters"):
            events.HistoryEntry.from_json(items)

    def test_a_time_is_bounded(self):
        assert [Record().with_event(at, "failed").history[0].at for at in (-5.0, 0.5, 1e15)] == [
            0.0,
            0.5,
            253402214400.0,
        ]
        with pytest.raises(ValueError, match="number"):
            events.HistoryEntry.from_json([-0.5, "k", "a", "d"])


class TestMembers:
    def test_bounds_belong_to_them(self):
        number, integer, text = json_members.number(1.0, 5.0), json_members.integer(1, 5), json_members.text(3)
        assert [number(1), number(1.0), number(5.0), integer(1), integer(5), text("abc"), text("")] == [
            1,
            1,
            5,
            1,
            5,
            "abc",
            "",
        ]
        for check, values in ((number, (0.99, 5.01, True, "2")), (integer, (0, 6, True, 2.0)), (text, ("abcd", 1))):
            for value in values:
                with pytest.raises(ValueError, match="has to be"):
                    check(value)

    def test_nested_fifty_times(self):
        def nested(depth, value=1):
            return value if depth == 0 else [nested(depth - 1, value)]

        for kind in (list, tuple):
            assert json_members.is_storable(kind(nested(48)))
        assert json_members.is_storable(nested(49))
        assert not json_members.is_storable(nested(50))
        assert json_members.is_storable([])
        for value in (float("nan"), float("inf")):
            assert not json_members.is_storable(nested(3, value))
            assert not json_members.is_storable({"a": [value]})


class TestProcess:
    def test_its_start_is_told_in_ticks_since_the_machine_started(self):
        ticks = os.sysconf("SC_CLK_TCK")
        program = "from airflow_oauth_provider.tokens import lease; print(lease.identify_process())"
        command = [sys.executable, "-c", program]
        before = int(time.clock_gettime(time.CLOCK_BOOTTIME) * ticks) - 1
        identity = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path.cwd()).stdout.strip()
        place, _, started = identity.split(":")
        assert before <= int(started) <= time.clock_gettime(time.CLOCK_BOOTTIME) * ticks + 1
        assert (len(place), place) == (16, lease.identify_process().partition(":")[0])
        assert lease.is_process_gone(identity)

    def test_digits_of_other_scripts_are_no_number(self):
        place = lease.identify_process().partition(":")[0]
        other = "".join(chr(0x0660 + int(digit)) for digit in str(2**22 + 1))
        assert lease.is_process_gone(f"{place}:{2**22 + 1}:5")
        assert not lease.is_process_gone(f"{place}:{other}:5")

    def test_one_that_is_there_is_not_gone(self):
        assert not lease.is_process_gone(lease.identify_process())

    @pytest.mark.parametrize("later", [-1, 1])
    def test_one_that_began_at_another_time_is_another(self, later):
        place, number, started = lease.identify_process().split(":")
        assert lease.is_process_gone(f"{place}:{number}:{int(started) + later}")

    @pytest.mark.parametrize("shown", ["0", "99999999"])
    def test_where_proc_shows_another_namespace_nothing_is_told(self, shown, monkeypatch):
        link = os.readlink
        monkeypatch.setattr(os, "readlink", lambda path: shown if str(path).endswith("self") else link(path))
        assert lease.identify_process() == ""

    @pytest.mark.parametrize("place", ["0" * 16, "g" * 16])
    def test_of_another_machine_nothing_is_said(self, place):
        assert not lease.is_process_gone(f"{place}:{2**22 + 1}:5")


class TestAnswers:
    @pytest.mark.parametrize(("status", "requests"), [(199, 1), (200, 2), (299, 2), (300, 1)])
    def test_a_success_that_was_cut_off_is_asked_for_once_more(self, status, requests):
        world = World(grace=600.0)
        manager, seam = world.worker(Faults(token=[errors.UnexpectedResponse("cut off", status=status)]))
        if requests == 1:
            with pytest.raises(MalformedResponse):
                manager.access_token()
        else:
            manager.access_token()
        assert seam.counts["token"] == requests

    @pytest.mark.parametrize("brought", ["an older one by name", "zzz"])
    @pytest.mark.parametrize(("status", "kept"), [(199, False), (200, True), (299, True), (300, False)])
    def test_a_success_may_have_the_newest_refresh_token(self, status, kept, brought):
        world = World()
        for _ in range(3):
            world.worker()[0].obtain(FORCED)
        before = world.record
        world.pass_time(700.0)
        odd = errors.UnexpectedResponse("odd", status=status, refresh_token=brought)
        with pytest.raises(MalformedResponse):
            world.worker(Faults(token=[odd]))[0].obtain(FORCED)
        assert world.record.refresh_token == (brought if kept else before.refresh_token)
        assert world.record.generation == before.generation + kept
        assert (world.record.access_token is None, world.record.interrupted) == (kept, None)

    @pytest.mark.parametrize(("status", "noted"), [(199, False), (200, True), (299, True), (300, False)])
    def test_a_success_without_any_may_have_rotated_it(self, status, noted):
        world = World()
        odd = errors.UnexpectedResponse("odd", status=status, is_whole=True)
        with pytest.raises(MalformedResponse):
            world.worker(Faults(token=[odd]))[0].obtain(FORCED)
        assert bool(world.record.interrupted) is noted

    def test_a_token_of_the_wrong_kind_has_rotated_nothing(self):
        world = World()
        odd = errors.WrongTokenType("odd", status=200, is_whole=True)
        with pytest.raises(MalformedResponse):
            world.worker(Faults(token=[odd]))[0].obtain(FORCED)
        assert world.record.interrupted is None

    @pytest.mark.parametrize(
        ("status", "retry_after", "served"),
        [
            (429, None, False),
            (429, 1.0, False),
            (503, 1.0, False),
            (503, None, True),
            (500, 1.0, True),
            (502, None, True),
            (408, None, True),
        ],
    )
    def test_who_may_have_served_a_request_that_failed(self, status, retry_after, served):
        world = World(RefreshPolicy(resend_lost_response=False))
        failure = errors.ServerFailure("no", status=status, retry_after=retry_after)
        manager, seam = world.worker(Faults(token=[failure]))
        if served:
            with pytest.raises(TokenRequestError):
                manager.access_token()
            assert "was lost" in (world.record.interrupted or "")
        else:
            manager.access_token()
        assert seam.counts["token"] == (1 if served else 2)

    def test_an_error_code_of_the_server_is_cut_off(self):
        world = World()
        refusal = errors.InvalidGrantResponse("no", code="c" * 300)
        with pytest.raises(ReauthorizationRequired):
            world.worker(Faults(token=[refusal]))[0].access_token()
        assert world.record.dead.error == "c" * 200

    @pytest.mark.parametrize("brought", ["an older one by name", "zzz", None])
    def test_a_rotation_is_told_whatever_the_new_token(self, brought):
        world = World()
        manager, _ = world.worker(Faults(token=[lambda call: replace(call(), refresh_token=brought)]))
        assert manager.obtain(FORCED).rotated is (brought is not None)

    @pytest.mark.parametrize("generation", [0, 1, 2, 3])
    def test_tokens_are_brought_back_whatever_their_generation(self, generation):
        world = World()
        for _ in range(generation):
            world.worker()[0].obtain(FORCED)
        world.pass_time(700.0)
        away = Faults(store_write=[None])
        away.always["store.write"] = "fail"
        world.worker(away)[0].access_token()
        (place,) = world.kept
        assert f"__{generation + 1}_" in place
        assert world.server.is_good(world.worker()[0].access_token())
        assert (world.record.generation, world.server.refreshes, world.kept) == (generation + 1, generation + 1, {})
        assert [entry.kind for entry in world.record.history][-1] == "recovered"


class TestCallback:
    def test_a_refusal_is_a_400_and_an_answer_a_200(self, monkeypatch):
        monkeypatch.setattr("json.fetch", lambda values: {"errorResponse": "invalid_grant"}, raising=False)
        with pytest.raises(errors.InvalidGrantResponse) as caught:
            callbacks.request_token("json:fetch", CONFIGURATION.client, {})
        assert caught.value.status == 400
        for returned in (object(), {"token_type": "Bearer"}):
            monkeypatch.setattr("json.fetch", lambda values, returned=returned: returned, raising=False)
            with pytest.raises(errors.UnexpectedResponse) as odd:
                callbacks.request_token("json:fetch", CONFIGURATION.client, {})
            assert odd.value.status == 200

    def test_no_secret_of_the_connection_comes_back_in_an_error(self, monkeypatch):
        refusal = {"error": "invalid_client", "error_description": "wrong: s3cr3t-value"}
        monkeypatch.setattr("json.fetch", lambda values: {"errorResponse": refusal}, raising=False)
        for name in ("client_secret", "access_token", "refresh_token"):
            with pytest.raises(errors.ErrorResponse) as caught:
                callbacks.request_token("json:fetch", CONFIGURATION.client, {name: "s3cr3t-value", "timeout": 5.0})
            assert "s3cr3t" not in str(caught.value)

    def test_what_is_no_secret_can_be_read_in_an_error(self, monkeypatch):
        refusal = {"error": "invalid_scope", "error_description": "xero may not have reports.read"}
        monkeypatch.setattr("json.fetch", lambda values: {"errorResponse": refusal}, raising=False)
        given = {"conn_id": "xero", "scope": "reports.read", "client_secret": None}
        with pytest.raises(errors.ErrorResponse, match=r"xero may not have reports\.read"):
            callbacks.request_token("json:fetch", CONFIGURATION.client, given)

    def test_it_has_a_copy_of_its_own(self, monkeypatch):
        values = {"access_token": "old"}
        monkeypatch.setattr("json.fetch", lambda given: given.clear() or {"access_token": "new"}, raising=False)
        assert callbacks.request_token("json:fetch", CONFIGURATION.client, values).access_token == "new"
        assert values == {"access_token": "old"}


class TestState:
    def record(self, **changes):
        fields = {
            "generation": 1,
            "refresh_token": "rt",
            "access_token": "at",
            "issued_at": 1000.0,
            "expires_in": 600.0,
        }
        return Record(**{**fields, **changes})

    @pytest.mark.parametrize(
        ("left", "state"),
        [
            (-1.0, State.SIGN_IN_AGAIN),
            (0.0, State.SIGN_IN_AGAIN),
            (0.5, State.ENDS_SOON),
            (7 * DAY, State.ENDS_SOON),
            (7 * DAY + 0.5, State.FRESH),
        ],
    )
    def test_a_week_before_its_end_a_refresh_token_ends_soon(self, left, state):
        assert determine_state(CONFIGURATION, self.record(refresh_expires_at=1000.0 + left), 1000.0).state is state

    @pytest.mark.parametrize(("now", "state"), [(1599.5, State.FRESH), (1600.0, State.WILL_REFRESH)])
    def test_an_access_token_works_to_its_end(self, now, state):
        assert determine_state(CONFIGURATION, self.record(), now).state is state

    @pytest.mark.parametrize(("now", "state"), [(1599.5, State.FRESH), (1600.0, State.WRONG_CONFIGURATION)])
    def test_so_does_one_that_is_never_refreshed(self, now, state):
        fixed = replace(CONFIGURATION, policy=RefreshPolicy(when="never"))
        assert determine_state(fixed, self.record(), now).state is state

    def test_what_is_shown_beside_it(self):
        idle = replace(CONFIGURATION, policy=RefreshPolicy(idle_lifetime=1.5 * DAY))
        found = determine_state(idle, self.record(refresh_expires_at=9e6), 1000.0)
        assert (found.idle_days, found.access_token_until, found.refresh_token_until) == (1.5, 1600.0, 9e6)
        assert (found.last_refresh.at, found.refreshes) == (1000.0, 1)
        found = determine_state(CONFIGURATION, self.record(access_token=None, issued_at=0.0), 1000.0)
        assert (found.idle_days, found.access_token_until, found.last_refresh) == (None, None, None)

    def test_the_order_of_urgency_and_what_needs_a_person(self):
        assert [state.urgency for state in State] == list(range(8))
        assert [state.name for state in State if state.needs_person] == [
            "SIGN_IN_AGAIN",
            "WRONG_CONFIGURATION",
            "NEVER_SIGNED_IN",
        ]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (119, "119 seconds"), (120, "2 minutes"), (150.1, "3 minutes"), (7199, "120 minutes"), (7200, "2 hours"),
            (2 * DAY - 1, "48 hours"), (2 * DAY, "2 days"),
        ],
    )  # fmt: skip
    def test_durations(self, seconds, text):
        assert format_duration(seconds) == text

    @pytest.mark.parametrize("name", ["a", "ab", "abc", "abcd", "abcde"])
    def test_an_id_token_of_any_length_is_read(self, name):
        claims = base64.urlsafe_b64encode(json.dumps({"name": name}).encode()).decode().rstrip("=")
        assert read_name({"id_token": f"e30.{claims}.signature"}) == name
        assert read_name({"id_token": f"e30.{claims}"}) == read_name({"id_token": f"e30.{claims}.x.y"}) == ""

    def test_a_blank_name_is_none(self):
        assert read_name({"email": "  ", "name": "Ada"}) == "Ada"


class TestRevocation:
    def revoke(self, world, seam=None, kind="refresh_token", actor=""):
        seam = seam or Faults()
        source = FakeSource(world.connection, MemoryStore(world.cell, seam), seam)
        return revocation.revoke(source, kind, FakeClock(world.time), actor)

    @pytest.fixture
    def revoked(self, monkeypatch):
        seen = []
        monkeypatch.setattr(revocation, "request_revocation", lambda client, token, kind: seen.append((token, kind)))
        return seen

    def test_when_is_told_by_the_clock_that_waits(self, revoked):
        world = World()
        world.worker()[0].access_token()
        world.pass_time(5.0)
        assert self.revoke(world, actor="ada")
        assert world.record.dead.at == world.record.history[-1].at == START + 5.0
        assert (world.record.history[-1].kind, world.record.history[-1].actor) == ("revoked", "ada")
        assert (world.record.access_token, world.record.lease) == (None, None)

    def test_five_times_at_the_most(self, revoked):
        world = World()
        world.worker()[0].access_token()

        def rotated(call):
            world.worker()[0].obtain(FORCED)
            return call()

        seam = Faults()
        seam.always["store.write"] = rotated
        with pytest.raises(TokenRequestError, match="may still work"):
            self.revoke(world, seam)
        assert len(revoked) == 5

    def test_what_is_not_there_cannot_be_revoked(self, revoked):
        assert not self.revoke(World(), kind="access_token")
        assert not self.revoke(World(grant_type="client_credentials"))
        with pytest.raises(OAuth2Error, match="one of refresh_token, access_token"):
            self.revoke(World(), kind="id_token")
        assert revoked == []

    def test_a_store_that_is_away_does_not_undo_it(self, revoked):
        world = World()
        world.worker()[0].access_token()
        seam = Faults()
        seam.always["store.write"] = "fail"
        assert self.revoke(world, seam)
        assert len(revoked) == 1


class TestRevocationRequest:
    @pytest.fixture
    def answered(self, monkeypatch):
        asked = []

        def answer(status, **members):
            def ask(client, url, fields):
                asked.append((url, *fields))
                headers = {"content-type": "application/json"}
                return HttpResponse("https://as.example/revoke", status, headers, json.dumps(members).encode())

            monkeypatch.setattr(client_auth, "ask", ask)
            return asked

        return answer

    CLIENT = Client("id", "https://as.example/token", revocation_url="https://as.example/revoke")

    @pytest.mark.parametrize("status", [200, 204, 299])
    def test_a_success(self, answered, status):
        asked = answered(status)
        revocation.request_revocation(self.CLIENT, "rt", "refresh_token")
        assert asked == [("https://as.example/revoke", ("token", "rt"), ("token_type_hint", "refresh_token"))]

    @pytest.mark.parametrize("status", [199, 300, 400, 503])
    def test_anything_else_is_none(self, answered, status):
        answered(status, error="x")
        with pytest.raises(errors.OAuth2ProtocolError):
            revocation.request_revocation(self.CLIENT, "rt", "refresh_token")

    @pytest.mark.parametrize("code", ["unsupported_token_type", "invalid_client", "zzz"])
    def test_only_one_code_is_about_the_kind_of_token(self, answered, code):
        answered(400, error=code)
        with pytest.raises(errors.ErrorResponse) as caught:
            revocation.request_revocation(self.CLIENT, "at", "access_token")
        assert (caught.value.code, caught.value.status) == (code, 400)
        assert ("does not revoke a token of this kind" in str(caught.value)) is (code == "unsupported_token_type")


class TestSignIn:
    """Fingerprints have no order: each comparison is tried both ways round."""

    def test_the_record_that_begins_with_it(self):
        base = Record(generation=4, entered_fingerprint="a", superseded=("b",), spent=("c",), history=())
        answer = TokenResponse(
            "at", token_type="DPoP", refresh_token="rt", expires_in=60.0, scope="s", refresh_expires_in=90.5
        )
        new = precedence.record_sign_in(base, answer, 1000.0, "ada")
        assert (new.generation, new.refresh_expires_at, new.expires_at, new.issued_at) == (5, 1090.5, 1060.0, 1000.0)
        assert (new.entered_fingerprint, new.superseded, new.spent) == ("a", ("b",), ("c", "a"))
        assert (new.access_token, new.refresh_token, new.token_type, new.scope) == ("at", "rt", "DPoP", "s")
        assert [(entry.kind, entry.actor, entry.at) for entry in new.history] == [("signed_in", "ada", 1000.0)]
        assert precedence.record_sign_in(base, TokenResponse("at"), 1000.0).refresh_expires_at is None

    @pytest.mark.parametrize(("mine", "other"), [("a", "b"), ("b", "a")])
    def test_what_has_moved_on(self, mine, other):
        base = Record(generation=4, entered_fingerprint=mine, superseded=("older",))
        assert not precedence.has_moved_on(base, base)
        assert not precedence.has_moved_on(base, replace(base, generation=3))
        assert precedence.has_moved_on(base, replace(base, generation=5))
        assert precedence.has_moved_on(base, replace(base, entered_fingerprint=other))
        assert precedence.has_moved_on(base, replace(base, entered_fingerprint=other, generation=0))
        assert not precedence.has_moved_on(base, replace(base, entered_fingerprint="older", generation=3))

    @pytest.mark.parametrize("number", range(6))
    def test_another_token_wins_whatever_its_fingerprint(self, number):
        first = fingerprint("first")
        entered = replace(CONFIGURATION, entered=EnteredTokens(f"token {number}"))
        rotated = Record(generation=3, entered_fingerprint=first, refresh_token=f"rotated {number}")
        found = precedence.current(entered, rotated)
        assert (found.refresh_token, found.generation) == (f"token {number}", 3)
        assert (found.superseded, found.spent) == ((first,), (first,))
        unused = precedence.current(entered, Record(entered_fingerprint=first, refresh_token="first"))
        assert (unused.superseded, unused.spent) == ((first,), ())

    def test_a_token_that_a_person_goes_back_to_is_superseded_no_more(self):
        entered = replace(CONFIGURATION, entered=EnteredTokens("first"))
        stored = Record(
            generation=4,
            entered_fingerprint=fingerprint("second"),
            superseded=(fingerprint("older"), fingerprint("first")),
            dead=DeadGrant("mark", "invalid_grant", 1.0),
        )
        found = precedence.current(entered, stored)
        assert found.refresh_token == "first"
        assert found.superseded == (fingerprint("older"), fingerprint("second"))

    @pytest.mark.parametrize("client_id", ["a", "id", "z", "0", "other"])
    def test_an_access_token_of_another_client_is_left_out(self, client_id):
        stored = Record(
            generation=1, access_token="at", expires_in=60.0, refresh_token="rt", issued_for=CONFIGURATION.identity
        )
        other = replace(CONFIGURATION, client=replace(CONFIGURATION.client, client_id=client_id))
        found = precedence.current(other, stored)
        kept = client_id == "id"
        assert (found.access_token, found.expires_in) == (("at", 60.0) if kept else (None, None))
        assert precedence.current(other, replace(stored, issued_for=None)).access_token == "at"

    def test_the_first_record(self):
        for ends, expires_at in ((None, None), (-5.0, 0.0), (0.5, 0.5), (1e15, 253402214400.0)):
            entered = replace(CONFIGURATION, entered=EnteredTokens("rt", "at", ends))
            found = precedence.current(entered, None)
            assert (found.access_token, found.refresh_token, found.expires_at) == ("at", "rt", expires_at)
        machine = replace(entered, grant_type="client_credentials")
        assert (precedence.current(machine, None).refresh_token, precedence.current(machine, None).generation) == (
            None,
            0,
        )

    @pytest.mark.parametrize("number", range(6))
    def test_a_person_who_signs_in_while_the_old_token_is_refused_needs_do_nothing_more(self, number):
        world = World()
        for _ in range(number):
            world.server._new("rt")  # so that the fingerprints differ

        def refused_meanwhile(call):
            world.server.revoke()
            world.sign_in_again()
            return call()

        manager, _ = world.worker(Faults(token=[refused_meanwhile]))
        assert world.server.is_good(manager.access_token())
        assert (world.record.dead, world.server.refusals) == (None, 1)


class TestKinds:
    """Names have no order either."""

    def test_only_one_grant_spends_refresh_tokens(self):
        grants = ("client_credentials", "jwt_bearer", "password", "refresh_token", "token_exchange")
        assert [kind for kind in grants if replace(CONFIGURATION, grant_type=anew(kind)).rotates] == ["refresh_token"]

    @pytest.mark.parametrize("store", ["aws_secrets_manager", "connection", "vault"])
    def test_tokens_in_their_store_are_saved(self, monkeypatch, store):
        monkeypatch.setattr(MemoryStore, "name", store)
        told = []
        world = World()
        assert world.worker(on_event=told.append)[0].obtain(FORCED).store == store
        assert [event.kind for event in told] == ["refreshed"]

    @pytest.mark.parametrize("grant", ["client_credentials", "password", "refresh_token"])
    def test_who_hands_over_a_persons_password_is_told_so(self, grant, caplog):
        world = World(grant_type=grant if grant != "password" else "client_credentials")
        configuration = world.connection.configuration
        inputs = replace(configuration.inputs, username="ada", password="s3cr3t")
        if grant == "password":
            world.connection.configuration = replace(configuration, grant_type=anew(grant), inputs=inputs)
            world.server.answer = lambda _: TokenResponse("at")
        world.worker()[0].access_token()
        assert ("RFC 9700" in caplog.text) is (grant == "password")

    @pytest.mark.parametrize("method", ["client_secret_basic", "none", "private_key_jwt", "tls_client_auth"])
    def test_a_refresh_token_is_bound_to_the_key_of_a_client_that_has_nothing_else(self, method):
        client = replace(CONFIGURATION.client, auth_method=anew(method))
        assert not refresh._is_bound(replace(CONFIGURATION, client=client))
        with_key = replace(CONFIGURATION, client=replace(client, dpop_key=object()))
        assert refresh._is_bound(with_key) is (method == "none")

    @pytest.mark.parametrize(
        ("error", "words"), [("invalid_grant", "refused"), ("revoked", "revoked"), ("zzz", "refused")]
    )
    def test_a_grant_that_was_revoked_was_not_refused(self, error, words):
        dead = DeadGrant(fingerprint("rt") or "", anew(error), 5.0)
        found = determine_state(CONFIGURATION, Record(refresh_token="rt", dead=dead), 10.0)
        assert f"was {words}" in found.reason
        assert found.state is State.SIGN_IN_AGAIN

    def test_one_that_names_another_token_is_not_dead(self):
        record = Record(refresh_token="rt")
        for mark in (fingerprint("other"), "", "zzz"):
            assert not precedence.is_dead(CONFIGURATION, replace(record, dead=DeadGrant(mark, "invalid_grant", 5.0)))
        assert not precedence.is_dead(CONFIGURATION, record)


class TestPolicies:
    def test_an_interval_that_is_not_said_is_none(self):
        world = World(RefreshPolicy(when="interval"))
        for expected in (1, 2, 3):
            world.worker()[0].access_token()
            assert world.server.refreshes == expected

    def test_a_forced_refresh_takes_no_token_for_its_own_that_has_ended(self):
        world = World()
        world.worker()[0].access_token()
        world.pass_time(600.0)
        world.worker()[0].obtain(TokenRequirements(force=True, coalesce_within=1000.0))
        assert world.server.refreshes == 2

    def test_nobody_is_warned_who_did_not_ask_for_it(self, caplog):
        world = World(RefreshPolicy(leeway=60.0, refresh_lifetime=0.5))
        for _ in range(2):
            world.worker()[0].obtain(FORCED)
        assert "the refresh token ends" not in caplog.text
