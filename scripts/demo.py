"""Watch refresh tokens rotate: `make demo`.

Starts an authorization server with the API that it protects, OpenBao and an Airflow, all real and on free
loopback ports; signs in; runs the quick-start DAG on each token store a few times; shows what became of the
tokens; stops everything. Of a token only a fingerprint is ever shown.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.environments import ROOT, NotSetUpError, airflow_version_of
from scripts.report import change, errors_in, fingerprint, table
from scripts.scene import STORES, Kept, Scene, example_dag
from tests.servers.airflow import AirflowInstance
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.openbao import OpenBao
from tests.servers.processes import ServerError

QUICKSTART = ROOT / "example_dags" / "quickstart.py"
LIFETIME = 8
"""Seconds that an access token lives: short, so that each run of a DAG needs a new one."""
ITEMS = 10
"""How many items the API gives when it is asked once."""


@dataclass(frozen=True)
class Run:
    """One run of the DAG on one store, and the store before and after it."""

    store: str
    number: int
    before: Kept
    after: Kept
    items: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Watch refresh tokens rotate.")
    parser.add_argument("--runs", type=int, default=3, help="how often the DAG runs on each store (3)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        demonstrate(options.runs)
    except (ServerError, NotSetUpError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 0


def demonstrate(runs: int) -> None:
    began = time.monotonic()
    say("A rotating refresh token can be spent once: each refresh returns the next one and kills the last.")
    say("This authorization server revokes the whole grant when one is spent twice. Watch that not happen.\n")
    say(f"The DAG, as it stands in {QUICKSTART.relative_to(ROOT)}, on each of the stores {', '.join(STORES)}:\n")
    source = QUICKSTART.read_text()
    say(textwrap.indent(source[source.index("with DAG") :], "    "))
    with contextlib.ExitStack() as stack:
        scene = set_up(stack)
        history = [run for number in range(1, runs + 1) for run in one_round(scene, number)]
        counts = scene.server.stats()
        with step("Stopping everything"):
            stack.close()
    show(history, counts)
    check(history, counts)
    say(f"\nDone in {time.monotonic() - began:.0f} s.")


def set_up(stack: contextlib.ExitStack) -> Scene:
    """Start the servers, sign in, tell Airflow; `stack` stops what was started."""
    with step("Starting oidc-provider (authorization server and protected API) and OpenBao (Vault)"):
        server = stack.enter_context(AuthorizationServer(access_token_lifetime=LIFETIME))
        bao = stack.enter_context(OpenBao())
    with step(f"Starting Airflow {airflow_version_of('3.3')}: API server, scheduler, DAG processor"):
        dags = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="test-dags-")))
        for store in STORES:
            name, source = example_dag("quickstart", conn_id(store))
            (dags / f"{name}.py").write_text(source)
        components = ("api-server", "scheduler", "dag-processor")
        airflow = stack.enter_context(AirflowInstance(dags_folder=dags, components=components))
    scene = Scene(airflow, server, bao)
    with step("Signing in once for each store (authorization-code flow with PKCE) and adding the connections"):
        scene.connect_stores()
        for store in STORES:
            scene.connect(conn_id(store), store)
    return scene


def conn_id(store: str) -> str:
    return f"demo_{store}"


def dag_id(store: str) -> str:
    return example_dag("quickstart", conn_id(store))[0]


def one_round(scene: Scene, number: int) -> list[Run]:
    """Run the DAG on each store, at the same time."""
    before = {store: scene.kept(conn_id(store)) for store in STORES}
    newest = max((kept.expires_at or 0 for kept in before.values()), default=0)
    if (wait := newest - time.time()) > 0:
        with step(f"Waiting until the access tokens have expired ({wait:.0f} s)"):
            time.sleep(wait)
    with step(f"Run {number}: the DAG quickstart, refresh and then fetch, on {', '.join(STORES)}"):
        runs = {store: scene.airflow.trigger(dag_id(store)) for store in STORES}
        return [finish(scene, store, number, runs[store], before[store]) for store in STORES]


def finish(scene: Scene, store: str, number: int, run_id: str, before: Kept) -> Run:
    airflow, dag = scene.airflow, dag_id(store)
    if airflow.wait(dag, run_id) != "success":
        raise ServerError(f"run {number} on the store {store!r} failed.\n{why(airflow, dag, run_id)}")
    return Run(store, number, before, scene.kept(conn_id(store)), len(scene.fetched(dag, run_id)))


def why(airflow: AirflowInstance, dag: str, run_id: str) -> str:
    """Give what the tasks that did not succeed have logged as errors."""
    states = airflow.task_states(dag, run_id)
    failed = [task for task, state in states.items() if state == "failed"]
    if not failed:
        return airflow.explain(dag, run_id)
    return "\n".join(f"Task {task}: {errors_in(airflow.task_log(dag, run_id, task))}" for task in failed)


def show(history: Sequence[Run], counts: dict[str, int]) -> None:
    head = ("Store", "Run", "Refreshes so far", "Refresh token", "Access token until", "Items fetched")
    rows = [row_of(run) for store in STORES for run in history if run.store == store]
    say("\nTokens by their fingerprints; a refresh token is replaced each time it is spent:\n")
    say(table(head, rows))
    if any(run.after.generation - run.before.generation > 1 for run in history):
        say(f"\nWhere a run took longer than its access token lives ({LIFETIME} s), the second task refreshed too.")
    say(
        f"\nWhat the authorization server counted: {counts['spends']} refreshes, "
        f"{counts['reuses']} refresh tokens spent twice, {counts['grants_revoked']} grants lost."
    )


def row_of(run: Run) -> tuple[Any, ...]:
    before, after = (fingerprint(kept.refresh_token or "") for kept in (run.before, run.after))
    expires = time.strftime("%H:%M:%S", time.localtime(run.after.expires_at))
    generations = change(run.before.generation, run.after.generation)
    return (run.store, run.number, generations, change(before, after), expires, run.items)


def check(history: Sequence[Run], counts: dict[str, int]) -> None:
    """Fail unless what was shown is what was promised."""
    for run in history:
        if run.after.generation <= run.before.generation or run.after.refresh_token == run.before.refresh_token:
            raise ServerError(f"run {run.number} on the store {run.store!r} did not rotate the refresh token")
        if run.items != ITEMS:
            raise ServerError(f"run {run.number} on the store {run.store!r} fetched {run.items} items, not {ITEMS}")
    refreshes = sum(run.after.generation - run.before.generation for run in history)
    if counts["spends"] != refreshes or counts["reuses"] or counts["grants_revoked"]:
        raise ServerError(f"the stores know of {refreshes} refreshes, the authorization server says {counts}")


def say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and then how long it took."""
    began = time.monotonic()
    print(f"- {what} ...", end="", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f" {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
