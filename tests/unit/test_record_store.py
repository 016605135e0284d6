"""One implementation of the store contract, on a place in memory that compares and sets."""

from __future__ import annotations

import threading

import pytest

from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.backend import Fetched
from airflow_oauth_provider.stores.record_store import RecordStore
from tests.unit.store_fakes import record


class Memory:
    """A place in this process. ``trouble`` is called before a write, ``lost`` after one."""

    name = "memory"
    where = "this process"
    record_where = "the memory of this process"

    def __init__(self) -> None:
        self.text: str | None = None
        self.number = 0
        self.fetches = 0
        self.lock = threading.Lock()
        self.trouble = lambda: None
        self.lost = lambda: None

    def fetch(self) -> Fetched:
        self.fetches += 1
        return Fetched(self.text, self.number)

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        self.trouble()
        with self.lock:
            if fetched.token != self.number:
                return None
            self.text, self.number = text, self.number + 1
        self.lost()
        return Fetched(text, self.number)


@pytest.fixture
def place() -> Memory:
    return Memory()


def fail() -> None:
    raise StoreUnavailable("no answer")


def test_what_is_written_is_read(place):
    store = RecordStore(place)
    assert store.read().record is None
    version = store.write(record(1), if_version=None)
    assert RecordStore(place).read() == store.read()
    assert store.read().version == version


def test_a_refresh_costs_one_fetch(place):
    store = RecordStore(place)
    first = store.read()
    leased = store.write(record(1, owner="me"), if_version=first.version)
    store.write(record(2), if_version=leased)
    assert place.fetches == 1


@pytest.mark.parametrize("held", [None, record(1), record(2)])
def test_another_version_is_not_replaced(place, held):
    if held is not None:
        RecordStore(place).write(held, if_version=None)
    before = place.text
    with pytest.raises(StaleVersion):
        RecordStore(place).write(record(3), if_version="0" * 64)
    assert place.text == before


@pytest.mark.parametrize("number", range(6))
def test_versions_have_no_order(place, number):
    """They are hashes: whether one is the other's successor cannot be told from them."""
    mine, other = RecordStore(place), RecordStore(place)
    first = mine.write(record(1, owner=f"first {number}"), if_version=None)
    assert other.read().version == first
    second = other.write(record(1, owner=f"second {number}"), if_version=first)
    with pytest.raises(StaleVersion):
        mine.write(record(1, owner=f"third {number}"), if_version=first)
    assert mine.write(record(2, owner=f"fourth {number}"), if_version=second) == other.read().version
    assert place.number == 3


def test_an_own_write_whose_answer_was_lost_is_recognized(place):
    store = RecordStore(place)
    place.lost = fail
    with pytest.raises(StoreUnavailable):
        store.write(record(1), if_version=None)
    place.lost = lambda: None
    version = store.write(record(1), if_version=None)
    assert store.read().version == version
    assert place.number == 1


def test_what_others_change_beside_the_record_makes_no_version_stale(place):
    store = RecordStore(place)
    version = store.write(record(1), if_version=None)

    def change_beside() -> None:
        place.number += 1
        place.trouble = lambda: None

    place.trouble = change_beside
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)


def test_a_place_that_never_stands_still_is_given_up(place):
    def change_beside() -> None:
        place.number += 1

    place.trouble = change_beside
    with pytest.raises(StoreUnavailable, match="this process is being changed all the time"):
        RecordStore(place).write(record(1), if_version=None)
    assert place.number == 20


def test_writing_the_same_again_does_write(place):
    store = RecordStore(place)
    version = store.write(record(1), if_version=None)
    assert store.write(record(1), if_version=version) == version
    assert place.number == 2, "so that the doctor finds out whether it can be written"


@pytest.mark.parametrize("text", ["", "{}", "[]", "secret-1", '{"format": 99, "refresh_token": "secret-1"}'])
def test_what_is_no_record_is_left_alone_and_not_quoted(place, text):
    place.text = text
    with pytest.raises(StoreNotWritable, match="The memory of this process") as caught:
        RecordStore(place).read()
    assert "secret-1" not in str(caught.value)
    assert place.text == text


def test_of_many_first_writers_one_wins_and_nobody_fails(place):
    outcomes: list[str] = []
    barrier = threading.Barrier(16)

    def begin(number: int) -> None:
        store = RecordStore(place)
        version = store.read().version
        barrier.wait()
        try:
            store.write(record(1, owner=f"worker {number}"), if_version=version)
            outcomes.append("won")
        except StaleVersion:
            outcomes.append("stale")

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stale"] * 15 + ["won"]
