"""Which store a connection gets: the same one in every worker, by what is stored and not by what answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.execution_time import comms as messages

from airflow_oauth_provider.compat import connections, sdk
from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import factory
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.stores.fallback import open_fallback
from tests.unit.store_fakes import Database, Supervisor, database, put_in_task, server_error

KEY = json.dumps({"token_record_key": "k" * 43})


class Route:
    """Stands for the route: notes who asks for a key, and gives one to rows."""

    rows: frozenset[str] = frozenset()

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.asked: list[str] = []
        self.trouble: Exception | None = None

    def __call__(self) -> Route:
        return self

    def request_key(self, conn_id: str) -> None:
        self.asked.append(conn_id)
        if self.trouble:
            raise self.trouble
        if conn_id in self.rows:
            self.supervisor.connections[conn_id]["extra"] = KEY


@pytest.fixture
def supervisor(monkeypatch) -> Supervisor:
    comms = put_in_task(monkeypatch)
    comms.connections["xero"] = {"conn_type": "oauth2"}
    return comms


@pytest.fixture
def route(supervisor, monkeypatch) -> Route:
    made = Route(supervisor)
    monkeypatch.setattr(factory, "RecordRoute", made)
    return made


@pytest.mark.parametrize("kind", ["auto", "connection"])
def test_a_row_with_a_key_keeps_its_own_tokens_and_nothing_is_asked(supervisor, route, kind):
    supervisor.connections["xero"]["extra"] = KEY
    assert open_store("xero", StoreOptions(kind)).name == "connection"
    assert route.asked == []


@pytest.mark.parametrize("kind", ["auto", "connection"])
def test_a_row_without_a_key_gets_one(supervisor, route, kind):
    route.rows = frozenset({"xero"})
    assert open_store("xero", StoreOptions(kind)).name == "connection"
    assert route.asked == ["xero"]


def test_no_key_after_that_means_no_row(supervisor, route):
    """It comes from an environment variable or a secrets backend of the API server."""
    assert open_store("xero", StoreOptions("auto")).name == "variable"
    assert route.asked == ["xero"]
    with pytest.raises(StoreNotWritable, match=r"of Airflow's API server.*'variable' or 'vault'"):
        open_store("xero", StoreOptions("connection"))


@pytest.mark.parametrize("kind", ["auto", "connection"])
@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), StoreNotWritable("no route")])
def test_a_route_out_of_reach_never_picks_the_other_store(supervisor, route, kind, trouble):
    route.trouble = trouble
    with pytest.raises(type(trouble), match=str(trouble)):
        open_store("xero", StoreOptions(kind))


@pytest.mark.parametrize("trouble", [server_error(), EOFError()])
def test_a_failure_to_read_the_connection_again_never_picks_the_other_store(supervisor, route, trouble):
    found = connections.find_connection("xero")
    supervisor.fail = lambda message: trouble if isinstance(message, messages.GetConnection) else None
    with pytest.raises(StoreUnavailable):
        open_store("xero", StoreOptions("auto"), found=found)


@pytest.mark.parametrize("extra", [None, KEY])
def test_a_connection_of_the_environment_has_a_variable(supervisor, route, monkeypatch, extra):
    value = {"conn_type": "oauth2", "extra": json.loads(extra or "{}")}
    monkeypatch.setenv("AIRFLOW_CONN_XERO", json.dumps(value))
    assert open_store("xero", StoreOptions("auto")).name == "variable"
    assert route.asked == []


def test_a_row_of_another_type_is_refused(supervisor, route):
    supervisor.connections["xero"]["conn_type"] = "http"
    for kind in ("auto", "connection"):
        with pytest.raises(StoreNotWritable, match=r"is of the type 'http'.*Set its type"):
            open_store("xero", StoreOptions(kind))
    assert open_store("xero", StoreOptions("variable")).name == "variable"


def test_a_kind_that_is_given_is_taken(supervisor, route):
    assert open_store("xero", StoreOptions("variable")).name == "variable"
    assert route.asked == []
    assert supervisor.asked("GetConnection") == []


def test_vault_needs_a_path(supervisor):
    with pytest.raises(ConfigurationError, match=r"'xero'.*'vault_path'"):
        open_store("xero", StoreOptions("vault", vault_conn_id="bao"))


def test_vault_is_reached_by_airflows_default_connection(supervisor):
    with pytest.raises(ConfigurationError, match=r"'xero'.*'vault_default' is not defined"):
        open_store("xero", StoreOptions("vault", vault_path="airflow/xero"))


def test_an_unknown_kind_names_the_known_ones(supervisor):
    with pytest.raises(ConfigurationError, match=r"store='redis'.*auto, connection, variable, vault"):
        open_store("xero", StoreOptions("redis"))


def test_nothing_is_asked_while_a_store_is_opened_from_a_connection_just_read(supervisor):
    supervisor.connections["xero"]["extra"] = KEY
    found = connections.find_connection("xero")
    supervisor.log.clear()
    open_store("xero", StoreOptions("connection"), found=found)
    open_store("xero", StoreOptions("variable"), found=found)
    open_fallback()
    assert [type(message).__name__ for message in supervisor.log if type(message).__name__ != "MaskSecret"] == []


def test_the_key_is_masked(supervisor):
    supervisor.connections["xero"]["extra"] = KEY
    open_store("xero", StoreOptions("auto"))
    assert "k" * 43 in {message.value for message in supervisor.asked("MaskSecret")}


# ------------------------------------------------------------------------------------ with the database at hand


@pytest.fixture
def airflow(tmp_path, monkeypatch):
    with database(tmp_path, monkeypatch) as made:
        backends = [EnvironmentVariables(), MetastoreBackend(made)]
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda: backends)
        yield made


class EnvironmentVariables:
    def get_connection(self, conn_id: str) -> Any:
        from airflow.secrets.environment_variables import EnvironmentVariablesBackend

        return EnvironmentVariablesBackend().get_connection(conn_id)

    def get_variable(self, key: str) -> None:
        return None


class MetastoreBackend:
    """Named as Airflow's, which it stands for."""

    conn_type = "oauth2"

    def __init__(self, made: Database) -> None:
        self.made = made

    def get_variable(self, key: str) -> None:
        return None

    def get_connection(self, conn_id: str) -> Any:
        from airflow.models.connection import Connection
        from sqlalchemy.exc import NoResultFound

        try:
            return Connection(conn_id=conn_id, conn_type=self.conn_type, extra=self.made.extra(conn_id))
        except NoResultFound:
            return None


@pytest.mark.parametrize("is_3", [True, False])
def test_a_row_keeps_its_own_tokens_on_every_version(airflow, monkeypatch, is_3):
    monkeypatch.setattr(sdk, "AIRFLOW_V_3_0_PLUS", is_3)
    airflow.add_connection("xero", "{}")
    assert open_store("xero", StoreOptions("auto"), found=connections.find_connection("xero")).name == "connection"
    assert open_store("xero", StoreOptions("auto")).name == "connection"


@pytest.mark.parametrize("is_3", [True, False])
def test_what_has_no_row_has_a_variable_on_every_version(airflow, monkeypatch, is_3):
    monkeypatch.setattr(sdk, "AIRFLOW_V_3_0_PLUS", is_3)
    monkeypatch.setenv("AIRFLOW_CONN_XERO", "oauth2://host")
    assert open_store("xero", StoreOptions("auto")).name == "variable"
    airflow.add_connection("xero", "{}")
    assert open_store("xero", StoreOptions("auto")).name == "variable", "the row is hidden"


def test_the_command_line_of_airflow_3_refuses_what_tasks_refuse(airflow, monkeypatch):
    airflow.add_connection("xero", "{}")
    monkeypatch.setattr(MetastoreBackend, "conn_type", "http")
    with pytest.raises(StoreNotWritable, match="Set its type"):
        open_store("xero", StoreOptions("auto"))
    monkeypatch.setattr(sdk, "AIRFLOW_V_3_0_PLUS", False)
    assert open_store("xero", StoreOptions("auto")).name == "connection"
