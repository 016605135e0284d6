"""Worker processes of which a test waits for an outcome, reads the log, and looks whether others go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.environments import ROOT
from tests.integration._worker import work
from tests.servers.processes import wait_until
from tests.servers.scripted import ScriptedServer


class Worker:
    """A process that runs ``tests.integration._worker.work``.

    :param report: where its outcome goes; its log lies beside it.
    :param pid: its number.
    """

    def __init__(self, report: Path, pid: int) -> None:
        self.report = report
        self.log = report.with_suffix(".log")
        self.pid = pid

    def has_ended(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def outcome(self) -> dict[str, Any]:
        wait_until(self.has_ended, 240, "the worker ends")
        assert self.report.exists(), self.log.read_text()[-3000:]
        found: dict[str, Any] = json.loads(self.report.read_text())
        return found

    def says(self, what: str) -> None:
        """Wait until its log has ``what``; it must still be at work then."""
        wait_until(lambda: self.has_ended() or (self.log.exists() and what in self.log.read_text()), 120, what)
        assert not self.has_ended(), self.log.read_text()[-3000:]

    def kill(self) -> None:
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)
            wait_until(self.has_ended, 30, "the worker is gone")


class Forked(Worker):
    """A fork of this process."""

    def __init__(self, report: Path, force: bool, gate: Path | None) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                work(report, force, gate)
            finally:
                os._exit(0)
        super().__init__(report, pid)
        self._is_reaped = False

    def has_ended(self) -> bool:
        self._is_reaped = self._is_reaped or os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        return self._is_reaped


class ForkServer:
    """Starts workers on another Airflow, which it imports once.

    :param command: ``python -m tests.integration._worker`` of that Airflow.
    """

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._popen = subprocess.Popen(
            command, env=environ, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self, report: Path, force: bool, gate: Path | None) -> Worker:
        assert self._popen.stdin is not None  # for the type checker, here and below
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps([str(report), force, str(gate) if gate else None]) + "\n")
        self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        while not line.startswith("worker "):  # Airflow 2.11 logs to the standard output
            assert line, "the fork server has ended"
            line = self._popen.stdout.readline()
        return Worker(report, int(line.split()[1]))

    def close(self) -> None:
        self._popen.kill()
        self._popen.communicate()


def check_others_go_on(
    server: ScriptedServer,
    start: Callable[..., Worker],
    token: str | None,
    *,
    recovering: bool,
    store: str,
) -> None:
    """One more process takes what was kept, and the one after it refreshes once more.

    :param start: starts a worker; ``force`` goes on to it.
    :param token: mark of what the former worker was given; None where it did not live to tell.
    :param recovering: the store has the former worker's lease and not its tokens.
    :param store: the kind of store in which the tokens are in the end.
    """
    spends = server.spends
    found = start(force=recovering).outcome()
    assert (found.get("action"), found.get("generation"), found.get("api")) == ("reused", 2, 200), found
    assert token in (None, found["token"])
    assert server.spends == spends, "nobody had to spend anything"
    later = start(force=True).outcome()
    assert (later.get("action"), later.get("api"), later.get("store")) == ("refreshed", 200, store), later
    assert server.spends == spends + 1
    assert server.reuses == 0
    assert server.grants.grants_alive() == 1
