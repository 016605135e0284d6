"""Processes that are killed by SIGKILL at each step of a refresh, and what the next one then can do.

Everything is real but for the moment of death. On the store ``vault`` the tests measure by calling ``measure``; on
``connection`` they run this module on Airflow 2.11, whose database that store needs.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_oauth_provider.exceptions import ReauthorizationRequired
from airflow_oauth_provider.oauth2.client import Client, Transport
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.tokens import lease
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration, RefreshPolicy
from airflow_oauth_provider.tokens.manager import TokenManager
from airflow_oauth_provider.tokens.record import TokenStore
from tests.servers.scripted import ScriptedServer
from tests.unit.fakes import Connection, FakeSource, MemoryFallback

STEPS = (
    "before the lease",
    "with the lease",
    "after the request was sent",
    "after the answer arrived",
    "during the write",
    "after the write",
)
GOES_ON = "the next worker goes on by itself"
SAYS_SO = "the next worker says that the grant is lost, and why: sign in again"


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Victim:
    """A process that dies at one step.

    :param die_in_write: arranges that the write which is sent next never ends.
    """

    def __init__(self, manager: TokenManager, store: Any, step: str, die_in_write: Callable[[], None]) -> None:
        self.manager = manager
        self.step = step
        self.writes = 0
        self.write = store.write
        self.die_in_write = die_in_write
        store.write = self.pass_write
        manager._refresher = dataclasses.replace(manager._refresher, request=self.pass_request)

    def pass_write(self, record, *, if_version):
        self.writes += 1
        if self.step == "before the lease":
            die()
        if self.step == "during the write" and self.writes == 2:
            self.die_in_write()
        version = self.write(record, if_version=if_version)
        if self.step == "with the lease" or (self.step == "after the write" and self.writes == 2):
            die()
        return version

    def pass_request(self, client, parameters):
        if self.step == "after the request was sent":
            http.client.HTTPConnection.getresponse = self.let_answer_come  # type: ignore[method-assign]
        answer = request_token(client, parameters)
        if self.step == "after the answer arrived":
            die()
        return answer

    @staticmethod
    def let_answer_come(connection, *_):
        select.select([connection.sock], [], [])  # the server has done its work, and nothing is read
        die()


def send_half() -> None:
    """Let the next HTTP request end in the middle."""

    def half(connection, data):
        if connection.sock is None:
            connection.connect()
        connection.sock.sendall(bytes(data)[: len(data) // 2])
        die()

    http.client.HTTPConnection.send = half  # type: ignore[method-assign]


def die_before_commit() -> None:
    """Let the next transaction of the metadata database end before its COMMIT, with its UPDATE done."""
    from sqlalchemy import event

    from airflow_oauth_provider.compat import database

    event.listen(database.metadata_engine(), "commit", die)


class Scenario:
    """One process that dies at ``step``, and the one after it.

    :param same_machine: whether the dead one passes for a process of this machine.
    :param open_store: gives a store for a connection id.
    :param die_in_write: see :class:`Victim`.
    """

    def __init__(
        self,
        server: ScriptedServer,
        conn_id: str,
        step: str,
        same_machine: bool,
        open_store: Callable[[str], TokenStore],
        die_in_write: Callable[[], None],
    ) -> None:
        self.server, self.conn_id, self.step, self.same_machine = server, conn_id, step, same_machine
        self.open_store, self.die_in_write = open_store, die_in_write
        self.client = Client(
            server.client_id, server.token_url, client_secret=server.client_secret, transport=Transport(timeout=30.0)
        )
        self.entered = EnteredTokens(server.issue())

    def manager(self) -> tuple[TokenManager, TokenStore]:
        configuration = GrantConfiguration(
            self.conn_id, self.client, entered=self.entered, policy=RefreshPolicy(leeway=60.0)
        )
        store = self.open_store(self.conn_id)
        source = FakeSource(Connection(configuration), store, lambda _, call: call())  # type: ignore[arg-type]
        return TokenManager(source, MemoryFallback({}, lambda _, call: call())), store

    def kill(self) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self.be_killed()
            except Exception:  # noqa: BLE001 - shown, and found out by the parent
                traceback.print_exc()
            finally:
                os._exit(0)  # nothing of the parent's is to be cleaned up here
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status), f"{self.step}: the victim survived"
        assert os.WTERMSIG(status) == signal.SIGKILL

    def be_killed(self) -> None:
        if not self.same_machine:
            lease.identify_process = lambda: ""
        manager, store = self.manager()
        Victim(manager, store, self.step, self.die_in_write).manager.access_token()

    def outcome(self) -> tuple[str, float]:
        """Let the next worker try; return what came of it, and after how many seconds."""
        manager, _ = self.manager()
        began = time.monotonic()
        try:
            token = manager.access_token()
        except ReauthorizationRequired as error:
            took = time.monotonic() - began
            return SAYS_SO if "has left no result" in str(error) else str(error), took
        took = time.monotonic() - began
        assert self.server.grants.accepts(token)
        again = manager.access_token(rejected=token)
        assert self.server.grants.accepts(again)
        return GOES_ON, took


def measure(
    open_store: Callable[[str], TokenStore],
    die_in_write: Callable[[], None],
    prepare: Callable[[str], None] = lambda _: None,
) -> list[list[str]]:
    """Return for each step what came of it, and when: with a grace period and without one, here and elsewhere.

    :param prepare: is told the connection ids before anything dies.
    """
    with ScriptedServer(grace=600) as graceful, ScriptedServer() as strict:
        kinds = [("graceful", graceful, True), ("strict", strict, True), ("elsewhere", graceful, False)]
        scenarios = [
            Scenario(server, f"{name}-{number}", step, same_machine, open_store, die_in_write)
            for name, server, same_machine in kinds
            for number, step in enumerate(STEPS)
        ]
        for scenario in scenarios:
            prepare(scenario.conn_id)
        for scenario in scenarios:
            scenario.kill()
        with ThreadPoolExecutor(len(scenarios)) as pool:  # they mostly wait for a dead holder's lease to end
            outcomes = list(pool.map(Scenario.outcome, scenarios))
    here, there, elsewhere = (outcomes[start : start + len(STEPS)] for start in range(0, len(outcomes), len(STEPS)))
    return [
        [step, grace, none, f"{seconds:.1f} s", f"{longer:.1f} s"]
        for step, (grace, seconds), (none, _), (_, longer) in zip(STEPS, here, there, elsewhere, strict=True)
    ]


def on_the_database() -> list[list[str]]:
    """Measure on the store ``connection`` of Airflow 2.11."""
    from airflow.models import Connection as Row
    from airflow.utils.session import create_session

    from airflow_oauth_provider.stores.connection import RowBackend
    from airflow_oauth_provider.stores.record_store import RecordStore

    def add_row(conn_id: str) -> None:
        with create_session() as session:
            session.add(Row(conn_id=conn_id, conn_type="oauth2", extra="{}"))

    return measure(lambda conn_id: RecordStore(RowBackend(conn_id)), die_before_commit, add_row)


if __name__ == "__main__":
    json.dump(on_the_database(), sys.stdout)
