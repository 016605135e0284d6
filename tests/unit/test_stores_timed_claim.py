"""Taking a lease where a store can only be read and written: every way in which two workers can meet."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import timed_claim
from airflow_oauth_provider.stores.variable import VariableStore
from tests.unit.store_fakes import KEYS, Supervisor, put_in_task, record, server_error

DELAY = 4.0


class Scene:
    """A store, a clock, and what happens at given moments."""

    def __init__(self, held: str | None = "old") -> None:
        self.held = held
        self.now = 0.0
        self.slept: list[float] = []
        self.during_sleep: list[Callable[[], None]] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self.during_sleep:
            self.during_sleep.pop(0)()

    def write(self, version: str, takes: float = 0.0) -> None:
        self.now += takes
        self.held = version

    def swap(self, new: str, *, leased: bool = True, if_version: str | None = "old", write_takes: float = 0.0) -> str:
        return timed_claim.swap(
            read_version=lambda: self.held,
            write=lambda: self.write(new, write_takes),
            new_version=new,
            if_version=if_version,
            leased=leased,
            delay=DELAY,
            sleep=self.sleep,
            clock=lambda: self.now,
        )


def test_a_claim_waits_and_looks_again():
    scene = Scene()
    assert scene.swap("mine") == "mine"
    assert len(scene.slept) == 1
    assert DELAY <= scene.slept[0] <= DELAY * 1.25


def test_a_write_without_lease_does_not_wait():
    scene = Scene()
    assert scene.swap("mine", leased=False) == "mine"
    assert scene.slept == []


@pytest.mark.parametrize("leased", [True, False])
def test_another_version_is_not_replaced(leased):
    scene = Scene("other")
    with pytest.raises(StaleVersion):
        scene.swap("mine", leased=leased)
    assert scene.held == "other"


def test_a_write_without_lease_whose_answer_was_lost_may_be_repeated():
    scene = Scene("mine")
    assert scene.swap("mine", leased=False) == "mine"


def test_who_is_overwritten_while_waiting_gives_up():
    scene = Scene()
    scene.during_sleep = [lambda: scene.write("rival")]
    with pytest.raises(StaleVersion):
        scene.swap("mine")
    assert scene.held == "rival"


def test_a_slow_write_is_no_claim_and_stays_to_keep_others_away():
    scene = Scene()
    with pytest.raises(StaleVersion, match="too slow"):
        scene.swap("mine", write_takes=DELAY * 0.6)
    assert scene.held == "mine"


def test_what_is_written_but_never_seen_is_not_a_store():
    scene = Scene()
    scene.during_sleep = [lambda: scene.write("old"), lambda: None]
    with pytest.raises(StoreNotWritable, match="environment variable or a secrets backend"):
        scene.swap("mine")


def test_a_store_that_is_slow_to_show_a_write_gets_a_second_look():
    scene = Scene()
    scene.during_sleep = [lambda: scene.write("old"), lambda: scene.write("mine")]
    assert scene.swap("mine") == "mine"


class Race:
    """Two workers in the real code, on a clock of their own: each step happens at the moment that the test gives it."""

    def __init__(self) -> None:
        self.held = "old"
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
        now = start

        def step(takes: float = 0.0) -> None:
            nonlocal now
            now += takes
            self._at(worker, now)

        def read() -> str:
            step()
            return self.held

        def write() -> None:
            step(write_takes)
            self.held = worker

        try:
            timed_claim.swap(
                read_version=read, write=write, new_version=worker, if_version="old", leased=True,
                delay=DELAY, sleep=step, clock=lambda: now,
            )  # fmt: skip
            self.won.append(worker)
        except StaleVersion:
            pass
        with self.ready:
            del self.due[worker]
            self.ready.notify_all()


def test_two_never_have_the_lease_whatever_the_timing(monkeypatch):
    monkeypatch.setattr(timed_claim, "JITTER", 0)
    moments = [0.0, 0.7, 1.9, 2.1, 3.9, 4.3, 9.1]
    one_won = 0
    for a_takes, b_start, b_takes in itertools.product(moments, moments, moments):
        won = Race().run({"a": (0.0, a_takes), "b": (b_start + 0.01, b_takes + 0.001)})
        assert len(won) < 2, (a_takes, b_start, b_takes)
        one_won += len(won)
    assert one_won > 50, "there is progress too"


# ------------------------------------------------------------------------------ in a variable, from a task


@pytest.fixture
def supervisor(monkeypatch) -> Supervisor:
    return put_in_task(monkeypatch)


def _store(*during_sleep: Callable[[], None]) -> VariableStore:
    pending = list(during_sleep)
    return VariableStore("xero", KEYS, claim_delay=DELAY, sleep=lambda _: pending.pop(0)() if pending else None)


def test_a_variable_is_claimed_and_written(supervisor):
    store = _store()
    assert store.read().record is None
    version = store.write(record(1, owner="me"), if_version=None)
    assert store.read().record == record(1, owner="me")
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)
    assert list(supervisor.variables) == ["oauth2_token_record__xero"]


def test_of_two_workers_the_last_to_write_gets_the_lease(supervisor):
    second = _store()
    outcome: list[str] = []
    # The second worker had read before the first wrote, and writes while the first waits.
    overtake = lambda: supervisor.variables.update({"oauth2_token_record__xero": record(1, owner="second").to_json()})  # noqa: E731
    with pytest.raises(StaleVersion):
        outcome.append(_store(overtake).write(record(1, owner="first"), if_version=None))
    assert outcome == []
    assert second.read().record == record(1, owner="second")


def test_an_error_of_the_api_is_not_an_empty_store(supervisor):
    store = _store()
    supervisor.fail = lambda message: server_error() if type(message).__name__ == "GetVariable" else None
    with pytest.raises(StoreUnavailable):
        store.read()
    with pytest.raises(StoreUnavailable):
        store.write(record(1, owner="me"), if_version=None)
    assert supervisor.variables == {}


def test_a_variable_of_the_api_servers_environment_is_noticed(supervisor):
    supervisor.shadows["oauth2_token_record__xero"] = record(1).to_json()
    store = _store()
    with pytest.raises(StoreNotWritable, match="API server"):
        store.write(record(1, owner="me"), if_version=store.read().version)


def test_a_variable_of_the_tasks_environment_is_noticed(supervisor, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_OAUTH2_TOKEN_RECORD__XERO", "fixed")
    with pytest.raises(StoreNotWritable, match="AIRFLOW_VAR_OAUTH2_TOKEN_RECORD__XERO"):
        _store().write(record(1, owner="me"), if_version=None)
    assert supervisor.variables == {}


def test_the_tokens_are_masked_before_they_are_written(supervisor):
    _store().write(record(1, owner="me"), if_version=None)
    first_write = next(n for n, message in enumerate(supervisor.log) if type(message).__name__ == "PutVariable")
    told = {message.value for message in supervisor.log[:first_write] if type(message).__name__ == "MaskSecret"}
    assert {"access-secret-1", "refresh-secret-1"} <= told


def test_connection_ids_never_share_a_variable(supervisor):
    ids = ["a", "a#b", "a/b", "a=23b", "x" * 400, "x" * 401]
    for number, conn_id in enumerate(ids):
        VariableStore(conn_id, KEYS, sleep=lambda _: None).write(record(number), if_version=None)
    assert [VariableStore(conn_id, KEYS).read().record.generation for conn_id in ids] == list(range(len(ids)))
    assert max(len(key) for key in supervisor.variables) <= 250
    assert not any(set(key) & set("#/?%") for key in supervisor.variables)
