"""One worker process: it gets a token by the hook, calls the API with it, and writes down how that went.

Forked by tests; ``python -m tests.integration._worker`` forks one, on any Airflow, for each line that it is sent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from airflow_oauth_provider.compat import database
from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.tokens import manager
from airflow_oauth_provider.tokens.clock import SystemClock

CONN_ID = "xero"
#: Seconds that a wait takes at the least, so that a long outage is over after a few tries: each is a real request.
LEAP = 5.0


class WaitingClock(SystemClock):
    """Time passes while the worker waits and at no other time, so that no load of the machine changes an outcome.

    :param gate: a file; every wait lasts until it is there. None: waits take no time.
    """

    def __init__(self, gate: Path | None) -> None:
        self._gate = gate
        self._waited = 0.0

    def elapsed(self) -> float:
        return self._waited

    def sleep(self, seconds: float) -> None:
        self._waited += max(seconds, LEAP)
        ends = time.monotonic() + 120
        while self._gate is not None and not self._gate.exists() and time.monotonic() < ends:
            time.sleep(0.02)


def work(report: Path, force: bool, gate: Path | None = None) -> None:
    """Do what a task does.

    :param report: where the outcome goes, as JSON without secrets; the log goes beside it, unmasked.
    :param force: refresh although the token is fresh.
    :param gate: see :class:`WaitingClock`.
    """
    logging.basicConfig(level=logging.DEBUG, filename=report.with_suffix(".log"), force=True)
    database.metadata_engine().dispose(close=False)  # a fork must not use its parent's connections
    clock = WaitingClock(gate)
    manager.SystemClock = lambda: clock  # type: ignore[assignment,misc]
    hook = OAuth2Hook(CONN_ID, method="GET")
    try:
        outcome = hook.refresh(force).as_dict()
        token = hook.get_access_token()
        outcome["token"] = hashlib.sha256(token.encode()).hexdigest()[:12]
        outcome["api"] = hook.run("items").status_code
    except OAuth2Error as error:
        outcome = {"error": type(error).__name__, "text": str(error)}
    unfinished = report.with_suffix(".tmp")
    unfinished.write_text(json.dumps(outcome))
    unfinished.replace(report)


def serve() -> None:
    """Start a worker for each line of the standard input, a JSON list of the arguments, and print its number."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        report, force, gate = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                work(Path(report), force, Path(gate) if gate else None)
            finally:
                os._exit(0)
        sys.stdout.write(f"worker {pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
