"""Tokens in a JSON file: its layout, its other members, its lock, and what a crash leaves."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import time
from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.expressions import follow
from airflow_oauth_provider.oauth2.times import parse_time
from airflow_oauth_provider.stores import file as file_store
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.stores.json_document import BadPath, Layout, format_expiry, parse_path, set_at
from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration
from airflow_oauth_provider.tokens.record import Lease, Record, fingerprint

MAP = {
    "client_id": "$.app.id",
    "client_secret": "$['app']['the key']",
    "refresh_token": "$.tokens[0].refresh",
    "access_token": "$.tokens[0].access",
    "expires_at": "$.tokens[0].until",
    "record": "$.airflow.state",
}
DOCUMENT = {
    "app": {"id": "the-client", "the key": "s3cret-ä"},
    "tokens": [{"refresh": "first", "access": "old", "until": "2020-01-01T00:00:00Z", "note": "ours"}],
    "flow": {"name": "nightly", "pages": [1, 2, 3]},
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "account.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


def open_file(path, entries=MAP):
    return open_store("xero", StoreOptions("file", file_path=str(path), file_map=entries))


def kept(path):
    return json.loads(path.read_text())


def rotated(record: Record, token: str) -> Record:
    return replace(
        record, generation=record.generation + 1, refresh_token=token, access_token="at-" + token, issued_at=1.9e9,
        expires_in=60.0, lease=None, response_parameters={"instance_url": "https://eu1", "odd": "\ud800é"},
    )  # fmt: skip


def test_it_begins_with_the_tokens_of_the_file(path):
    store = open_file(path)
    found = store.read()
    assert found.version is None
    assert (found.record.refresh_token, found.record.access_token) == ("first", "old")
    assert found.record.expires_at == 1577836800
    assert store.read().kept == {"client_id": "the-client", "client_secret": "s3cret-ä"}


def test_a_rotation_is_written_to_the_record_and_to_the_places_and_leaves_the_rest(path):
    store = open_file(path)
    first = store.read().record
    leased = replace(first, lease=Lease("me", 60, 1.9e9))
    version = store.write(leased, if_version=None)
    new = rotated(first, "second")
    store.write(new, if_version=version)
    assert open_file(path).read().record == new
    document = kept(path)
    assert document["tokens"][0] == {
        "refresh": "second",
        "access": "at-second",
        "until": "2030-03-17T17:47:40Z",
        "note": "ours",
    }
    assert {name: document[name] for name in ("app", "flow")} == {name: DOCUMENT[name] for name in ("app", "flow")}
    assert document["airflow"]["state"]["generation"] == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(path.parent)) == ["account.json", "account.json.lock"]


def test_its_own_rotation_is_not_taken_for_a_new_entry_but_a_persons_is(path):
    store = open_file(path)
    store.write(rotated(store.read().record, "second"), if_version=None)
    assert "refresh_token" not in store.read().kept
    document = kept(path)
    document["tokens"][0]["refresh"] = "entered by hand"
    path.write_text(json.dumps(document))
    store = open_file(path)
    found = store.read()
    assert store.read().kept["refresh_token"] == "entered by hand"
    account = GrantConfiguration(
        "xero", Client("id", "https://x/token"), entered=EnteredTokens(store.read().kept["refresh_token"])
    )
    current = precedence.current(account, found.record)
    assert current.refresh_token == "entered by hand"
    # ... and it is not written over by a refresh that was under way meanwhile.
    store.write(rotated(found.record, "third"), if_version=found.version)
    assert kept(path)["tokens"][0]["refresh"] == "entered by hand"


def test_the_entered_token_wins_once_and_its_successor_follows(path):
    path.write_text("{}")
    store = open_file(path, {})
    store.write(Record(generation=4, entered_fingerprint=fingerprint("first"), refresh_token="first"), if_version=None)
    assert kept(path)["refresh_token"] == "first"
    found = store.read()
    store.write(rotated(found.record, "next"), if_version=found.version)
    assert kept(path)["refresh_token"] == "next"
    assert kept(path)["expires_at"] == 1900000060


def test_a_stale_version_changes_nothing(path):
    store, other = open_file(path), open_file(path)
    version = store.write(rotated(store.read().record, "second"), if_version=None)
    before = path.read_bytes()
    with pytest.raises(StaleVersion):
        other.write(rotated(Record(), "other"), if_version=None)
    with pytest.raises(StaleVersion):
        other.write(rotated(Record(), "other"), if_version="0123")
    assert path.read_bytes() == before
    # The same write again: its answer was lost.
    assert store.write(store.read().record, if_version="whatever") == version


def test_a_crash_while_writing_leaves_the_old_file(path, monkeypatch):
    store = open_file(path)
    before = path.read_bytes()
    record = rotated(store.read().record, "second")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreUnavailable, match="No space left"):
        store.write(record, if_version=None)
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["account.json", "account.json.lock"]


def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    store = open_file(link)
    store.write(rotated(store.read().record, "second"), if_version=None)
    assert link.is_symlink()
    assert kept(path)["tokens"][0]["refresh"] == "second"


def test_whoever_finds_the_file_locked_waits_and_then_says_so(path, monkeypatch):
    monkeypatch.setattr(file_store, "LOCK_PATIENCE", 0.1)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="locked"):
            open_file(path).write(Record(refresh_token="x"), if_version=None)
    assert kept(path) == DOCUMENT


def test_files_that_others_can_read_are_closed_with_a_word(path, caplog):
    path.chmod(0o644)
    store = open_file(path)
    store.write(rotated(store.read().record, "second"), if_version=None)
    assert "could be read by others" in caplog.text
    assert path.stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in caplog.text


def _count_up(path: str, times: int) -> None:
    store = open_file(path)
    done = 0
    while done < times:
        found = store.read()
        # Two equal records would be one write whose answer was lost: leases make each one different.
        mine = replace(found.record, generation=found.record.generation + 1, interrupted=f"{os.getpid()} {done}")
        try:
            store.write(mine, if_version=found.version)
        except StaleVersion:
            time.sleep(0.001)
        else:
            done += 1


def test_of_many_processes_none_loses_a_write(path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count_up, args=(str(path), 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert open_file(path).read().record.generation == 100


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, StoreNotWritable, "does not exist"),
        ("", StoreUnavailable, "not JSON"),
        ('{"refresh_token": "s3cret', StoreUnavailable, "not JSON"),
        ("[]", StoreNotWritable, "not an object"),
        ('{"token_record": {"format": 99}}', StoreNotWritable, "'token_record'"),
    ],
)
def test_a_file_that_does_not_do(tmp_path, content, error, says):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=says) as caught:
        open_file(path, {}).read()
    assert "s3cret" not in str(caught.value)


def test_a_map_that_does_not_fit_the_file(path):
    with pytest.raises(StoreNotWritable, match="file_map"):
        open_file(path, {"record": "$.tokens[7].record"}).write(Record(refresh_token="x"), if_version=None)
    assert kept(path) == DOCUMENT


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "file_path"),
        ({"file_path": "relative.json"}, "'relative.json'"),
        ({"file_path": "/a", "file_map": {"refresh": "$.a"}}, "none of client_id"),
        ({"file_path": "/a", "file_map": {"refresh_token": "$..a"}}, "exactly one place"),
        ({"file_path": "/a", "file_map": {"refresh_token": "$.a[*]"}}, "exactly one place"),
        ({"file_path": "/a", "file_map": {"refresh_token": "a"}}, "begin with"),
        ({"file_path": "/a", "file_map": {"refresh_token": "$"}}, "whole document"),
        ({"file_path": "/a", "file_map": {"record": ""}}, "needs a place"),
    ],
)
def test_what_the_connection_says_is_checked(options, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        open_store("xero", StoreOptions("file", **options))
    assert "'xero'" in str(caught.value)


def test_a_place_may_be_nowhere(path):
    store = open_file(path, {"access_token": "", "refresh_token": "$.tokens[0].refresh"})
    store.write(rotated(store.read().record, "second"), if_version=None)
    assert "access_token" not in kept(path)
    assert Layout.parse({"access_token": ""}).get({"access_token": "x"}, "access_token") is None


def test_paths():
    assert parse_path("$.a-b['c d'][3].e") == ("a-b", "c d", 3, "e")
    document: dict = {"list": [{}]}
    set_at(document, ("new", "deep", "er"), 1)
    set_at(document, ("list", 0), 2)
    assert document == {"list": [2], "new": {"deep": {"er": 1}}}
    assert follow(document, ("list", 5)) is None
    with pytest.raises(BadPath):
        set_at(document, ("list", "x"), 1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1900000000, 1900000000), ("1900000000", 1900000000), (1900000000000, 1900000000), (True, None), ("soon", None)],
)
def test_dates(value, seconds):
    assert parse_time(value) == seconds
    if seconds is not None:
        assert format_expiry(seconds, value) == value


def test_a_map_without_room_for_the_access_token_is_seen_before_the_spend(path):
    store = open_file(path, {**MAP, "access_token": "$.tokens[7].access"})
    found = store.read()
    before = kept(path)
    with pytest.raises(StoreNotWritable, match=r"file_map: there is no place for the step 7"):
        store.write(replace(found.record, lease=Lease("me", 60, 1.9e9)), if_version=found.version)
    assert kept(path) == before


def test_the_end_of_a_line_belongs_to_no_value(path):
    document = json.loads(json.dumps(DOCUMENT))
    document["app"] = {"id": "the-client\n", "the key": "s3cret-ä\r\n"}
    document["tokens"][0]["refresh"] = "first\n"
    path.write_text(json.dumps(document))
    store = open_file(path)
    assert store.read().record.refresh_token == "first"
    assert store.read().kept == {"client_id": "the-client", "client_secret": "s3cret-ä"}
