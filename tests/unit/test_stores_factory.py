"""Which store a connection gets: the same one in every worker, and its record comes along."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms as messages

from airflow_oauth_provider.compat import connections, variables, versions
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreUnavailable
from airflow_oauth_provider.stores import factory
from airflow_oauth_provider.stores.adopting import AdoptingStore
from airflow_oauth_provider.stores.connection_orm import OrmConnectionStore
from airflow_oauth_provider.stores.factory import open_fallback, open_store
from airflow_oauth_provider.stores.variable import VariableStore
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord
from tests.unit.store_fakes import KEYS, Database, Supervisor, database, put_in_task, record, server_error

NOT_FOUND = messages.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail={})


@pytest.fixture(autouse=True)
def nothing_remembered():
    factory._api_defined.clear()
    yield
    factory._api_defined.clear()


@pytest.fixture
def supervisor(monkeypatch) -> Supervisor:
    comms = put_in_task(monkeypatch)
    comms.connections["xero"] = {"conn_type": "oauth2"}
    return comms


def _auto() -> str:
    return open_store("xero", kind="auto", connection=connections.get_connection("xero")).name


def test_a_task_uses_the_connection_where_the_api_is_defined(supervisor):
    supervisor.connections["airflow_api"] = {"conn_type": "http", "host": "api"}
    assert _auto() == "connection"


def test_a_task_uses_a_variable_where_it_is_not(supervisor):
    assert _auto() == "variable"


def test_another_id_for_the_api_can_be_given(supervisor):
    supervisor.connections["my_api"] = {"conn_type": "http", "host": "api"}
    assert open_store("xero", kind="auto", connection=None, api_conn_id="my_api").name == "connection"


def test_a_connection_of_the_environment_has_a_variable_even_where_the_api_is_defined(supervisor, monkeypatch):
    supervisor.connections["airflow_api"] = {"conn_type": "http", "host": "api"}
    monkeypatch.setenv("AIRFLOW_CONN_XERO", "oauth2://host")
    assert _auto() == "variable"


def _fail_for(conn_id: str, trouble: Any, times: int = 1_000):
    left = [times]

    def fail(message: Any) -> Any:
        if getattr(message, "conn_id", None) == conn_id and left[0] > 0:
            left[0] -= 1
            return trouble
        return None

    return fail


@pytest.mark.parametrize("trouble", [server_error(), EOFError()])
def test_a_failure_while_looking_never_picks_the_other_store(supervisor, trouble):
    supervisor.connections["airflow_api"] = {"conn_type": "http", "host": "api"}
    supervisor.fail = _fail_for("airflow_api", trouble)
    with pytest.raises(StoreUnavailable):
        open_store("xero", kind="auto", connection=None)


def test_a_not_found_of_a_failing_database_never_picks_the_other_store(supervisor):
    """The API server swallows its database's errors and says "not found", for every connection."""
    supervisor.connections["airflow_api"] = {"conn_type": "http", "host": "api"}
    supervisor.fail = lambda message: NOT_FOUND if isinstance(message, messages.GetConnection) else None
    with pytest.raises(StoreUnavailable):
        open_store("xero", kind="auto", connection=None)


def test_one_lost_query_of_the_database_never_picks_the_other_store(supervisor):
    supervisor.connections["airflow_api"] = {"conn_type": "http", "host": "api"}
    supervisor.fail = _fail_for("airflow_api", NOT_FOUND, times=1)
    assert open_store("xero", kind="auto", connection=None).name == "connection"


@pytest.mark.parametrize("defined", [True, False])
def test_the_choice_is_remembered_for_a_while(supervisor, monkeypatch, defined):
    if defined:
        supervisor.connections["airflow_api"] = {"conn_type": "http", "host": "api"}
    first = open_store("xero", kind="auto", connection=None).name
    asked = len(supervisor.asked("GetConnection"))
    assert open_store("xero", kind="auto", connection=None).name == first
    assert len(supervisor.asked("GetConnection")) == asked
    monkeypatch.setattr(factory, "_REMEMBER", 0.0)
    factory._api_defined.clear()
    open_store("xero", kind="auto", connection=None)
    open_store("xero", kind="auto", connection=None)
    assert len(supervisor.asked("GetConnection")) > asked + 1


@pytest.mark.parametrize("kind", ["variable", "connection"])
def test_a_kind_that_is_given_is_taken(supervisor, kind):
    assert open_store("xero", kind=kind, connection=None).name == kind


def test_vault_needs_a_path(supervisor):
    with pytest.raises(ConfigurationError, match=r"'xero'.*'vault_path'"):
        open_store("xero", kind="vault", connection=None, options={"vault_conn_id": "bao"})


def test_vault_is_reached_by_airflows_default_connection(supervisor):
    with pytest.raises(ConfigurationError, match=r"'xero'.*'vault_default' is not defined"):
        open_store("xero", kind="vault", connection=None, options={"vault_path": "airflow/xero"})


def test_an_unknown_kind_names_the_known_ones(supervisor):
    with pytest.raises(ConfigurationError, match=r"store='redis'.*auto, connection, variable, vault"):
        open_store("xero", kind="redis", connection=None)


def test_nothing_is_asked_while_a_store_is_opened_from_a_connection_just_read(supervisor):
    open_store("xero", kind="connection", connection=None)
    open_store("xero", kind="variable", connection=None)
    open_fallback("xero")
    assert supervisor.log == []


# ------------------------------------------------------------------------------------ with the database at hand


@pytest.fixture
def airflow(tmp_path, monkeypatch):
    with database(tmp_path, monkeypatch) as made:
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda: [EnvironmentVariables(), Rows(made)])
        yield made


class EnvironmentVariables:
    def get_connection(self, conn_id: str) -> Any:
        from airflow.secrets.environment_variables import EnvironmentVariablesBackend

        return EnvironmentVariablesBackend().get_connection(conn_id)

    def get_variable(self, key: str) -> None:
        return None


class MetastoreBackend:
    """Named as Airflow's, which it stands for."""

    def __init__(self, made: Database) -> None:
        self.made = made

    def get_variable(self, key: str) -> None:
        return None

    def get_connection(self, conn_id: str) -> Any:
        from airflow.models.connection import Connection
        from sqlalchemy.exc import NoResultFound

        try:
            found = Connection(conn_id=conn_id, conn_type="oauth2", extra=self.made.extra(conn_id))
        except NoResultFound:
            return None
        found.id = 1
        return found


Rows = MetastoreBackend


def test_on_airflow_2_a_row_keeps_its_own_tokens(airflow, monkeypatch):
    monkeypatch.setattr(versions, "AIRFLOW_V_3_0_PLUS", False)
    airflow.add_connection("xero", "{}")
    assert open_store("xero", kind="auto", connection=connections.get_connection("xero")).name == "connection"
    assert open_store("xero", kind="auto", connection=None).name == "connection"


def test_on_airflow_2_what_has_no_row_has_a_variable(airflow, monkeypatch):
    monkeypatch.setattr(versions, "AIRFLOW_V_3_0_PLUS", False)
    monkeypatch.setenv("AIRFLOW_CONN_XERO", "oauth2://host")
    assert open_store("xero", kind="auto", connection=connections.get_connection("xero")).name == "variable"
    airflow.add_connection("xero", "{}")
    assert open_store("xero", kind="auto", connection=None).name == "variable", "the row is hidden"


@pytest.mark.parametrize("api_is_defined", [True, False])
def test_on_airflow_3_the_command_line_chooses_what_tasks_choose(airflow, api_is_defined):
    airflow.add_connection("xero", "{}")
    if api_is_defined:
        airflow.add_connection("airflow_api", "{}")
    store = open_store("xero", kind="auto", connection=connections.get_connection("xero"))
    assert store.name == ("connection" if api_is_defined else "variable")


# ------------------------------------------------------------------------------------------------- taking over


class Pair:
    """The new home and the variable of one connection, both in a database."""

    def __init__(self, made: Database) -> None:
        made.add_connection("xero", "{}")
        self.variable = VariableStore("xero", KEYS)
        self.home = OrmConnectionStore("xero")

    def adopting(self) -> AdoptingStore:
        return AdoptingStore(OrmConnectionStore("xero"), VariableStore("xero", KEYS))


@pytest.fixture
def pair(airflow) -> Pair:
    return Pair(airflow)


def test_a_record_in_the_variable_is_taken_over(pair):
    pair.variable.write(record(7), if_version=None)
    store = pair.adopting()
    assert store.read() == StoredRecord(record(7), None)
    version = store.write(record(7, owner="me"), if_version=None)
    assert store.read() == StoredRecord(record(7, owner="me"), version)
    store.write(record(8), if_version=version)
    assert pair.home.read().record == record(8)


def test_reading_alone_moves_nothing(pair):
    version = pair.variable.write(record(7), if_version=None)
    pair.adopting().read()
    assert pair.variable.read().version == version


def test_no_tokens_stay_behind(pair, airflow):
    pair.variable.write(record(7), if_version=None)
    store = pair.adopting()
    store.read()
    store.write(record(7, owner="me"), if_version=None)
    assert "secret" not in (variables.read_variable("oauth2_token_record__xero") or "")


def test_a_record_in_clear_is_sealed_before_it_is_marked(pair):
    """The mark is written into the variable, and what is written there is logged."""
    variables.write_variable("oauth2_token_record__xero", record(7).to_json(), "of an earlier version")
    pair.variable.mark_moved(pair.variable.left_behind(), "connection")

    marked = variables.read_variable("oauth2_token_record__xero") or ""
    assert '"moved_to":' in marked
    assert "secret-7" not in marked
    assert pair.adopting().read().record == record(7)


def test_who_missed_the_move_cannot_refresh_on_the_variable(pair):
    old = pair.variable.write(record(7), if_version=None)
    store = pair.adopting()
    store.read()
    store.write(record(7, owner="me"), if_version=None)
    with pytest.raises(StoreUnavailable, match="moved to the store 'connection'"):
        pair.variable.read()
    with pytest.raises(StaleVersion):
        pair.variable.write(record(7, owner="late"), if_version=old)


def test_a_lease_taken_on_the_variable_meanwhile_stops_the_move(pair):
    version = pair.variable.write(record(7), if_version=None)
    store = pair.adopting()
    store.read()
    pair.variable.write(record(7, owner="other"), if_version=version)
    with pytest.raises(StaleVersion):
        store.write(record(7, owner="me"), if_version=None)
    assert pair.home.read().record is None
    assert store.read().record == record(7, owner="other")


def test_a_crash_between_the_mark_and_the_record_loses_nothing(pair, monkeypatch):
    pair.variable.write(record(7), if_version=None)
    crashed = pair.adopting()
    crashed.read()
    monkeypatch.setattr(OrmConnectionStore, "write", _crash)
    with pytest.raises(KeyboardInterrupt):
        crashed.write(record(7, owner="crashed"), if_version=None)
    monkeypatch.undo()


def _crash(*_arguments: Any, **_named: Any) -> str:
    raise KeyboardInterrupt


def test_the_next_worker_takes_over_from_a_mark(tmp_path, monkeypatch):
    with database(tmp_path, monkeypatch) as made:
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda: [Rows(made)])
        pair = Pair(made)
        pair.variable.write(record(7), if_version=None)
        pair.variable.mark_moved(pair.variable.left_behind(), "connection")
        first, second = pair.adopting(), pair.adopting()
        assert first.read().record == second.read().record == record(7)
        first.write(record(7, owner="first"), if_version=None)
        with pytest.raises(StaleVersion):
            second.write(record(7, owner="second"), if_version=None)
        assert second.read().record == record(7, owner="first")


def test_a_note_that_could_not_be_cleared_is_no_failure(pair, monkeypatch):
    pair.variable.write(record(7), if_version=None)
    store = pair.adopting()
    store.read()

    def fail(*_arguments: Any) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(VariableStore, "bury", fail)
    store.write(record(7, owner="me"), if_version=None)
    assert pair.home.read().record == record(7, owner="me")
    assert store.read().record == record(7, owner="me")


def test_without_a_variable_it_is_just_the_home(pair):
    store = pair.adopting()
    assert store.read() == StoredRecord(None, None)
    version = store.write(record(1), if_version=None)
    assert version == version_of(record(1).to_json())
    assert isinstance(store.read().record, Record)
    assert variables.read_variable("oauth2_token_record__xero") is None
