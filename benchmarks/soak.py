"""`make soak`: many processes, many expiries, one grant on a server that revokes it at the first reuse.

    make soak                                                     # a quarter of an hour, all stores
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

from scripts.environments import ROOT, clean_environ, python_of
from scripts.report import table
from tests.servers.openbao import OpenBao
from tests.servers.postgres import Postgres
from tests.servers.processes import Process, remove_folder, temporary_folder
from tests.servers.scripted import ScriptedProcess


@dataclass(frozen=True)
class Place:
    """Where the tokens of a soak live.

    :param airflow: the Airflow version of the workers.
    :param store: the connection's ``store``.
    :param lifetime: of access tokens, in seconds; longer where taking a lease takes long.
    :param as_task: workers reach the store only as a task of Airflow 3 does: over the API server's route, or, for a
        variable, without compare-and-set.
    :param pool: workers share a pool with one slot.
    :param kv_version: of Vault's secrets engine.
    """

    airflow: str
    store: str
    lifetime: int = 4
    as_task: bool = False
    pool: bool = False
    kv_version: int = 2


#: What can be soaked.
STORES = {
    "vault": Place("3.3", "vault"),
    "connection (2.11, ORM)": Place("2.11", "connection", lifetime=6),
    "connection (3.3, API server)": Place("3.3", "connection", lifetime=6, as_task=True),
    "variable (2.11, ORM)": Place("2.11", "variable"),
    "variable (3.3)": Place("3.3", "variable", lifetime=10, as_task=True),
    "variable (3.3), pool of one slot": Place("3.3", "variable", lifetime=10, as_task=True, pool=True),
    "vault, KV v1": Place("3.3", "vault", lifetime=10, kv_version=1),
    "vault, KV v1, pool of one slot": Place("3.3", "vault", lifetime=10, pool=True, kv_version=1),
}
#: Seconds between two lines that say how far it is.
SHOW_EVERY = 60
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


def soak(store: str, processes: int, expiries: int, lifetime: int | None = None, limit: float = 1800.0) -> Result:
    """Let ``processes`` use one connection until its access token has expired ``expiries`` times.

    :param store: one of ``STORES``.
    :param lifetime: of access tokens, in seconds; None for the store's own.
    :param limit: seconds after which the soak ends whatever it has seen.
    """
    place = STORES[store]
    lifetime = lifetime or place.lifetime
    folder = temporary_folder("soak")
    folder.chmod(0o755)
    try:
        with ScriptedProcess(lifetime=lifetime, pages=1) as server, _home(place, server, folder, lifetime) as environ:
            before = server.stats()["spends"]
            plan = {
                "processes": processes, "folder": str(folder), "api_url": f"{server.api_url}/items",
                "as_task": place.as_task, "pool": place.pool,
            }  # fmt: skip
            command: list[str | Path] = [python_of(place.airflow), "-m", "benchmarks.soak_worker", json.dumps(plan)]
            workers = Process("soak", command, folder / "workers.log", environ, cwd=ROOT)
            ends = time.monotonic() + limit
            # Each refresh but the first answers to an expiry.
            shown = time.monotonic()
            while (seen := server.stats()["spends"] - before) <= expiries:
                if time.monotonic() > ends or not workers.is_running():
                    break
                if time.monotonic() - shown > SHOW_EVERY:
                    shown = time.monotonic()
                    print(f"{store}: {seen} of {expiries + 1} refreshes", file=sys.stderr)
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
        _add_reports(result, folder)
        return result
    finally:
        remove_folder(folder)


def _add_reports(result: Result, folder: Path) -> None:
    for begun in folder.glob("*.begun"):
        path = begun.with_suffix(".json")
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
def _home(place: Place, server: ScriptedProcess, folder: Path, lifetime: int) -> Iterator[dict[str, str]]:
    """Make the store, define the connection, and give the environment of the workers."""
    connection: dict[str, Any] = {
        "conn_type": "oauth2",
        "host": server.url,
        "login": server.client_id,
        "password": server.client_secret,
        "extra": {
            "oauth_url": server.token_url,
            "refresh_token": server.issue(),
            "leeway": lifetime // 3,
            "timeout": 10,
            "store": place.store,
        },
    }
    environ = clean_environ(
        AIRFLOW_HOME=str(folder / "home"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_ENABLED="False",
        AIRFLOW__CORE__FERNET_KEY="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        PYTHONPATH=str(ROOT),
    )
    if place.store == "vault":
        with OpenBao() as bao:
            bao.mount_kv("soak", version=place.kv_version)
            connection["extra"] |= {"vault_path": "airflow/oauth2/soak"}
            environ["AIRFLOW_CONN_SOAK"] = json.dumps(connection)
            extra = {"use_tls": False, "kv_engine_version": place.kv_version, "auth_type": "token"}
            where = {"conn_type": "vault", "host": "127.0.0.1", "port": bao.port, "schema": "soak"}
            environ["AIRFLOW_CONN_VAULT_DEFAULT"] = json.dumps({**where, "password": bao.root_token, "extra": extra})
            yield environ
        return
    with Postgres() as postgres:
        environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = postgres.create_database("airflow")
        if place.as_task and place.store == "connection":
            # Here, so that a soak of Vault needs nothing of it.
            from tests.integration._store_airflow import FERNET_KEY, ApiServer

            with ApiServer(environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]) as api:
                environ["AIRFLOW__CORE__FERNET_KEY"] = FERNET_KEY
                _define(api.run, connection)
                environ["AIRFLOW__OAUTH2__API_URL"] = api.base_url
                yield environ
            return
        python = python_of(place.airflow)

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
    parser.add_argument("--expiries", type=int, default=20)
    parser.add_argument("--lifetime", type=int, help="of access tokens, in seconds, in place of the store's own")
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
