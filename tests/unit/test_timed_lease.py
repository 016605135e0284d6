"""Taking a lease where a place can only be read and written: every way in which two workers can meet."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable

import pytest

from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import record_store
from airflow_oauth_provider.stores.backend import Fetched
from airflow_oauth_provider.stores.record_store import TimedLeaseStore
from tests.unit.store_fakes import record

SETTLE = 4.0
OLD, MINE, RIVAL = record(1), record(1, owner="me"), record(1, owner="rival")


def version(of) -> str | None:
    return version_of(of.to_json())


class Scene:
    """A place, a clock, and what happens at given moments."""

    name, where, record_where = "scene", "the scene", "the scene"

    def __init__(self, held=OLD) -> None:
        self.text = held and held.to_json()
        self.now = 0.0
        self.slept: list[float] = []
        self.during_sleep: list[Callable[[], None]] = []
        self.read_takes: list[float] = []
        self.write_takes = 0.0
        self.puts = 0
        self.lost = False
        self.failing: list[bool] = []

    def fetch(self) -> Fetched:
        if self.failing and self.failing.pop(0):
            raise StoreUnavailable("no answer")
        self.now += self.read_takes.pop(0) if self.read_takes else 0.0
        return Fetched(self.text)

    def put(self, fetched: Fetched, text: str) -> None:
        self.now += self.write_takes
        self.puts += 1
        self.text = text
        if self.lost:
            raise StoreUnavailable("the answer is lost")

    def hold(self, held) -> None:
        self.text = held.to_json()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self.during_sleep:
            self.during_sleep.pop(0)()

    def store(self) -> TimedLeaseStore:
        return TimedLeaseStore(self, settle_time=SETTLE, sleep=self.sleep, clock=lambda: self.now)

    def write(self, new=MINE, if_version=OLD) -> str:
        return self.store().write(new, if_version=if_version and version(if_version))

    @property
    def held(self) -> str | None:
        return version_of(self.text)


def test_a_lease_waits_and_looks_again():
    scene = Scene()
    assert scene.write() == version(MINE)
    assert len(scene.slept) == 1
    assert SETTLE <= scene.slept[0] <= SETTLE * 1.25


def test_a_write_without_lease_does_not_wait():
    scene = Scene()
    assert scene.write(record(2)) == version(record(2))
    assert scene.slept == []


@pytest.mark.parametrize("new", [MINE, record(2)])
def test_another_version_is_not_replaced(new):
    scene = Scene(RIVAL)
    with pytest.raises(StaleVersion):
        scene.write(new)
    assert scene.held == version(RIVAL)


def test_a_write_without_lease_whose_answer_was_lost_may_be_repeated():
    scene = Scene(record(2))
    assert scene.write(record(2)) == version(record(2))
    assert scene.puts == 0


def test_writing_the_same_again_does_write():
    scene = Scene()
    assert scene.write(OLD) == version(OLD)
    assert scene.puts == 1, "so that the doctor finds out whether it can be written"


def test_who_is_overwritten_while_waiting_gives_up():
    scene = Scene()
    scene.during_sleep = [lambda: scene.hold(RIVAL)]
    with pytest.raises(StaleVersion):
        scene.write()
    assert scene.held == version(RIVAL)


def test_a_slow_write_is_no_lease_and_stays_to_keep_others_away(caplog):
    scene = Scene()
    scene.write_takes = SETTLE * 0.9
    with pytest.raises(StaleVersion, match="too slow"):
        scene.write()
    assert scene.held == version(MINE)
    assert "Nothing was sent" in caplog.text


@pytest.mark.parametrize("takes", [1.7, 3.0])
def test_a_write_that_others_cannot_have_overtaken_is_a_lease(takes):
    """Another worker would have had to write, wait for the whole settle time and read in between."""
    scene = Scene()
    scene.write_takes = takes
    assert scene.write() == version(MINE)


@pytest.mark.parametrize("reads", [[5.0], [5.0, 3.9]])
def test_a_slow_read_costs_another_read_and_nothing_else(reads):
    scene = Scene()
    scene.read_takes = [*reads, 0.1]
    scene.write_takes = 1.7
    assert scene.write() == version(MINE)


@pytest.mark.parametrize("number", range(6))
def test_versions_have_no_order(number):
    """They are hashes: each comparison has to hold whichever is the greater."""
    mine, rival = record(1, owner=f"me {number}"), record(1, owner=f"rival {number}")
    for new in (mine, record(2)):
        scene = Scene(rival)
        with pytest.raises(StaleVersion):
            scene.write(new)
        assert scene.held == version(rival)
    scene = Scene(mine)
    scene.during_sleep = [lambda: scene.hold(rival)]
    store = scene.store()
    with pytest.raises(StaleVersion):
        store.write(mine, if_version=version(OLD))
    with pytest.raises(StaleVersion, match="too slow"):
        Scene(mine).write(mine)  # written by somebody else, who knows how long it took?
    scene = Scene()
    scene.during_sleep = [lambda: scene.hold(rival)]
    with pytest.raises(StaleVersion, match="at the same time"):
        scene.write(mine)
    assert (scene.held, len(scene.slept)) == (version(rival), 1)
    assert Scene(rival).write(mine, if_version=rival) == version(mine)


@pytest.mark.parametrize(("took", "reads"), [(1.0, 2), (1.1, 3)])
def test_a_read_is_slow_from_a_quarter_of_the_settle_time_on(took, reads):
    scene = Scene()
    scene.read_takes = [took, 0.1, 0.1, 0.1]
    assert scene.write() == version(MINE)
    assert 4 - len(scene.read_takes) == reads  # the last one is the look after the lease has settled


@pytest.mark.parametrize("took", [3.2, 3.3])
def test_a_write_is_slow_from_four_fifths_of_it_on(took):
    scene = Scene()
    scene.write_takes = took
    if took == 3.2:
        assert scene.write() == version(MINE)
    else:
        with pytest.raises(StaleVersion, match="too slow"):
            scene.write()


def test_workers_that_start_together_are_spread_over_a_quarter_of_it(monkeypatch):
    for choose, slept in ((min, 4.0), (max, 5.0)):
        monkeypatch.setattr(record_store.random, "uniform", lambda low, high, choose=choose: choose(low, high))
        scene = Scene()
        scene.write()
        assert scene.slept == [slept]


def test_reads_that_stay_slow_are_no_endless_loop(caplog):
    scene = Scene()
    scene.read_takes = [5.0] * 3
    with pytest.raises(StaleVersion):
        scene.write()
    assert scene.read_takes == []


def test_what_is_written_but_never_seen_is_not_a_store():
    scene = Scene()
    scene.during_sleep = [lambda: scene.hold(OLD), lambda: None]
    with pytest.raises(StoreNotWritable, match="environment variable or a secrets backend"):
        scene.write()
    assert len(scene.slept) == 2


def test_a_place_that_is_slow_to_show_a_write_gets_a_second_look():
    scene = Scene()
    scene.during_sleep = [lambda: scene.hold(OLD), lambda: scene.hold(MINE)]
    assert scene.write() == version(MINE)


def test_a_lease_whose_answer_was_lost_has_to_settle_all_the_same():
    """Taken at once, a rival that wrote a moment later would be overlooked."""
    scene = Scene()
    scene.lost = True
    assert scene.write() == version(MINE)
    assert len(scene.slept) == 1
    scene = Scene()
    scene.lost = True
    scene.during_sleep = [lambda: scene.hold(RIVAL)]
    with pytest.raises(StaleVersion):
        scene.write()


def test_a_write_that_failed_is_said_and_not_taken_for_a_lease():
    scene = Scene()
    scene.lost = True
    scene.during_sleep = [lambda: scene.hold(OLD)] * 2
    with pytest.raises(StoreUnavailable, match="lost"):
        scene.write()


@pytest.mark.parametrize("took", [0.1, SETTLE])
def test_a_lease_that_could_not_be_read_back_settles_at_the_next_call(took):
    """The caller calls again with what it read; that the first write was slow is not forgotten."""
    scene = Scene()
    store = scene.store()
    scene.write_takes = took
    scene.failing = [False, True]
    with pytest.raises(StoreUnavailable):
        store.write(MINE, if_version=version(OLD))
    again = lambda: store.write(MINE, if_version=store.read().version)  # noqa: E731
    if took < SETTLE:
        assert again() == version(MINE)
    else:
        with pytest.raises(StaleVersion):
            again()
    assert scene.puts == 1


class Race:
    """Two workers in the real code, on a clock of their own: each step happens at the moment that the test gives it."""

    name, where, record_where = "race", "the race", "the race"

    def __init__(self) -> None:
        self.text: str | None = OLD.to_json()
        self.ready = threading.Condition()
        self.due: dict[str, float] = {}
        self.won: list[str] = []

    def run(self, plans: dict[str, tuple[float, float]]) -> list[str]:
        """Let each worker read at a moment and write so much later; gives who believes to have the lease."""
        self.due = {worker: start for worker, (start, _) in plans.items()}
        threads = [threading.Thread(target=self._work, args=(worker, *plan)) for worker, plan in plans.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.won

    def _at(self, worker: str, moment: float) -> None:
        """Wait until it is this worker's turn: nobody else has anything to do earlier."""
        with self.ready:
            self.due[worker] = moment
            self.ready.notify_all()
            self.ready.wait_for(lambda: (moment, worker) == min((due, name) for name, due in self.due.items()))

    def _work(self, worker: str, start: float, write_takes: float) -> None:
        race, now = self, start

        def step(takes: float = 0.0) -> None:
            nonlocal now
            now += takes
            race._at(worker, now)

        class Place:
            name, where, record_where = race.name, race.where, race.record_where

            def fetch(self) -> Fetched:
                step()
                return Fetched(race.text)

            def put(self, fetched: Fetched, text: str) -> None:
                step(write_takes)
                race.text = text

        store = TimedLeaseStore(Place(), settle_time=SETTLE, sleep=step, clock=lambda: now)
        try:
            store.write(record(1, owner=worker), if_version=version(OLD))
            self.won.append(worker)
        except StaleVersion:
            pass
        with self.ready:
            del self.due[worker]
            self.ready.notify_all()


def test_two_never_have_the_lease_whatever_the_timing(monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(record_store, "JITTER", 0)
    moments = [0.0, 0.7, 1.9, 2.1, 3.1, 3.9, 4.3, 9.1]
    one_won = 0
    for a_takes, b_start, b_takes in itertools.product(moments, moments, moments):
        won = Race().run({"a": (0.0, a_takes), "b": (b_start + 0.01, b_takes + 0.001)})
        assert len(won) < 2, (a_takes, b_start, b_takes)
        one_won += len(won)
    assert one_won > 50, "there is progress too"


def test_the_race_finds_a_lease_that_counts_although_its_write_was_slow(monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(record_store, "JITTER", 0)
    monkeypatch.setattr(record_store, "SAFE_PART", 10.0)
    assert len(Race().run({"a": (0.0, 9.1), "b": (0.01, 0.7)})) == 2


def test_the_race_finds_a_lease_that_does_not_settle(monkeypatch):
    monkeypatch.setattr(TimedLeaseStore, "_check_settled", lambda *_: None)
    assert len(Race().run({"a": (0.0, 0.7), "b": (0.01, 1.9)})) == 2
