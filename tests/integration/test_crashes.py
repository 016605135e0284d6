"""Processes that are killed by SIGKILL at each step of a refresh, with a real store and a real HTTP server.

The outcomes are the table in ``docs/guarantees.md``; ``OAUTH2_WRITE_DOCS=1`` writes what was measured into it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_oauth_provider.account import Account, Entered, RefreshPolicy
from airflow_oauth_provider.exceptions import ReauthorizationRequired
from airflow_oauth_provider.manager import TokenManager
from airflow_oauth_provider.oauth2.client import Client, Transport
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.stores.vault import VaultStore
from rig.scripted import ScriptedServer
from tests.unit.fakes import Connection, FakeSource, MemoryFallback

STEPS = (
    "before the lease",
    "with the lease",
    "after the request was sent",
    "after the answer arrived",
    "during the write",
    "after the write",
)
#: Between the server's rotation and the write.
IN_THE_WINDOW = STEPS[2:5]
GOES_ON = "the next worker goes on by itself"
SAYS_SO = "the next worker says that the grant is lost, and why: sign in again"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- crash table -->", "<!-- end of crash table -->"


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Victim:
    """A process that dies at one step. Everything in it is real; only the moment of its death is arranged."""

    def __init__(self, manager: TokenManager, store: VaultStore, step: str) -> None:
        self.manager = manager
        self.step = step
        self.writes = 0
        self.write = store.write
        store.write = self.pass_write  # type: ignore[method-assign]
        manager._refresher._request = self.pass_request

    def pass_write(self, record, *, if_version):
        self.writes += 1
        if self.step == "before the lease":
            die()
        if self.step == "during the write" and self.writes == 2:
            http.client.HTTPConnection.send = self.send_half  # type: ignore[method-assign]
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

    @staticmethod
    def send_half(connection, data):
        if connection.sock is None:
            connection.connect()
        connection.sock.sendall(bytes(data)[: len(data) // 2])
        die()


class Scenario:
    def __init__(self, server: ScriptedServer, conn_id: str, step: str) -> None:
        self.server, self.conn_id, self.step = server, conn_id, step
        self.client = Client(server.client_id, server.token_url, client_secret=server.client_secret)
        self.entered = Entered(server.issue())

    def manager(self, timeout: float) -> tuple[TokenManager, VaultStore]:
        client = replace(self.client, transport=Transport(timeout=timeout))
        account = Account(self.conn_id, client, entered=self.entered, policy=RefreshPolicy(leeway=60.0))
        store = VaultStore(self.conn_id, "bao", f"crashes/{self.conn_id}")
        source = FakeSource(Connection(account), store, lambda _, call: call())  # type: ignore[arg-type]
        return TokenManager(source, MemoryFallback({}, lambda _, call: call())), store

    def kill(self) -> None:
        pid = os.fork()
        if pid == 0:
            # Its lease lasts as its timeout says, and the next worker waits for that.
            manager, store = self.manager(timeout=3.0)
            Victim(manager, store, self.step).manager.access_token()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status), f"{self.step}: the victim survived"
        assert os.WTERMSIG(status) == signal.SIGKILL

    def outcome(self) -> str:
        manager, _ = self.manager(timeout=30.0)
        try:
            token = manager.access_token()
        except ReauthorizationRequired as error:
            return SAYS_SO if "ended before it had written the result" in str(error) else str(error)
        assert self.server.grants.accepts(token)
        again = manager.access_token(rejected=token)
        assert self.server.grants.accepts(again)
        return GOES_ON


@pytest.fixture
def measured(openbao, monkeypatch):
    extra = {"use_tls": False, "kv_engine_version": 2, "auth_type": "token"}
    bao = {
        "conn_type": "vault", "host": "127.0.0.1", "port": openbao.port, "schema": "secret",
        "password": openbao.root_token, "extra": extra,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps(bao))
    with ScriptedServer(grace=600) as graceful, ScriptedServer() as strict:
        scenarios = [
            Scenario(server, f"{name}-{number}", step)
            for name, server in (("graceful", graceful), ("strict", strict))
            for number, step in enumerate(STEPS)
        ]
        for scenario in scenarios:
            scenario.kill()
        with ThreadPoolExecutor(len(scenarios)) as pool:  # they mostly wait for a dead holder's lease to end
            outcomes = list(pool.map(Scenario.outcome, scenarios))
    half = len(STEPS)
    return list(zip(STEPS, outcomes[:half], outcomes[half:], strict=True))


def as_table(measured) -> str:
    lines = ["| Killed | Server with a grace period | Server without one |", "|---|---|---|"]
    lines += [f"| {step} | {graceful} | {strict} |" for step, graceful, strict in measured]
    return "\n".join(lines)


def test_the_table_in_the_docs_is_what_happens(measured):
    for step, graceful, strict in measured:
        assert graceful == GOES_ON, step
        in_the_window = (
            STEPS.index("after the request was sent") <= STEPS.index(step) <= STEPS.index("during the write")
        )
        assert strict == (SAYS_SO if in_the_window else GOES_ON), step
    text = DOCS.read_text()
    if os.environ.get("OAUTH2_WRITE_DOCS"):
        text = re.sub(f"{BEGIN}.*{END}", f"{BEGIN}\n{as_table(measured)}\n{END}", text, flags=re.DOTALL)
        DOCS.write_text(text)
    assert as_table(measured) in text
