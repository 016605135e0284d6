"""Compare-and-set in Airflow's tables by sixteen writers at once: on PostgreSQL with row locks, on SQLite without."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.environments import ROOT
from tests.integration._store_airflow import airflow_environ
from tests.servers.postgres import Postgres

PROCESSES = 4
THREADS = 4
ROUNDS = 8

#: Some writers: in each round each reads, waits for all the others, and writes a lease of its own.
WRITER = """
import json, sys, threading, time
from pathlib import Path
from airflow_oauth_provider.exceptions import StaleVersion
from airflow_oauth_provider.stores.connection import RowBackend
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.stores import variable
from airflow_oauth_provider.tokens.record import Lease, Record
from airflow_oauth_provider.stores.sealed_record import ConnectionKeys

KEYS = ConnectionKeys((("client_secret", "one-that-all-know"),))
kind, process, threads, rounds, gate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])

def work(me):
    store = RecordStore(RowBackend("xero")) if kind == "connection" else variable.open_store("xero", KEYS)
    for number in range(rounds):
        before = store.read()
        (gate / f"{number}-{me}").touch()
        while not (gate / f"go-{number}").exists():
            time.sleep(0.002)
        record = Record(generation=number, lease=Lease(f"{number}-{me}", 60, 0))
        try:
            version = store.write(record, if_version=before.version)
        except StaleVersion:
            version = None
        with printing:
            print(json.dumps([number, me, version]), flush=True)
        (gate / f"done-{number}-{me}").touch()

printing = threading.Lock()
workers = [threading.Thread(target=work, args=(f"{process}-{n}",)) for n in range(threads)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
"""

PREPARE = """
from airflow.models import Connection
from airflow.utils.session import create_session
with create_session() as session:
    session.add(Connection(conn_id="xero", conn_type="oauth2", extra='{"a": 1.50}'))
"""

LOOK = """
from airflow_oauth_provider.compat import connections
from airflow_oauth_provider.stores.connection import RowBackend
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.stores.sealed_record import ConnectionKeys
from airflow_oauth_provider.stores import variable
KEYS = ConnectionKeys((("client_secret", "one-that-all-know"),))
print(connections.get_connection("xero").extra)
print(RecordStore(RowBackend("xero")).read().version, variable.open_store("xero", KEYS).read().version)
"""


@pytest.fixture(scope="module", params=["postgres", "sqlite"])
def environ(request, tmp_path_factory):
    home = tmp_path_factory.mktemp(f"airflow-{request.param}")
    if request.param == "sqlite":
        yield _migrate(airflow_environ(home), home)
        return
    with Postgres() as postgres:
        yield _migrate(airflow_environ(home, postgres.create_database("airflow")), home)


def _migrate(environ: dict[str, str], home: Path) -> dict[str, str]:
    _run(environ, "-m", "airflow", "db", "migrate")
    _run(environ, "-c", PREPARE)
    return environ


def _run(environ: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("kind", ["connection", "variable"])
def test_of_sixteen_writers_one_wins_each_round(environ, kind, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", WRITER, kind]
    options = [str(THREADS), str(ROUNDS), str(tmp_path)]
    writers = [f"{process}-{thread}" for process in range(PROCESSES) for thread in range(THREADS)]
    processes = [
        subprocess.Popen([*command, str(n), *options], env=environ, cwd=ROOT, text=True, stdout=subprocess.PIPE)
        for n in range(PROCESSES)
    ]
    try:
        for number in range(ROUNDS):
            _wait_for(processes, [tmp_path / f"{number}-{writer}" for writer in writers])
            (tmp_path / f"go-{number}").touch()
            # The next round begins when all have written: otherwise a late one would be stale for another reason.
            _wait_for(processes, [tmp_path / f"done-{number}-{writer}" for writer in writers])
        printed = "".join(process.communicate(timeout=60)[0] for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]
    assert len(results) == len(writers) * ROUNDS, "nobody failed in another way"
    winners = [[writer for number, writer, version in results if number == n and version] for n in range(ROUNDS)]
    assert [len(won) for won in winners] == [1] * ROUNDS
    last = next(version for number, _, version in results if number == ROUNDS - 1 and version)
    shown = _run(environ, "-W", "ignore", "-c", LOOK).splitlines()
    assert last in shown[-1]
    assert json.loads(shown[-2])["a"] == 1.5


def _wait_for(processes: list[subprocess.Popen[str]], files: list[Path]) -> None:
    deadline = time.monotonic() + 180
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, "a writer does not come to the gate"
        failed = [process.returncode for process in processes if process.poll()]
        assert not failed, f"a process ended with {failed}"
        time.sleep(0.01)
