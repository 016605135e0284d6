"""What a soak runs: many processes that all use one connection. Started by ``benchmarks.soak``, on any Airflow.

It imports everything once and then forks, so that fifty processes cost little more than one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    plan: dict[str, Any] = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

    # In a task of Airflow 3 the connection is read from the supervisor; here, from the database beside it.
    if plan["by_api"]:
        from airflow_oauth_provider.stores import factory
        from airflow_oauth_provider.stores.connection_api import ApiConnectionStore

        factory._connection_store = lambda conn_id, connection, api: ApiConnectionStore(conn_id, api, first=connection)

    children = []
    for number in range(plan["processes"]):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                use(OAuth2Hook, plan, number)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


def use(hook_class: Any, plan: dict[str, Any], number: int) -> None:
    """Use the connection until the soak is over, and write down how it went."""
    random.seed(number)
    folder = Path(plan["folder"])
    times: list[float] = []
    failures: list[str] = []
    calls = 0
    hook = None
    while not (folder / "stop").exists():
        if hook is None or random.random() < 0.05:
            hook = hook_class("soak")
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


if __name__ == "__main__":
    sys.exit(main())
