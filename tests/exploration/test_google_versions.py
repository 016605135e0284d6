"""Compare-and-set on numbered versions, under random orders, lost and late answers, lag, and people who write by hand.

Each worker is a greenlet that stops at every call to the secret. After each version that is added an observer reads:
what he sees, one after the other, is the history of the secret, and all that has to hold is held against it.
"""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace

import pytest
from greenlet import getcurrent, greenlet

from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import gcp_secret_manager
from airflow_oauth_provider.stores.gcp_secret_manager import GcpBackend, Version
from airflow_oauth_provider.stores.json_document import Layout
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.tokens.record import Lease, Record

NAME = "projects/finance/secrets/xero"


class Secret:
    """What Google keeps."""

    def __init__(self, dice: random.Random | None = None, lag: int = 0, losses: float = 0.0) -> None:
        self.versions: list[bytes | None] = []
        self.added = lambda: None
        self.dice = dice or random.Random(0)
        self.lag = lag
        self.losses = losses
        self.late: list[bytes] = []

    def append(self, data: bytes) -> int:
        self.versions.append(data)
        self.added()
        return len(self.versions)


class Client:
    """A worker's way to it: the methods of ``GcpSecret``, at each of which ``turn`` decides who goes on."""

    def __init__(self, secret: Secret, turn=lambda: None, lag: int = 0) -> None:
        self.secret, self.turn, self.lag = secret, turn, lag

    def newest(self) -> Version:
        self.turn()
        number = max(1, len(self.secret.versions) - self.secret.dice.randint(0, self.lag))
        return Version(number, self.secret.versions[number - 1])

    def version(self, number: int) -> Version | None:
        self.turn()
        there = 1 <= number <= len(self.secret.versions)
        return Version(number, self.secret.versions[number - 1]) if there else None

    def add(self, data: bytes) -> int:
        self.turn()
        if self.secret.dice.random() < self.secret.losses:
            if self.secret.dice.random() < 0.5:
                self.secret.append(data)
            else:
                self.secret.late.append(data)
            raise StoreUnavailable("the answer is lost")
        number = self.secret.append(data)
        self.turn()
        return number

    def readable(self, most: int) -> list[int]:
        self.turn()
        return [n for n in range(len(self.secret.versions), 0, -1) if self.secret.versions[n - 1] is not None][:most]

    def destroy(self, number: int) -> None:
        self.turn()
        self.secret.versions[number - 1] = None


def store_of(client: Client) -> RecordStore:
    backend = GcpBackend("xero", NAME, Layout.parse({}))
    backend._secret = client  # type: ignore[assignment]
    return RecordStore(backend)


def first_version(**more: object) -> bytes:
    return json.dumps({"refresh_token": "entered", **more}).encode()


def grown(record: Record, by: str) -> Record:
    return replace(record, generation=record.generation + 1, refresh_token=f"{record.generation + 1} by {by}")


class Play:
    """Workers that read and write in a random order."""

    def __init__(self, seed: int, lag: int = 0, losses: float = 0.0, by_hand: float = 0.0) -> None:
        self.dice = random.Random(seed)
        self.lag, self.by_hand = lag, by_hand
        self.secret = Secret(self.dice, lag, losses)
        self.observer = store_of(Client(self.secret))
        self.history: list[Record] = []
        self.done: list[Record] = []
        self.secret.append(first_version())
        self.observe()
        self.secret.added = self.observe

    def observe(self) -> None:
        record = self.observer.read().record
        if not self.history or self.history[-1] != record:
            self.history.append(record)

    def work(self, name: str, rounds: int) -> None:
        store = store_of(Client(self.secret, getcurrent().parent.switch, self.lag))
        for _ in range(rounds):
            since = len(self.history) - 1
            found = store.read()
            assert found.record in self.history[since:], "an old record was read"
            new = grown(found.record, name)
            if self.dice.random() < 0.5:
                new = replace(new, lease=Lease(name, 60, 0.0))
            with contextlib.suppress(StaleVersion):
                while not self.wrote(store, new, found.version):
                    pass
                self.done.append(new)

    def wrote(self, store: RecordStore, record: Record, version: str | None) -> bool:
        try:
            store.write(record, if_version=version)
        except StoreUnavailable:
            return False
        return True

    def happen(self) -> None:
        """What comes from elsewhere."""
        if self.secret.late and self.dice.random() < 0.3:
            self.secret.append(self.secret.late.pop(self.dice.randrange(len(self.secret.late))))
        if self.dice.random() < self.by_hand:
            self.observer.read()
            changed = self.observer._last.token.document | {"team": str(self.dice.random())}
            self.secret.append(json.dumps(changed).encode())

    def run(self, workers: int, rounds: int) -> None:
        runnable = [greenlet(lambda name=str(number): self.work(name, rounds)) for number in range(workers)]
        while runnable:
            chosen = self.dice.choice(runnable)
            chosen.switch()
            if chosen.dead:
                runnable.remove(chosen)
            self.happen()
        self.observe()
        assert [record.generation for record in self.history] == list(range(len(self.history))), "a lost update"
        assert all(record in self.history for record in self.done), "a write that was confirmed does not count"
        assert len({record.refresh_token for record in self.done}) == len(self.done), "two won"
        assert self.done


def play_all(kind: str) -> None:
    for seed in range(150):
        setting = dict(KINDS[kind])
        workers, rounds = setting.pop("workers", 3), setting.pop("rounds", 3)
        Play(seed, **setting).run(workers, rounds)


KINDS = {
    "calm": {},
    "crowded": {"workers": 8, "rounds": 2},
    "lagging": {"lag": 4},
    "lost and late answers": {"losses": 0.3},
    "by hand": {"by_hand": 0.05},
    "all at once": {"workers": 4, "lag": 3, "losses": 0.2, "by_hand": 0.02},
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_order_nothing_is_lost_and_one_wins(kind):
    play_all(kind)


class TestPlantedBugs:
    """These orders are worth something only if they find what is wrong."""

    def found(self, kind):
        with pytest.raises(AssertionError):
            play_all(kind)

    def test_a_number_that_is_not_compared(self, monkeypatch):
        replace_head = GcpBackend.replace

        def believe(backend, fetched, text):
            return replace_head(backend, fetched, text) or backend.fetch()

        monkeypatch.setattr(GcpBackend, "replace", believe)
        monkeypatch.setattr(GcpBackend, "_tidy", lambda *_: None)
        self.found("calm")

    def test_every_version_counts(self, monkeypatch):
        monkeypatch.setattr(gcp_secret_manager, "_stamp_of", lambda *_: None)
        self.found("calm")

    def test_the_newest_by_name_is_taken_for_the_newest(self, monkeypatch):
        version, newest = Client.version, Client.newest

        def remember(client):
            client.latest = newest(client)
            return client.latest

        def not_beyond(client, number):
            return version(client, number) if number <= client.latest.number else None

        monkeypatch.setattr(Client, "newest", remember)
        monkeypatch.setattr(Client, "version", not_beyond)
        monkeypatch.setattr(GcpBackend, "_tidy", lambda *_: None)
        self.found("lagging")

    def test_what_counts_is_tidied_away(self, monkeypatch):
        tidy = GcpBackend._tidy
        monkeypatch.setattr(GcpBackend, "_tidy", lambda backend, current: tidy(backend, current + 1))
        with pytest.raises((AssertionError, StoreUnavailable)):
            play_all("lost and late answers")


def test_of_sixteen_writers_with_the_same_version_one_wins():
    secret = Secret()
    secret.append(first_version())
    stores = [store_of(Client(secret)) for _ in range(16)]
    first, *_ = [store.read() for store in stores]
    won = []
    for number, store in enumerate(stores):
        try:
            store.write(grown(first.record, str(number)), if_version=first.version)
        except StaleVersion:
            continue
        won.append(number)
    assert won == [0]
    assert store_of(Client(secret)).read().record.refresh_token == "1 by 0"


def test_a_version_that_came_too_late_is_passed_over_by_readers_and_writers():
    secret = Secret()
    secret.append(first_version())
    slow, quick = store_of(Client(secret)), store_of(Client(secret))
    slow.read()
    found = quick.read()
    version = quick.write(replace(grown(found.record, "quick"), lease=Lease("quick", 60, 0.0)), if_version=None)
    with pytest.raises(StaleVersion):
        slow.write(grown(found.record, "slow"), if_version=None)
    assert len(secret.versions) == 3
    reader = store_of(Client(secret))
    assert reader.read().record.refresh_token == "1 by quick"
    # The one who is right has to go past it, too.
    quick.write(grown(reader.read().record, "quick"), if_version=version)
    assert store_of(Client(secret)).read().record.refresh_token == "2 by quick"


def test_what_is_destroyed_while_somebody_looks_makes_nothing_count_that_came_too_late():
    secret = Secret()
    secret.append(first_version())
    slow, quick, reader = (store_of(Client(secret)) for _ in range(3))
    slow.read()
    found = quick.read()
    leased = replace(found.record, lease=Lease("quick", 60, 0.0))
    version = quick.write(leased, if_version=None)
    with pytest.raises(StaleVersion):
        slow.write(grown(found.record, "slow"), if_version=None)
    quick.read()
    look, turns = reader._backend._secret.version, []

    def after_others(number):
        if number == 2 and not turns:
            turns.append(quick.write(grown(found.record, "quick"), if_version=version))
            assert secret.versions[1:3] == [None, None]
        return look(number)

    reader._backend._secret.version = after_others
    assert reader.read().record.refresh_token == "1 by quick"
    assert turns


class TestTidying:
    def test_only_what_is_in_force_and_what_people_added_stays(self):
        secret = Secret()
        secret.append(b"text by hand")
        secret.append(first_version(team="finance"))
        for round_ in range(5):
            store = store_of(Client(secret))
            found = store.read()
            version = store.write(replace(found.record, lease=Lease("me", 60, float(round_))), if_version=found.version)
            store.write(replace(grown(found.record, "me"), lease=None), if_version=version)
        left = [number for number, data in enumerate(secret.versions, 1) if data is not None]
        assert left == [1, 2, len(secret.versions)]

    def test_a_crash_before_it_is_made_good_by_the_next_one(self):
        secret = Secret()
        secret.append(first_version())
        dying = store_of(Client(secret))
        dying._backend._tidy = lambda _: None
        for _ in range(2):
            found = dying.read()
            dying.write(grown(found.record, "dying"), if_version=found.version)
        found = store_of(Client(secret)).read()
        store_of(Client(secret)).write(grown(found.record, "next"), if_version=found.version)
        assert [data is not None for data in secret.versions] == [True, False, False, True]

    def test_a_lease_waits_for_no_tidying(self):
        secret = Secret()
        secret.append(first_version())
        store = store_of(Client(secret))
        store._backend._secret.readable = pytest.fail
        store.write(replace(store.read().record, lease=Lease("me", 60, 0.0)), if_version=None)

    def test_that_fails_fails_nothing_else(self, caplog):
        secret = Secret()
        secret.append(first_version())
        store = store_of(Client(secret))

        def refuse(_):
            raise StoreUnavailable("no right to")

        store._backend._secret.readable = refuse
        store.write(grown(store.read().record, "me"), if_version=None)
        assert store.read().record.generation == 1
        assert "'xero'" in caplog.text
        assert "no right to" in caplog.text


class TestByHand:
    def test_a_copy_without_a_change_brings_nothing_old_back(self):
        secret = Secret()
        secret.append(first_version())
        store = store_of(Client(secret))
        store._backend._tidy = lambda _: None
        for _ in range(2):
            found = store.read()
            store.write(grown(found.record, "me"), if_version=found.version)
        secret.append(secret.versions[1])
        assert store_of(Client(secret)).read().record.generation == 2

    def test_a_copy_that_begins_another_secret_counts(self):
        old, new = Secret(), Secret()
        old.append(first_version())
        store = store_of(Client(old))
        store.write(grown(store.read().record, "me"), if_version=None)
        new.append(old.versions[-1])
        moved = store_of(Client(new))
        found = moved.read()
        assert found.record.generation == 1
        moved.write(grown(found.record, "me"), if_version=found.version)
        assert store_of(Client(new)).read().record.generation == 2

    def test_what_is_entered_wins_although_it_carries_the_record(self):
        secret = Secret()
        secret.append(first_version())
        store = store_of(Client(secret))
        store.write(grown(store.read().record, "me"), if_version=None)
        secret.append(json.dumps(json.loads(secret.versions[-1]) | {"refresh_token": "entered anew"}).encode())
        store = store_of(Client(secret))
        assert store.read().record.generation == 1
        assert store.read().kept["refresh_token"] == "entered anew"


def test_what_cannot_be_told_is_an_error():
    secret = Secret()
    secret.append(first_version())
    store = store_of(Client(secret))
    found = store.read()
    store.write(grown(found.record, "me"), if_version=None)
    secret.versions[-1] = None
    with pytest.raises(StoreUnavailable, match=r"Version 2 .*disabled or destroyed"):
        store_of(Client(secret)).read()
    secret.append(b"['no JSON'")
    with pytest.raises(StoreNotWritable, match=r"Version 3 .*not a JSON object"):
        store_of(Client(secret)).read()


def test_a_number_that_is_missing_is_waited_for():
    """It may be a version that is still on its way, and counts when it arrives."""
    secret = Secret()
    secret.append(first_version())
    slow, quick = store_of(Client(secret)), store_of(Client(secret))
    slow.read()
    found = quick.read()
    quick.write(grown(found.record, "quick"), if_version=None)
    with pytest.raises(StaleVersion):
        slow.write(grown(found.record, "slow"), if_version=None)
    reader = store_of(Client(secret))
    there = reader._backend._secret.version
    reader._backend._secret.version = lambda number: None if number == 2 else there(number)
    with pytest.raises(StoreUnavailable, match="no version 2"):
        reader.read()
