"""`make soak`: many processes, many expiries, one grant on a server that revokes it at the first reuse.

    make soak                                                     # a few minutes, all stores
    make soak ARGS="--store vault --processes 50 --expiries 200"  # the long one

It ends with a table: store, processes, expiries, refreshes, reuses, failed calls, and how long a caller waited for a
token. Every process also calls the API with its token; a call that does not end with 200 is a failure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.environments import ROOT, clean_environ, python_of
from rig.openbao import OpenBao
from rig.postgres import Postgres
from rig.processes import Process, remove_folder, temporary_folder
from rig.report import table
from rig.scripted import ScriptedProcess

#: Names of what can be soaked, and the Airflow version and the ``store`` behind each.
STORES = {
    "vault": ("3.3", "vault"),
    "connection (2.11, ORM)": ("2.11", "connection"),
    "connection (3.3, API server)": ("3.3", "connection"),
    "variable (2.11, ORM)": ("2.11", "variable"),
}
HEAD = ("store", "processes", "expiries", "refreshes", "reuses", "grant", "calls", "failures", "p50 ms", "p95 ms")


@dataclass
class Result:
    """How a soak went.

    :param times: seconds that callers waited for a token.
    """

    store: str
    processes: int
    expiries: int
    refreshes: int
    reuses: int
    alive: bool
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def row(self) -> tuple[object, ...]:
        ranked = sorted(self.times) or [0.0]

        def percentile(part: float) -> str:
            return f"{1000 * ranked[min(len(ranked) - 1, int(part * len(ranked)))]:.1f}"

        return (
            self.store, self.processes, self.expiries, self.refreshes, self.reuses, "alive" if self.alive else "DEAD",
            self.calls, len(self.failures), percentile(0.5), percentile(0.95),
        )  # fmt: skip


def soak(store: str, processes: int, expiries: int, lifetime: int = 3, limit: float = 1800.0) -> Result:
    """Let ``processes`` use one connection until its access token has expired ``expiries`` times.

    :param store: one of ``STORES``.
    :param lifetime: of access tokens, in seconds.
    :param limit: seconds after which the soak ends whatever it has seen.
    """
    folder = temporary_folder("soak")
    folder.chmod(0o755)
    try:
        with ScriptedProcess(lifetime=lifetime, pages=1) as server, _home(store, server, folder) as environ:
            before = server.stats()["spends"]
            airflow, _ = STORES[store]
            plan = {
                "processes": processes, "folder": str(folder), "api_url": f"{server.api_url}/items",
                "by_api": "API" in store,
            }  # fmt: skip
            command: list[str | Path] = [python_of(airflow), "-m", "benchmarks.soak_worker", json.dumps(plan)]
            workers = Process("soak", command, folder / "workers.log", environ, cwd=ROOT)
            ends = time.monotonic() + limit
            # Each refresh but the first answers to an expiry.
            while server.stats()["spends"] - before <= expiries and time.monotonic() < ends and workers.is_running():
                time.sleep(1)
            (folder / "stop").touch()
            ends = time.monotonic() + 90
            while workers.is_running() and time.monotonic() < ends:
                time.sleep(0.2)
            workers.stop()
            stats = server.stats()
            refreshes = stats["spends"] - before
            alive = set(stats["outcomes"]) <= {"rotated"}
            result = Result(store, processes, max(0, refreshes - 1), refreshes, stats["reuses"], alive)
        _add_reports(result, folder, processes)
        return result
    finally:
        remove_folder(folder)


def _add_reports(result: Result, folder: Path, processes: int) -> None:
    for number in range(processes):
        path = folder / f"{number}.json"
        if not path.exists():
            result.failures.append("a process ended without a report: " + _end_of(folder / "workers.log"))
            continue
        report = json.loads(path.read_text())
        result.times += report["times"]
        result.failures += report["failures"]
        result.calls += report["calls"]


def _end_of(log: Path) -> str:
    return log.read_text()[-1500:] if log.exists() else ""


@contextmanager
def _home(store: str, server: ScriptedProcess, folder: Path) -> Iterator[dict[str, str]]:
    """Make the store, define the connection, and give the environment of the workers."""
    _, kind = STORES[store]
    connection: dict[str, Any] = {
        "conn_type": "oauth2",
        "host": server.url,
        "login": server.client_id,
        "password": server.client_secret,
        "extra": {
            "oauth_url": server.token_url,
            "refresh_token": server.issue(),
            "leeway": 1,
            "timeout": 10,
            "store": kind,
        },
    }
    environ = clean_environ(
        AIRFLOW_HOME=str(folder / "home"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_ENABLED="False",
        AIRFLOW__CORE__FERNET_KEY="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        PYTHONPATH=f"{ROOT / 'src'}:{ROOT}",
    )
    if kind == "vault":
        with OpenBao() as bao:
            connection["extra"] |= {"vault_conn_id": "bao", "vault_path": "airflow/soak"}
            environ["AIRFLOW_CONN_SOAK"] = json.dumps(connection)
            extra = {"use_tls": False, "kv_engine_version": 2, "auth_type": "token"}
            where = {"conn_type": "vault", "host": "127.0.0.1", "port": bao.port, "schema": "secret"}
            environ["AIRFLOW_CONN_BAO"] = json.dumps({**where, "password": bao.root_token, "extra": extra})
            yield environ
        return
    with Postgres() as postgres:
        environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = postgres.create_database("airflow")
        if "API" in store:
            # Here, so that a soak of Vault needs nothing of it.
            from tests.integration._store_airflow import FERNET_KEY, ApiServer

            with ApiServer(environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]) as api:
                environ["AIRFLOW__CORE__FERNET_KEY"] = FERNET_KEY
                _define(api.run, connection)
                environ["AIRFLOW_CONN_AIRFLOW_API"] = json.dumps(
                    {"conn_type": "http", "host": api.base_url, "login": "admin", "password": api.passwords["admin"]}
                )
                yield environ
            return
        python = python_of(STORES[store][0])

        def airflow(*words: str) -> str:
            log = folder / f"{words[0]}.log"
            process = Process("airflow", [python, "-m", "airflow", *words], log, environ, cwd=ROOT)
            while process.is_running():
                time.sleep(0.1)
            return log.read_text()

        airflow("db", "migrate")
        _define(airflow, connection)
        yield environ


def _define(airflow: Any, connection: dict[str, Any]) -> None:
    airflow("connections", "add", "soak", "--conn-json", json.dumps(connection))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description="Many processes, many expiries, one grant.")
    parser.add_argument("--store", action="append", choices=list(STORES), help="may be given more than once")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--expiries", type=int, default=40)
    parser.add_argument("--lifetime", type=int, default=3, help="of access tokens, in seconds")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that one store may take")
    chosen = parser.parse_args(arguments)
    results = []
    for store in chosen.store or STORES:
        results.append(soak(store, chosen.processes, chosen.expiries, chosen.lifetime, chosen.limit))
        for failure in results[-1].failures[:3]:
            print(f"{store}: {failure}", file=sys.stderr)
    print(table(HEAD, [result.row for result in results]))
    return 0 if all(result.alive and not result.reuses and not result.failures for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
