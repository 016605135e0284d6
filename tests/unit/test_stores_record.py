"""Records of later versions do no harm, and lose nothing, where workers of two versions share a store."""

from __future__ import annotations

import functools
import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration
from airflow_oauth_provider.tokens.decision import TokenResult
from airflow_oauth_provider.tokens.events import HistoryEntry
from airflow_oauth_provider.tokens.lease import LeaseWatch
from airflow_oauth_provider.tokens.record import MAX_LEASE, DeadGrant, Lease, Record, fingerprint, storable_parameters
from tests.unit.fakes import FakeClock, Time
from tests.unit.store_fakes import record

CONFIGURATION = GrantConfiguration("xero", Client("id", "https://as.example/token"), entered=EnteredTokens("entered"))

FULL = record(
    3, owner="me", dead=DeadGrant("mark", "invalid_grant", 5.0), superseded=("a",), response_parameters={"id": 1}
)


def _as_of_a_later_version(kept: Record) -> dict[str, Any]:
    members = json.loads(kept.to_json())
    for part in ("lease", "dead"):
        members[part]["host"] = "worker-1"
    return members | {"sealed_by": {"name": "new"}, "others": [1]}


def test_it_comes_back_as_it_went():
    assert Record.from_json(FULL.to_json()) == FULL
    assert json.loads(FULL.to_json())["format"] == 1


def test_members_of_a_later_version_do_no_harm():
    read = Record.from_json(json.dumps(_as_of_a_later_version(FULL)))
    assert replace(read, unknown_members={}) == FULL
    assert read.lease == Lease("me", 60.0, 1_000.0)


def test_an_older_worker_brings_them_along():
    later = _as_of_a_later_version(FULL)
    written = json.loads(replace(Record.from_json(json.dumps(later)), generation=4, lease=None).to_json())
    assert (written["sealed_by"], written["others"], written["generation"]) == ({"name": "new"}, [1], 4)
    assert "lease" not in written


@pytest.mark.parametrize("member", ["moved_to", "written_beside"])
def test_what_is_said_of_one_text_in_one_place_stays_there(member):
    assert Record.from_json(json.dumps(json.loads(FULL.to_json()) | {member: "x"})) == FULL


def test_unknown_members_never_stand_in_for_known_ones():
    assert json.loads(replace(FULL, unknown_members={"format": 9, "generation": 99}).to_json())["generation"] == 3


@pytest.mark.parametrize("part", ["lease", "dead"])
@pytest.mark.parametrize("value", [{}, [], "text", {"owner": "me"}])
def test_parts_of_the_wrong_shape_are_no_record(part, value):
    with pytest.raises(ValueError, match="shape"):
        Record.from_json(json.dumps({"format": 1, part: value}))


def test_half_a_character_in_a_token_has_a_mark_and_comes_back():
    token = json.loads('"a\\ud800"')
    kept = Record(refresh_token=token)
    assert Record.from_json(kept.to_json()) == kept
    assert fingerprint(token) not in (None, fingerprint("a"), fingerprint("a?"))


class TestChecks:
    """Whatever a store holds: a record, or a ValueError that quotes nothing of it."""

    @pytest.mark.parametrize(
        "text",
        [
            "", "null", "[]", '"text"', "1", "{", '{"format": 2}', '{"format": true}', '{"format": 1.0}',
            '{"format": "1"}', '{"format": 1, "expires_in": NaN}', '{"format": 1, "issued_at": Infinity}',
            '{"format": 1, "issued_at": 1e999}',
            "[" * 100_000, '{"format": 1, "x": ' + "[" * 100_000, '{"format":1,"x":' + '{"a":' * 60 + "1" + "}" * 61,
            '{"format": 1, "response_parameters": {"a": ' + "[" * 60 + "]" * 60 + "}}",
            '{"format": 1, "generation": ' + "9" * 5000 + "}",
        ],
    )  # fmt: skip
    def test_documents(self, text):
        with pytest.raises(ValueError, match="token record"):
            Record.from_json(text)

    @pytest.mark.parametrize(
        ("member", "values"),
        {
            "generation": [-1, 1.0, "1", True, 10**400, [], {}],
            "access_token": [1, True, [], {}, ["a"]],
            "refresh_token": [1.5, False, {"a": 1}],
            "token_type": [0, []],
            "scope": [["read", "write"], 5],
            "issued_at": [-1, "now", True, 10**400, 1e300, []],
            "expires_in": [-1, "60", 10**400, 1e300, {}],
            "refresh_expires_at": ["2030-01-01", 1e300],
            "not_before": ["soon", -5, 1e300],
            "entered_fingerprint": [1, "f" * 65],
            "issued_for": [1, []],
            "superseded": ["abc", {"a": 1}, [1], [None], [["a"]], 5],
            "spent": ["abc", [{}], ["f" * 65], True],
            "response_parameters": [[], "text", 1],
            "interrupted": [1, ["x"], "x" * 2001],
            "lease": ["me", [], 5, {"owner": "me"}, True],
            "dead": ["yes", [], True, {"error": "invalid_grant"}],
            "history": ["x", {}, [1], [["now", "refreshed", "", ""]], [[1, "refreshed"]], [[1, "x", "y" * 81, ""]]],
        }.items(),
    )
    def test_members(self, member, values):
        for value in values:
            with pytest.raises(ValueError, match=member):
                Record.from_json(json.dumps({"format": 1, member: value}))

    @pytest.mark.parametrize(
        ("part", "member", "values"),
        [
            ("lease", "owner", [1, [], "x" * 201]),
            ("lease", "seconds", [-1, "60", True, 10**400]),
            ("lease", "taken_at", [-1, "now", 1e300]),
            ("lease", "renewals", [-1, 1.5, "1"]),
            ("lease", "sent", [0, 1, "yes"]),
            ("lease", "process", [1, ["a"], "x" * 201]),
            ("dead", "token_fingerprint", [1, "f" * 65]),
            ("dead", "error", [1, ["a"]]),
            ("dead", "at", ["now", 1e300, -1]),
            ("dead", "hint", [5, "x" * 2001]),
        ],
    )
    def test_members_of_parts(self, part, member, values):
        whole = json.loads(FULL.to_json())
        for value in values:
            with pytest.raises(ValueError, match=f"{part}.*{member}"):
                Record.from_json(json.dumps(whole | {part: whole[part] | {member: value}}))

    def test_a_lease_of_years_is_bounded(self):
        whole = json.loads(FULL.to_json())
        for seconds in (1e9, 10**9, MAX_LEASE + 1):
            read = Record.from_json(json.dumps(whole | {"lease": whole["lease"] | {"seconds": seconds}}))
            assert read.lease.seconds == MAX_LEASE

    def test_lists_keep_their_newest_entries(self):
        read = Record.from_json(json.dumps({"format": 1, "spent": [str(number) for number in range(1000)]}))
        assert read.spent == tuple(str(number) for number in range(950, 1000))

    def test_errors_quote_nothing(self):
        for member in ("refresh_token", "superseded", "lease", "history", "expires_in"):
            with pytest.raises(ValueError, match="token record") as caught:
                Record.from_json(json.dumps({"format": 1, member: {"s3cr3t-value": ["s3cr3t-value"]}}))
            assert "s3cr3t" not in str(caught.value)
            assert caught.value.__cause__ is None

    def test_ten_thousand_malformed_records(self):
        """Members replaced, removed, nested, cut: a record whose every part can be used, or a ValueError."""
        source = random.Random(12)
        whole = json.loads(replace(FULL, expires_in=60.0, interrupted="x").with_event(5.0, "refreshed").to_json())
        read = 0
        for _ in range(10_000):
            try:
                found = Record.from_json(_mutated(source, whole))
            except ValueError:
                continue
            read += 1
            assert Record.from_json(found.to_json()) == found
            repr(found), found.secrets, found.has_replaced("x"), TokenResult(found, "memory").status.as_dict()
            precedence.current(CONFIGURATION, found)
            LeaseWatch(FakeClock(Time())).is_over(found.lease or Lease("a", 1.0, 1.0))
            if found.dead:
                messages.dead_grant(CONFIGURATION, found.dead)
        assert 100 < read < 9_900


def _mutated(source: random.Random, whole: dict[str, Any]) -> str:
    members = json.loads(json.dumps(whole))
    for _ in range(source.choice([1, 1, 2, 3])):
        target = members
        if source.random() < 0.3:
            target = members.get(source.choice(["lease", "dead", "response_parameters"]), members)
            target = target if isinstance(target, dict) and target else members
        target[source.choice([*target, "new"])] = source.choice(_ODD)
    text = json.dumps(members)
    return text[: source.randrange(len(text))] if source.random() < 0.1 else text


_ODD: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, 1e9, -1e9, 1e300, 10**30, 10**400, math.nan, math.inf, -math.inf, "", "x", "1",
    "\ud800", "x" * 10_000, [], [[]], [None], [1, "a"], ["a"] * 60, {}, {"owner": 1}, {"a": {"b": []}},
    functools.reduce(lambda inner, _: [inner], range(60), []), [[1.0, "refreshed", "", ""]] * 60,
]  # fmt: skip


class TestHistory:
    def test_it_keeps_the_newest_entries(self):
        kept = Record()
        for number in range(60):
            kept = kept.with_event(float(number), "refreshed", "dag/task")
        assert len(kept.history) == 50
        assert kept.history[-1] == HistoryEntry(59.0, "refreshed", "dag/task", "")
        assert Record.from_json(kept.to_json()) == kept

    def test_it_stays_small(self):
        kept = Record()
        for _ in range(60):
            kept = kept.with_event(1_900_000_000.123456, "refreshed", "dag/" * 1000, "detail" * 1000)
        assert len(kept.to_json()) < 50 * 160

    @pytest.mark.parametrize("where", ["actor", "detail"])
    def test_no_secret_gets_in(self, where):
        kept = Record(
            access_token="at-secret", refresh_token="rt-secret", response_parameters={"id_token": "id-secret"}
        )
        new = kept.with_event(1.0, "failed", **{where: "x at-secret rt-secret id-secret"})
        assert "secret" not in json.dumps([entry.to_json() for entry in new.history])

    def test_what_cannot_be_printed_does_not_get_in(self):
        assert Record().with_event(1.0, "failed", "a\nb\x1b\ud800").history[0].actor == "a?b??"

    def test_a_wrong_clock_cannot_spoil_the_record(self):
        kept = Record().with_event(-5.0, "failed").with_event(1e15, "failed")
        assert Record.from_json(kept.to_json()) == kept


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": {"b": -math.inf}}, _ODD[-2]])
def test_parameters_that_no_record_can_keep_are_left_out(value):
    assert storable_parameters({"good": {"a": [1, 2.5]}, "odd": value}) == {"good": {"a": [1, 2.5]}}
