"""An Airflow home without any server, and commands run in it: what the command line of a deployment sees."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

from scripts.environments import MAIN_AIRFLOW, clean_environ, python_of
from tests.servers.airflow_settings import sqlite_url
from tests.servers.prepared_python import PreparedPython
from tests.servers.processes import remove_folder, temporary_folder

FERNET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ROOT = Path(__file__).resolve().parents[2]

_ADD_CONNECTIONS = """
import json, sys
from airflow import settings
from airflow.models.connection import Connection
session = settings.Session()
for conn_id, parts in json.load(sys.stdin).items():
    session.query(Connection).filter(Connection.conn_id == conn_id).delete()
    extra = json.dumps(parts.pop("extra", {}))
    session.add(Connection(conn_id=conn_id, extra=extra, **parts))
session.commit()
"""
_USE = """
import json, sys
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.connection.loader import ConnectionLoader
answer = OAuth2Hook(sys.argv[1], method="GET").run("/items", data={"page": 1})
record = ConnectionLoader(sys.argv[1]).load().record
print("RESULT " + json.dumps({"status": answer.status_code, **json.loads(record.to_json())}))
"""


class Home:
    """A migrated metadata database on SQLite; ends with ``with``."""

    def __init__(self, version: str = MAIN_AIRFLOW) -> None:
        self.folder = Path(temporary_folder("airflow-home"))
        self.python = str(python_of(version))
        self.environ = clean_environ(
            AIRFLOW_HOME=str(self.folder),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__CORE__UNIT_TEST_MODE="False",
            AIRFLOW__CORE__FERNET_KEY=FERNET_KEY,
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite_url(self.folder),
            AIRFLOW__LOGGING__LOGGING_LEVEL="DEBUG",
            PYTHONPATH=os.pathsep.join(
                [os.environ.get("PYTHONPATH", "")] if "PYTHONPATH" in os.environ else [str(ROOT)]
            ),
            BROWSER="true",
        )
        self._prepared: PreparedPython | None = None

    def __enter__(self) -> Self:
        self.run("-m", "airflow", "db", "migrate").check_returncode()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        remove_folder(self.folder)

    def _stop(self) -> None:
        if self._prepared is not None:
            self._prepared.stop()

    def command_line(self, *arguments: str) -> list[str]:
        """Python with these arguments, in a process that has imported Airflow already."""
        if self._prepared is None or self._prepared.environ != self.environ:
            self._stop()
            self._prepared = PreparedPython(
                self.python, self.environ, self.folder, ["airflow.models", "airflow.providers.http.hooks.http"]
            ).start()
        return self._prepared.command(*arguments)

    def run(self, *arguments: str, stdin: str = "", prepared: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python in this home; not `prepared`: from the start, as a person does."""
        return subprocess.run(
            self.command_line(*arguments) if prepared else [self.python, *arguments],
            env=self.environ,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def command(self, *arguments: str, prepared: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``python -m airflow_oauth_provider``."""
        return self.run("-m", "airflow_oauth_provider", *arguments, prepared=prepared)

    def add_connections(self, **connections: dict[str, Any]) -> None:
        done = self.run("-c", _ADD_CONNECTIONS, stdin=json.dumps(connections))
        assert done.returncode == 0, done.stderr

    def use(self, conn_id: str) -> dict[str, Any]:
        """Call the API as DAG code does, and give the status and the record that the store holds afterwards."""
        done = self.run("-c", _USE, conn_id)
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert found, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(found[0].removeprefix("RESULT "))
        return result


class Running:
    """A command that runs, line by line."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in finish()
        self.process = subprocess.Popen(
            home.command_line("-m", "airflow_oauth_provider", *arguments),
            env=home.environ,
            cwd=home.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.output = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self, beginning: str, timeout: float = 60) -> str:
        """Wait for the line that begins so."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=0.1)
            except queue.Empty:
                if self.process.poll() is not None and self._lines.empty():
                    break
                continue
            self.output += line
            if line.strip().startswith(beginning):
                return line.strip()
        raise AssertionError(f"no line {beginning!r} in: {self.finish(5)}")

    def finish(self, timeout: float = 60) -> tuple[int, str]:
        """Wait for its end; gives the exit code and all it has printed."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._thread.join(5)
        while not self._lines.empty():
            self.output += self._lines.get()
        self._errors.seek(0)
        text = self.output + self._errors.read()
        self._errors.close()
        return code, text
