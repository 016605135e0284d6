"""What all test servers have in common: a port, a process with a log, a wait until it is healthy, an end.

A process is started in a session of its own and ended by the ids of that session's processes, never by a name.
Should this Python be killed before it could end them, the reaper (`tests.servers.reaper`) ends them and removes their
folders.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.environments import clean_environ
from tests.servers import reaper

LOOPBACK = "127.0.0.1"


class ServerError(RuntimeError):
    """A part of the test servers did not start, did not answer or ended by itself."""


def free_port() -> int:
    """A loopback port that nobody listens on. Another may take it first: `Server.start` then tries again."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def wait_until(
    condition: Callable[[], object], timeout: float, what: str, process: Process | None = None, every: float = 0.05
) -> None:
    """Wait until `condition()` is true; at once an error when `process` ends meanwhile."""
    deadline = time.monotonic() + timeout
    while not condition():
        if process is not None and not process.is_running():
            raise ServerError(
                f"{process.name} ended (exit code {process.exit_code}) before {what}.\n{process.log_tail()}"
            )
        if time.monotonic() > deadline:
            log = f"\n{process.log_tail()}" if process else ""
            raise ServerError(f"Waited {timeout:g} s in vain: {what}.{log}")
        time.sleep(every)


class Process:
    """One running program with all that it starts."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(clean_environ() if environ is None else environ),
                cwd=cwd,
                user=user,
                extra_groups=[] if user else None,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self._family: list[tuple[int, str]] = []
        _running.append(self)
        _reaper.tell(f"+{self.pid} {reaper.started_at(self.pid)}")

    def is_running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program itself."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def ask_to_stop(self) -> None:
        """Begin to end it, without waiting; `stop` is still needed."""
        self._family += reaper.family(self.pid)
        self.send(signal.SIGTERM)

    def stop(self, grace: float = 10, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask the program to end, and after `grace` seconds end it and all that it started."""
        # Once their parent is gone, nobody knows whose children they were.
        self._family += reaper.family(self.pid)
        self.send(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace)
        reaper.end_session(self.pid)
        reaper.end(self._family)
        self._popen.wait(10)
        if self in _running:
            _running.remove(self)
            _reaper.tell(f"-{self.pid}")

    def kill(self) -> None:
        """End it without asking, as a power cut would."""
        self.stop(grace=0, how=signal.SIGKILL)


class Server:
    """A server that lives for the length of a `with` block, in a temporary folder of its own."""

    name = "server"

    def __init__(self) -> None:
        self._folder: Path | None = None
        self.process: Process | None = None

    @property
    def folder(self) -> Path:
        """The temporary folder: data and logs. It goes when the server stops, unless TEST_KEEP is set."""
        if self._folder is None:
            self._folder = temporary_folder(self.name)
        return self._folder

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> Self:
        """Start and wait until healthy; once more on other ports when another took one of the chosen ports."""
        attempts = 3
        for attempt in range(1, attempts + 1):
            try:
                self._launch()
            except ServerError:
                taken = "in use" in (self.process.log_text().lower() if self.process else "")
                self._end()
                if taken and attempt < attempts:
                    continue
                self.stop()
                raise
            except BaseException:
                self.stop()
                raise
            break
        return self

    def stop(self) -> None:
        """Stop the processes and remove the folder. A second call does nothing."""
        try:
            self._end()
        finally:
            if self._folder is not None:
                remove_folder(self._folder)
                self._folder = None

    def _launch(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def temporary_folder(name: str) -> Path:
    """A new folder that is removed at the end, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=f"test-{name}-"))
    _reaper.tell(f"d{folder}")
    return folder


def remove_folder(folder: Path) -> None:
    if os.environ.get("TEST_KEEP"):
        print(f"kept {folder}", file=sys.stderr)
        return
    shutil.rmtree(folder, ignore_errors=True)


class _Reaper:
    """The connection to the reaper process, which is started with the first line told to it."""

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def tell(self, line: str) -> None:
        if os.getpid() != self._owner:  # in a fork: the parent looks after what it started
            return
        if self._popen is None:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__],
                stdin=subprocess.PIPE,
                start_new_session=True,
                env=clean_environ(),
            )
        assert self._popen.stdin is not None  # for the type checker: it was asked for above
        self._popen.stdin.write(f"{line}\n".encode())
        self._popen.stdin.flush()

    def close(self) -> None:
        if self._popen is not None and self._popen.stdin is not None and os.getpid() == self._owner:
            self._popen.stdin.close()
            self._popen.wait(10)
            self._popen = None


_reaper = _Reaper()
_running: list[Process] = []


@atexit.register
def _stop_all() -> None:
    if os.getpid() != _reaper._owner:
        return
    for process in reversed(_running.copy()):
        process.stop(grace=2)
    _reaper.close()
