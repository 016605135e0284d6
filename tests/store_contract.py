"""What every token store has to keep to. A test module makes a subclass for each place, with a fixture ``place``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_oauth_provider.compat import masking
from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable
from airflow_oauth_provider.tokens.record import Lease, Record, TokenStore

WORKERS = 8


@dataclass
class Place:
    """One place for the record of one connection.

    :param open: makes a store on it, as another worker would.
    :param spoil: puts a text there that is no record; None where the place cannot hold one.
    :param compares: whether the place can compare and set, so that of many workers exactly one wins.
    :param quick: makes a store whose leases settle at once; None: as ``open``.
    """

    open: Callable[[], TokenStore]
    spoil: Callable[[str], Any] | None = None
    compares: bool = True
    quick: Callable[[], TokenStore] | None = None

    def store(self) -> TokenStore:
        return (self.quick or self.open)()


def record(generation: int = 1, owner: str | None = None) -> Record:
    lease = Lease(owner, 60.0, 1_000.0) if owner else None
    return Record(
        generation=generation,
        access_token=f"access-secret-{generation}",
        refresh_token=f"refresh-secret-{generation}",
        lease=lease,
        response_parameters={"instance_url": "https://eu1.example.com", "odd": "\ud800é"},
    )


class StoreContract:
    def test_an_empty_place_has_neither_record_nor_version(self, place: Place):
        assert (place.store().read().record, place.store().read().version) == (None, None)

    def test_a_refresh_is_a_lease_and_then_a_result(self, place: Place):
        store = place.store()
        leased = store.write(record(0, owner="me"), if_version=store.read().version)
        found = place.store().read()
        assert (found.record, found.version) == (record(0, owner="me"), leased)
        written = store.write(record(1), if_version=leased)
        found = place.store().read()
        assert (found.record, found.version) == (record(1), written)

    @pytest.mark.parametrize("wrong", ["none", "another", "an old one"])
    @pytest.mark.parametrize("new", [record(9), record(9, owner="late")], ids=["result", "lease"])
    def test_another_version_is_not_replaced(self, place: Place, wrong, new):
        store = place.store()
        old = store.write(record(1), if_version=None)
        newest = store.write(record(2), if_version=old)
        version = {"none": None, "another": "0" * 64, "an old one": old}[wrong]
        with pytest.raises(StaleVersion):
            place.store().write(new, if_version=version)
        with pytest.raises(StaleVersion):
            store.write(new, if_version=version)
        found = place.store().read()
        assert (found.record, found.version) == (record(2), newest)

    @pytest.mark.parametrize("new", [record(1), record(0, owner="me")], ids=["result", "lease"])
    def test_a_write_whose_answer_was_lost_may_be_repeated(self, place: Place, new):
        store = place.store()
        version = store.write(new, if_version=None)
        assert store.write(new, if_version=None) == version
        assert place.store().read().version == version

    def test_a_record_may_be_written_back_as_it_is(self, place: Place):
        """So the doctor finds out whether a place can be written."""
        place.store().write(record(1), if_version=None)
        other = place.store()
        found = other.read()
        assert other.write(found.record, if_version=found.version) == found.version

    def test_of_many_first_writers_one_at_most_wins_and_none_fails(self, place: Place):
        barrier = threading.Barrier(WORKERS)
        won: list[str] = []
        failed: list[BaseException] = []

        def begin(number: int) -> None:
            store = place.open()
            version = store.read().version
            barrier.wait(60)
            try:
                won.append(store.write(record(0, owner=f"worker {number}"), if_version=version))
            except StaleVersion:
                pass
            except BaseException as failure:  # noqa: BLE001
                failed.append(failure)

        threads = [threading.Thread(target=begin, args=(number,)) for number in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert failed == []
        assert len(won) == 1 if place.compares else len(won) <= 1
        if won:
            assert place.store().read().version == won[0]

    @pytest.mark.parametrize("text", ["s3cret", "[1]", '{"format": 99, "refresh_token": "s3cret"}'])
    def test_what_is_no_record_stays_and_is_not_quoted(self, place: Place, text):
        if place.spoil is None:
            return
        place.spoil(text)
        for call in (place.store().read, lambda: place.store().write(record(1), if_version=None)):
            with pytest.raises((StoreNotWritable, ConfigurationError, StaleVersion)) as caught:
                call()
            assert "s3cret" not in str(caught.value)

    def test_tokens_are_masked_before_they_are_written(self, place: Place, monkeypatch):
        masked: list[str | None] = []
        monkeypatch.setattr(masking, "mask_secret", masked.append)
        place.store().write(record(1), if_version=None)
        assert {"access-secret-1", "refresh-secret-1"} <= set(masked)
        masked.clear()
        place.store().read()
        assert {"access-secret-1", "refresh-secret-1"} <= set(masked)

    def test_no_token_is_in_what_a_store_says_of_itself(self, place: Place):
        store = place.store()
        store.write(record(1), if_version=None)
        assert "secret-" not in f"{store!r} {store.read()!r} {vars(store)!r}".replace("client_secret", "")
