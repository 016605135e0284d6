"""The contract on every place that needs no server."""

from __future__ import annotations

import json

import pytest

from airflow_oauth_provider.stores import file as file_store
from airflow_oauth_provider.stores.backend import Fetched, StoreOptions
from airflow_oauth_provider.stores.connection import RowBackend
from airflow_oauth_provider.stores.record_store import RecordStore, TimedLeaseStore
from tests.store_contract import Place, StoreContract
from tests.unit.store_fakes import database
from tests.unit.test_record_store import Memory


class TestMemory(StoreContract):
    @pytest.fixture
    def place(self) -> Place:
        memory = Memory()
        return Place(lambda: RecordStore(memory), spoil=lambda text: setattr(memory, "text", text))


class Plain:
    name, where, record_where = "plain", "a plain place", "a plain place"

    def __init__(self) -> None:
        self.text: str | None = None

    def fetch(self) -> Fetched:
        return Fetched(self.text)

    def put(self, fetched: Fetched, text: str) -> None:
        self.text = text


class TestPlain(StoreContract):
    @pytest.fixture
    def place(self) -> Place:
        plain = Plain()
        return Place(
            lambda: TimedLeaseStore(plain, settle_time=0.5),
            spoil=lambda text: setattr(plain, "text", text),
            compares=False,
            quick=lambda: TimedLeaseStore(plain, sleep=lambda _: None),
        )


class TestRow(StoreContract):
    """The connection's own row, by the database."""

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        with database(tmp_path, monkeypatch) as airflow:
            airflow.add_connection("xero", '{"oauth_url": "https://login.example.com/token"}')
            yield Place(
                lambda: RecordStore(RowBackend("xero")),
                spoil=lambda text: airflow.set_extra("xero", json.dumps({"token_record": text})),
            )


class TestFile(StoreContract):
    @pytest.fixture
    def place(self, tmp_path) -> Place:
        path = tmp_path / "a.json"
        path.write_text("{}")
        return Place(
            lambda: file_store.open_store("xero", StoreOptions("file", file_path=str(path))),
            spoil=lambda text: path.write_text(json.dumps({"token_record": text})),
        )
