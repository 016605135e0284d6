"""Records of later versions do no harm, and lose nothing, where workers of two versions share a store."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_oauth_provider.tokens.record import DeadGrant, Lease, Record, fingerprint
from tests.unit.store_fakes import record

FULL = record(3, owner="me", dead=DeadGrant("mark", "invalid_grant", 5.0), superseded=("a",), response={"id": 1})


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
    assert replace(read, others={}) == FULL
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
    assert json.loads(replace(FULL, others={"format": 9, "generation": 99}).to_json())["generation"] == 3


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
