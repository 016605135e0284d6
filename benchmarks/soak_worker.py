"""What a soak runs: many processes that all use one connection. Started by ``benchmarks.soak``, on any Airflow.

It imports everything once and then forks, so that fifty processes cost little more than one. As tasks do, the processes
come and go: each ends after a while, and another one takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: Seconds that a process lives, at the least and at the most.
LIVES = (10.0, 90.0)


def main() -> int:
    plan: dict[str, Any] = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    # Imported before the first fork, since the Vault store would import it in each process.
    import hvac  # noqa: F401

    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

    if plan["as_task"]:
        _reach_stores_as_a_task_does()
    stop = Path(plan["folder"]) / "stop"
    children: set[int] = set()
    number = 0
    worst = 0
    while children or not stop.exists():
        while len(children) < plan["processes"] and not stop.exists():
            children.add(_start(OAuth2Hook, plan, number))
            number += 1
        pid, status = os.wait()
        children.discard(pid)
        worst = max(worst, os.waitstatus_to_exitcode(status))
    return worst


def _start(hook_class: Any, plan: dict[str, Any], number: int) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            use(hook_class, plan, number)
            code = 0
        finally:
            os._exit(code)
    return pid


def _reach_stores_as_a_task_does() -> None:
    """Take the ways that a task of Airflow 3 has; only the connection is read from the database beside it."""
    from airflow_oauth_provider.compat import supervisor
    from airflow_oauth_provider.stores import variable

    supervisor.has_database = lambda: False
    variable.supervisor = SimpleNamespace(**{**vars(supervisor), "on_task_sdk": lambda: True})  # type: ignore[assignment]


def use(hook_class: Any, plan: dict[str, Any], number: int) -> None:
    """Use the connection for a while, and write down how it went."""
    random.seed(number)
    folder = Path(plan["folder"])
    (folder / f"{number}.begun").touch()
    times: list[float] = []
    failures: list[str] = []
    calls = 0
    hook = None
    # The first ones differ as much as those that come later, or all would end together.
    ends = time.monotonic() + random.uniform(*LIVES)
    while not (folder / "stop").exists() and time.monotonic() < ends:
        if hook is None or random.random() < 0.05:
            hook = hook_class("soak")
        with _slot(folder) if plan["pool"] else contextlib.nullcontext():
            if (folder / "stop").exists():
                break
            began = time.monotonic()
            try:
                hook.get_access_token()
                times.append(time.monotonic() - began)
                answer = hook.get_conn().get(plan["api_url"])
                calls += 1
                if answer.status_code != 200:
                    failures.append(f"status {answer.status_code}")
            except Exception as error:  # noqa: BLE001 - counted and shown
                failures.append(f"{type(error).__name__}: {error}"[:300])
                hook = None
        time.sleep(random.uniform(0.1, 0.5))
    result = {"times": times, "failures": failures, "calls": calls}
    (folder / f"{number}.json").write_text(json.dumps(result))


@contextlib.contextmanager
def _slot(folder: Path) -> Iterator[None]:
    """Take the one slot of a pool: who has it is the only one at work."""
    with (folder / "slot").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
