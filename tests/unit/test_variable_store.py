"""The store contract on variables: by the database, and from a task of Airflow 3."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import variable
from airflow_oauth_provider.stores.sealed_record import FERNET_KEY, ConnectionKeys, seal
from airflow_oauth_provider.tokens.record import Record, TokenStore
from tests.store_contract import Place, StoreContract, record
from tests.unit.store_fakes import KEYS, database, put_in_task, server_error
from tests.unit.store_fakes import record as fake_record

NAME = "oauth2_token_record__xero"


def in_place(put) -> Place:
    return Place(
        lambda: variable.open_store("xero", KEYS, settle_time=0.5),
        spoil=put,
        compares=False,
        quick=lambda: variable.open_store("xero", KEYS, sleep=lambda _: None),
    )


class TestInATask(StoreContract):
    @pytest.fixture
    def place(self, monkeypatch) -> Place:
        supervisor = put_in_task(monkeypatch)
        return in_place(lambda text: supervisor.variables.update({NAME: text}))


class TestOnTheDatabase(StoreContract):
    @pytest.fixture
    def place(self, monkeypatch, tmp_path):
        with database(tmp_path, monkeypatch):
            place = in_place(None)
            place.compares = True
            yield place


# ---------------------------------------------------------------------------------------------- who has written it


@pytest.fixture
def supervisor(monkeypatch):
    return put_in_task(monkeypatch)


def open_store(*names: str):
    return variable.open_store("xero", ConnectionKeys(tuple((name, f"the {name}") for name in names)))


PLANTED = Record(
    generation=10**6,
    access_token="planted-access",
    refresh_token="planted-refresh",
    issued_at=1.9e9,
    expires_in=3600.0,
    response_parameters={"instance_url": "https://evil.example", "api_domain": "https://evil.example"},
)


@pytest.mark.parametrize("names", [["client_secret"], ["refresh_token"], ["private_key", FERNET_KEY]])
def test_a_record_in_clear_is_refused_where_the_connection_can_seal(supervisor, names):
    for text in (PLANTED.to_json(), json.dumps(json.loads(PLANTED.to_json()) | {"keys": {}, "record": "x"})):
        supervisor.variables[NAME] = text
        with pytest.raises(StoreNotWritable, match="in clear, although") as caught:
            open_store(*names).read()
        assert "planted" not in str(caught.value)
        assert supervisor.variables[NAME] == text


@pytest.mark.parametrize("names", [[], [FERNET_KEY]])
def test_where_nobody_can_tell_who_wrote_it_a_record_names_no_host(supervisor, names):
    """The command line writes in clear for a public client, since tasks may not have Airflow's key."""
    supervisor.variables[NAME] = PLANTED.to_json()
    found = open_store(*names).read().record
    assert found.response_parameters == {}
    assert found.refresh_token == "planted-refresh"


def test_what_airflows_key_has_sealed_names_its_host(supervisor):
    store = variable.open_store("xero", ConnectionKeys(((FERNET_KEY, "the key"),)), sleep=lambda _: None)
    store.write(record(1), if_version=None)
    again = variable.open_store("xero", ConnectionKeys(((FERNET_KEY, "the key"),)))
    assert again.read().record == record(1)
    assert again.sealed_with == (FERNET_KEY,)


@pytest.mark.parametrize("changed", ["keys", "record", "both"])
def test_the_clear_part_of_a_sealed_record_changes_nothing_but_what_it_is_for(supervisor, changed):
    """Somebody who may edit variables, but has none of the secrets, writes an envelope of his own."""
    store = variable.open_store("xero", KEYS, sleep=lambda _: None)
    store.write(record(1), if_version=None)
    envelope = json.loads(supervisor.variables[NAME])
    envelope |= {"response_parameters": PLANTED.response_parameters, "access_token": "planted", "generation": 10**6}
    supervisor.variables[NAME] = json.dumps(envelope)
    assert variable.open_store("xero", KEYS).read().record == record(1)
    other = ConnectionKeys((("client_secret", "another"),))
    foreign = variable.open_store("xero", other, sleep=lambda _: None)
    supervisor.variables.pop(NAME)
    foreign.write(PLANTED, if_version=None)
    theirs = json.loads(supervisor.variables[NAME])
    parts = ["keys", "record"] if changed == "both" else [changed]
    supervisor.variables[NAME] = json.dumps(envelope | {part: theirs[part] for part in parts})
    with pytest.raises(StoreNotWritable) as caught:
        variable.open_store("xero", KEYS).read()
    assert "planted" not in str(caught.value)


# --------------------------------------------------------------------------------------------- first use by many


@pytest.mark.parametrize("with_keys", [True, False], ids=["3.3", "3.0 to 3.2"])
def test_many_tasks_that_use_a_connection_for_the_first_time(supervisor, monkeypatch, with_keys):
    """A task that reads "not found" finds a variable that another one has just set: nobody fails for that."""
    from airflow.sdk.execution_time import comms as messages

    if not with_keys:
        monkeypatch.delattr(messages, "GetVariableKeys")
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def task(number: int) -> None:
        store = variable.open_store("xero", KEYS, settle_time=0.3)
        try:
            barrier.wait(30)
            found = store.read()
            store.write(record(0, owner=f"task {number}"), if_version=found.version)
            outcomes.append("won")
        except StaleVersion:
            outcomes.append("waits")
        except BaseException as failure:  # noqa: BLE001
            outcomes.append(repr(failure))

    threads = [threading.Thread(target=task, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes.count("won") <= 1
    assert set(outcomes) <= {"won", "waits"}


# ------------------------------------------------------------------------------------- in a variable, from a task


def _store(*during_sleep: Callable[[], None]) -> TokenStore:
    pending = list(during_sleep)
    return variable.open_store("xero", KEYS, settle_time=4.0, sleep=lambda _: pending.pop(0)() if pending else None)


def test_a_lease_and_a_result_in_a_variable(supervisor):
    store = _store()
    assert store.read().record is None
    version = store.write(fake_record(1, owner="me"), if_version=None)
    assert store.read().record == fake_record(1, owner="me")
    store.write(fake_record(2), if_version=version)
    assert store.read().record == fake_record(2)
    assert list(supervisor.variables) == ["oauth2_token_record__xero"]


def test_of_two_workers_the_last_to_write_gets_the_lease(supervisor):
    second = _store()
    outcome: list[str] = []
    # The second worker had read before the first wrote, and writes while the first waits.

    def overtake() -> None:
        supervisor.variables[NAME] = seal(fake_record(1, owner="second"), KEYS, "xero")

    with pytest.raises(StaleVersion):
        outcome.append(_store(overtake).write(fake_record(1, owner="first"), if_version=None))
    assert outcome == []
    assert second.read().record == fake_record(1, owner="second")


def test_an_error_of_the_api_is_not_an_empty_store(supervisor):
    store = _store()
    supervisor.fail = lambda message: server_error() if type(message).__name__ == "GetVariable" else None
    with pytest.raises(StoreUnavailable):
        store.read()
    with pytest.raises(StoreUnavailable):
        store.write(fake_record(1, owner="me"), if_version=None)
    assert supervisor.variables == {}


def test_a_variable_of_the_api_servers_environment_is_noticed(supervisor):
    supervisor.shadows["oauth2_token_record__xero"] = seal(fake_record(1), KEYS, "xero")
    store = _store()
    with pytest.raises(StoreNotWritable, match="API server"):
        store.write(fake_record(1, owner="me"), if_version=store.read().version)


def test_a_variable_of_the_tasks_environment_is_noticed(supervisor, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_OAUTH2_TOKEN_RECORD__XERO", "fixed")
    with pytest.raises(StoreNotWritable, match="AIRFLOW_VAR_OAUTH2_TOKEN_RECORD__XERO"):
        _store().write(fake_record(1, owner="me"), if_version=None)
    assert supervisor.variables == {}


def test_the_tokens_are_masked_before_they_are_written(supervisor):
    _store().write(fake_record(1, owner="me"), if_version=None)
    first_write = next(n for n, message in enumerate(supervisor.log) if type(message).__name__ == "PutVariable")
    told = {message.value for message in supervisor.log[:first_write] if type(message).__name__ == "MaskSecret"}
    assert {"access-secret-1", "refresh-secret-1"} <= told


def test_connection_ids_never_share_a_variable(supervisor):
    ids = ["a", "a#b", "a/b", "a=23b", "x" * 400, "x" * 401]
    for number, conn_id in enumerate(ids):
        variable.open_store(conn_id, KEYS, sleep=lambda _: None).write(fake_record(number), if_version=None)
    assert [variable.open_store(conn_id, KEYS).read().record.generation for conn_id in ids] == list(range(len(ids)))
    assert max(len(key) for key in supervisor.variables) <= 250
    assert not any(set(key) & set("#/?%") for key in supervisor.variables)
