"""A grant begins in a variable only where the connection's own row is not its home."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_oauth_provider.compat import connections
from airflow_oauth_provider.compat.database import record_in_extra, version_of
from airflow_oauth_provider.compat.extra_json import set_member
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.stores import api_client, factory, timed_claim
from airflow_oauth_provider.tokens.manager import TokenManager
from airflow_oauth_provider.tokens.record import Lease, Record, fingerprint
from tests.unit.fakes import START, FakeClock, StrictServer, Time
from tests.unit.store_fakes import Supervisor, put_in_task

API = {"conn_type": "http", "host": "http://api"}


class Airflow:
    """An Airflow 3 with one connection, an API server with the plugin's route, and a strict authorization server."""

    def __init__(self, supervisor: Supervisor, store: str) -> None:
        self.supervisor = supervisor
        self.time = Time()
        self.server = StrictServer(self.time)
        self.entered = self.server.sign_in()
        self.extra = {"oauth_url": "https://login.example/token", "refresh_token": self.entered, "store": store}
        self.set_extra(self.extra)

    def set_extra(self, extra: dict[str, Any]) -> None:
        row = {"conn_type": "oauth2", "host": "api.example", "login": "id", "password": "hush-hush"}
        self.supervisor.connections["xero"] = {**row, "extra": json.dumps(extra)}

    def define_api(self) -> None:
        self.supervisor.connections["airflow_api"] = API

    def rotate_in_the_row(self) -> None:
        """Leave the row as a worker does that has refreshed, an hour ago."""
        answer = self.server.answer({"grant_type": "refresh_token", "refresh_token": self.entered})
        kept = Record(
            generation=1,
            entered_fingerprint=fingerprint(self.entered),
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            issued_at=START,
            expires_in=600.0,
        )
        self.set_extra({**self.extra, "token_record": kept.to_json()})
        self.time.now += 3600

    def worker(self) -> TokenManager:
        def request(_client: Any, parameters: Any) -> TokenResponse:
            self.time.now += 1
            return self.server.answer(dict(parameters))

        return TokenManager(ConnectionLoader("xero"), None, request=request, clock=FakeClock(self.time))

    def put(self, _client: Any, conn_id: str, record: str, if_version: str | None) -> api_client.PutAnswer:
        row = self.supervisor.connections[conn_id]
        held = version_of(record_in_extra(row["extra"], conn_id))
        if held != if_version:
            return api_client.PutAnswer(held, stale=True)
        row["extra"] = set_member(row["extra"], record)
        return api_client.PutAnswer(version_of(record))


@pytest.fixture
def make(monkeypatch):
    def made(store: str) -> Airflow:
        airflow = Airflow(put_in_task(monkeypatch), store)
        monkeypatch.setattr(api_client.ApiClient, "put_record", lambda client, *given: airflow.put(client, *given))
        return airflow

    monkeypatch.setattr(timed_claim, "DEFAULT_DELAY", 0.05)
    factory._api_defined.clear()
    yield made
    factory._api_defined.clear()


@pytest.mark.parametrize("store", ["auto", "variable"])
def test_tokens_in_the_row_are_not_passed_over_for_an_empty_variable(make, store):
    airflow = make(store)
    airflow.rotate_in_the_row()
    with pytest.raises(StoreNotWritable, match=r"'xero'.*'airflow_api'.*enter a new refresh token"):
        airflow.worker().access_token()
    assert (airflow.server.refreshes, airflow.server.alive) == (1, True)
    assert airflow.supervisor.variables == {}


def test_they_are_used_again_once_the_row_can_be_written(make):
    airflow = make("auto")
    airflow.rotate_in_the_row()
    airflow.define_api()
    assert airflow.server.is_good(airflow.worker().access_token())
    assert airflow.supervisor.variables == {}


@pytest.mark.parametrize("store", ["auto", "variable"])
def test_a_newly_entered_refresh_token_begins_in_the_variable(make, store):
    airflow = make(store)
    airflow.rotate_in_the_row()
    held = json.loads(airflow.supervisor.connections["xero"]["extra"])
    airflow.set_extra({**held, "refresh_token": airflow.server.sign_in()})
    assert airflow.server.is_good(airflow.worker().access_token())
    assert list(airflow.supervisor.variables) == ["oauth2_token_record__xero"]


def test_what_is_already_in_the_variable_goes_on_there(make):
    airflow = make("auto")
    airflow.worker().access_token()
    stale = Record(generation=1, entered_fingerprint=fingerprint(airflow.entered), refresh_token="spent")
    airflow.set_extra({**airflow.extra, "token_record": stale.to_json()})
    airflow.time.now += 3600
    assert airflow.server.is_good(airflow.worker().access_token())


def test_tokens_that_anyone_can_ask_for_again_begin_anywhere(make):
    airflow = make("variable")
    airflow.extra |= {"grant_type": "client_credentials"}
    airflow.rotate_in_the_row()
    assert airflow.server.is_good(airflow.worker().access_token())


def test_who_remembers_that_there_is_no_api_asks_again_before_the_first_refresh(make):
    airflow = make("auto")
    assert connections.get_connection("xero") is not None
    assert factory._is_api_defined("airflow_api", "xero") is False
    airflow.define_api()
    remembered = dict(factory._api_defined)
    factory._api_defined.clear()
    first = airflow.worker().access_token()
    factory._api_defined.update(remembered)
    assert airflow.worker().access_token() == first
    assert (airflow.server.refreshes, airflow.server.alive) == (1, True)


def test_an_api_that_is_defined_while_the_lease_is_being_written_stops_the_refresh(make):
    """Workers that find it from now on see the lease, and take it over with the variable."""
    airflow = make("auto")

    def define(message: Any) -> None:
        if type(message).__name__ == "PutVariable":
            airflow.define_api()

    airflow.supervisor.fail = define
    began = airflow.time.now
    assert airflow.server.is_good(airflow.worker().access_token())
    assert airflow.server.refreshes == 1
    assert airflow.time.now - began > 11, "it went on under a lease that it should have let run out"
    assert "moved_to" in airflow.supervisor.variables["oauth2_token_record__xero"]


def test_where_it_cannot_be_told_nothing_is_spent(make):
    airflow = make("auto")
    snapshot = ConnectionLoader("xero").load()
    airflow.supervisor.fail = lambda message: EOFError() if type(message).__name__ == "GetConnection" else None
    leased = Record(entered_fingerprint=fingerprint(airflow.entered), refresh_token=airflow.entered)
    with pytest.raises(StoreUnavailable):
        snapshot.store.write(replace(leased, lease=Lease("me", 60.0, START)), if_version=None)
    assert airflow.supervisor.variables == {}
