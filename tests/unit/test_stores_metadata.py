"""Compare-and-set in the metadata database, here SQLite, which has no row locks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models import crypto
from cryptography.fernet import Fernet

from airflow_oauth_provider.compat import database as metadata
from airflow_oauth_provider.compat import masking, variables
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import variable
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.connection import RowBackend
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.tokens.record import Record
from tests.unit.store_fakes import KEYS, Database, database, record

EXTRA = '{ "oauth_url": "https://as/token",  "expires_in": 1.50, "refresh_token": "typed-secret" }'


def _row_store(conn_id: str) -> RecordStore:
    return RecordStore(RowBackend(conn_id))


@pytest.fixture
def airflow(tmp_path, monkeypatch):
    with database(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(params=["connection", "variable"])
def store(request, airflow: Database) -> Any:
    if request.param == "variable":
        return variable.open_store("xero", KEYS)
    airflow.add_connection("xero", EXTRA)
    return _row_store("xero")


def test_the_first_read_finds_nothing(store):
    assert store.read().record is None
    assert store.read().version is None


def test_what_was_written_is_read(store):
    version = store.write(record(1, owner="me"), if_version=None)
    assert store.read().record == record(1, owner="me")
    assert store.read().version == version
    second = store.write(record(2), if_version=version)
    assert store.read() == type(store.read())(record(2), second)


@pytest.mark.parametrize("wrong", [None, "0" * 64])
def test_another_version_is_not_replaced(store, wrong):
    version = store.write(record(1), if_version=None)
    with pytest.raises(StaleVersion):
        store.write(record(2), if_version=wrong)
    assert store.read().version == version


def test_only_connections_of_the_type_that_is_asked_for_are_written(airflow):
    airflow.add_connection("xero", EXTRA)
    for wrong in ({"conn_type": "http"}, {"key": "k" * 43}):
        with pytest.raises(metadata.WrongKey):
            metadata.swap_record("xero", record(1).to_json(), None, **wrong)
    assert metadata.read_extra("xero") == EXTRA
    metadata.swap_record("xero", record(1).to_json(), None, conn_type="oauth2")
    assert metadata.read_extra("xero") != EXTRA


def test_a_version_where_there_is_no_record_is_stale(store):
    with pytest.raises(StaleVersion):
        store.write(record(1), if_version="0" * 64)
    assert store.read().record is None


def test_a_write_whose_answer_was_lost_may_be_repeated(store):
    first = store.write(record(1), if_version=None)
    second = store.write(record(2), if_version=first)
    assert store.write(record(2), if_version=first) == second


def test_of_many_writers_one_wins_each_round(store):
    version, outcomes = None, []
    for round_number in range(4):
        barrier = threading.Barrier(8)

        def write(number: int, expected: str | None = version, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                outcomes.append(store.write(record(1, owner=f"{round_number}-{number}"), if_version=expected))  # noqa: B023
            except StaleVersion:
                outcomes.append(None)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [outcome for outcome in outcomes if outcome]
        assert len(outcomes) == 8
        assert len(won) == 1
        version = store.read().version
        assert won == [version]
        outcomes.clear()


def test_the_database_holds_no_plain_text(store, airflow, tmp_path):
    store.write(record(1), if_version=None)
    assert b"secret-1" not in (tmp_path / "airflow.db").read_bytes()


def test_a_database_that_fails_is_unavailable_and_quotes_nothing(store, airflow, monkeypatch):
    version = store.write(record(1), if_version=None)
    with airflow.engine.begin() as transaction:
        transaction.exec_driver_sql("DROP TABLE connection")
        transaction.exec_driver_sql("DROP TABLE variable")
    for call in (store.read, lambda: store.write(record(2), if_version=version)):
        with pytest.raises(StoreUnavailable) as failure:
            call()
        assert "secret" not in str(failure.value)


def test_a_value_of_another_fernet_key_is_not_taken_for_absence(store, monkeypatch):
    store.write(record(1), if_version=None)
    other = type(metadata.get_fernet())(Fernet.generate_key())
    monkeypatch.setattr(metadata, "get_fernet", lambda: other)
    with pytest.raises(StoreUnavailable, match="Fernet"):
        store.read()


def test_a_process_without_a_key_does_not_take_the_cipher_text_for_the_value(store, monkeypatch):
    store.write(record(1), if_version=None)
    monkeypatch.setattr(metadata, "get_fernet", lambda: crypto._NullFernet())
    with pytest.raises(StoreUnavailable, match="Fernet"):
        store.read()


def test_a_process_without_database_is_told_so(monkeypatch):
    from airflow import settings

    monkeypatch.setattr(settings, "engine", None)
    with pytest.raises(StoreUnavailable, match="no access"):
        variable.open_store("xero", KEYS).read()


# -------------------------------------------------------------------------------------- only in connections


@pytest.fixture
def connection_store(airflow) -> RecordStore:
    airflow.add_connection("xero", EXTRA)
    return _row_store("xero")


def test_the_rest_of_extra_stays_character_for_character(connection_store, airflow):
    version = connection_store.write(record(1), if_version=None)
    connection_store.write(record(2), if_version=version)
    kept, _, added = (airflow.extra("xero") or "").partition(', "token_record": ')
    assert kept == EXTRA.removesuffix(" }")
    assert json.loads(added.removesuffix(" }")) == record(2).to_json()


def test_a_connection_without_extra_gets_one(airflow):
    airflow.add_connection("bare", None)
    _row_store("bare").write(record(1), if_version=None)
    assert json.loads(airflow.extra("bare")) == {"token_record": record(1).to_json()}


@pytest.mark.parametrize("extra", ["not json typed-secret", "[]"])
def test_an_extra_that_is_no_object_is_refused(airflow, extra):
    airflow.add_connection("odd", extra)
    for call in (_row_store("odd").read, lambda: _row_store("odd").write(record(1), if_version=None)):
        with pytest.raises(StoreNotWritable, match="odd") as failure:
            call()
        assert "secret" not in str(failure.value)


def _between_read_and_write(monkeypatch, action: Callable[[], None], times: int = 1) -> None:
    """Run ``action`` after the row was read and before it is replaced."""
    real, left = metadata._replace_extra, [times]

    def replace(transaction: Any, *arguments: Any) -> bool:
        if left[0] > 0:
            left[0] -= 1
            action()
        return real(transaction, *arguments)

    monkeypatch.setattr(metadata, "_replace_extra", replace)


def test_a_change_of_another_field_at_the_same_moment_is_kept(connection_store, airflow, monkeypatch):
    """No row lock on SQLite: only the UPDATE that names what it replaces notices."""
    edited = EXTRA.replace("1.50", "2.75")
    _between_read_and_write(monkeypatch, lambda: airflow.set_extra("xero", edited))
    connection_store.write(record(1), if_version=None)
    assert json.loads(airflow.extra("xero"))["expires_in"] == 2.75
    assert connection_store.read().record == record(1)


def test_a_record_written_at_the_same_moment_is_kept(connection_store, airflow, monkeypatch):
    rival = _row_store("xero")
    _between_read_and_write(monkeypatch, lambda: rival.write(record(1, owner="rival"), if_version=None))
    with pytest.raises(StaleVersion):
        connection_store.write(record(1, owner="me"), if_version=None)
    assert connection_store.read().record == record(1, owner="rival")


def test_a_row_that_never_rests_is_unavailable_not_overwritten(connection_store, airflow, monkeypatch):
    def edit() -> None:
        airflow.set_extra("xero", airflow.extra("xero") + " ")

    _between_read_and_write(monkeypatch, edit, times=1000)
    with pytest.raises(StoreUnavailable, match="all the time"):
        connection_store.write(record(1), if_version=None)


def test_a_row_edited_by_a_person_does_not_make_the_version_stale(connection_store, airflow):
    version = connection_store.write(record(1), if_version=None)
    airflow.set_extra("xero", json.dumps(json.loads(airflow.extra("xero")) | {"scope": "new"}))
    connection_store.write(record(2), if_version=version)
    assert json.loads(airflow.extra("xero"))["scope"] == "new"


def test_a_connection_just_read_saves_one_read_and_only_one(connection_store, airflow, monkeypatch):
    connection_store.write(record(1), if_version=None)

    class JustRead:
        extra = airflow.extra("xero")

    reads = []
    real = metadata.read_extra
    monkeypatch.setattr(metadata, "read_extra", lambda conn_id: reads.append(conn_id) or real(conn_id))
    store = RecordStore(RowBackend("xero", FoundConnection(JustRead())))
    assert store.read().record == record(1)
    assert reads == []
    assert store.read().record == record(1)
    assert reads == ["xero"]


def test_a_connection_of_the_environment_cannot_be_written_and_says_what_can(airflow, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ENV_ONLY", "oauth2://host")
    store = open_store("env_only", StoreOptions("connection"))
    assert store.read().record is None
    with pytest.raises(StoreNotWritable, match=r"AIRFLOW_CONN_ENV_ONLY.*'variable' or 'vault'"):
        store.write(record(1, owner="me"), if_version=None)


def test_a_row_hidden_by_the_environment_is_noticed_before_anything_is_spent(connection_store, airflow, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_XERO", "oauth2://host")
    with pytest.raises(StoreNotWritable, match="AIRFLOW_CONN_XERO"):
        open_store("xero", StoreOptions("connection")).write(record(1, owner="me"), if_version=None)
    assert airflow.extra("xero") == EXTRA


# ----------------------------------------------------------------------------------------- only in variables


def test_plain_writes_and_deletes_of_variables(airflow):
    assert variables.read_variable("a") is None
    variables.write_variable("a", "one", "for a test")
    variables.write_variable("a", "two", "for a test")
    assert variables.read_variable("a") == "two"
    variables.delete_variable("a")
    variables.delete_variable("a")
    assert variables.read_variable("a") is None


def test_a_foreign_value_in_the_variable_is_not_taken_for_absence(airflow):
    variables.write_variable("oauth2_token_record__xero", "refresh-secret", "somebody else's")
    with pytest.raises(StoreNotWritable, match="oauth2_token_record__xero") as failure:
        variable.open_store("xero", KEYS).read()
    assert "secret" not in str(failure.value)


def test_tokens_are_masked_when_read(store, monkeypatch):
    masked: list[str | None] = []
    store.write(record(1), if_version=None)
    monkeypatch.setattr(masking, "mask_secret", masked.append)
    assert isinstance(store.read().record, Record)
    assert list(dict.fromkeys(masked)) == ["access-secret-1", "refresh-secret-1"]
