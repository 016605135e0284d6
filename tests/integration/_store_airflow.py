"""An API server of any Airflow 3, with users of different rights and a metadata database to look into."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Mapping
from typing import Any

import requests
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text

from scripts.environments import MAIN_AIRFLOW, clean_environ, python_of
from tests.servers.airflow_settings import sqlite_url
from tests.servers.processes import LOOPBACK, Process, Server, free_port, is_listening, wait_until
from tests.servers.record_put import put_record

FERNET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def airflow_environ(home: Any, database: str | None = None, **more: str) -> dict[str, str]:
    """The variables of an Airflow below ``home``, on SQLite unless ``database`` is a URL."""
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or sqlite_url(home),
    }
    return clean_environ(**settings, **more)


class ApiServer(Server):
    """`airflow api-server` on a free port, with the plugin of this package.

    :param database: SQLAlchemy URL; None for SQLite.
    :param airflow: the version, such as "3.1".
    :param more: further environment variables.
    :param apps: what it serves: ``all``, or ``execution`` alone.
    """

    name = "api-server"

    def __init__(
        self,
        database: str | None = None,
        airflow: str = MAIN_AIRFLOW,
        workers: int = 1,
        more: Mapping[str, str] | None = None,
        apps: str = "all",
    ) -> None:
        super().__init__()
        self._more, self._apps = dict(more or {}), apps
        self._database = database
        self._python = python_of(airflow)
        self._workers = workers
        self.passwords = {"admin": secrets.token_hex(8), "viewer": secrets.token_hex(8)}
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def _launch(self) -> None:
        self.port = free_port()
        users = self.folder / "passwords.json"
        users.write_text(json.dumps(self.passwords))
        self.environ = airflow_environ(
            self.folder,
            self._database,
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="admin:admin,viewer:viewer",
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=str(users),
            AIRFLOW__API_AUTH__JWT_SECRET=secrets.token_hex(32),
            AIRFLOW__API_AUTH__JWT_ISSUER="airflow",  # 3.0 has none, which a recent PyJWT refuses
            AIRFLOW__LOGGING__LOGGING_LEVEL="DEBUG",
            **self._more,
        )
        self.run("db", "migrate")
        command = [self._python, "-m", "airflow", "api-server", "--host", LOOPBACK]
        command += ["--port", str(self.port), "--workers", str(self._workers), "--apps", self._apps]
        self.process = Process(self.name, command, self.log, self.environ, cwd=self.folder)
        wait_until(lambda: is_listening(self.port), 240, "the API server listens", self.process)
        if self._apps == "all":
            wait_until(self._is_healthy, 120, "the API server is healthy", self.process)

    def _is_healthy(self) -> bool:
        try:
            return requests.get(f"{self.base_url}/api/v2/monitor/health", timeout=10).ok
        except requests.RequestException:
            return False

    def run(self, *arguments: str) -> str:
        """Run an airflow command beside the server; gives its output."""
        done = self.command(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run an airflow command beside the server, however it ends."""
        command = [str(self._python), "-m", "airflow", *arguments]
        environ = {**self.environ, **more}
        return subprocess.run(command, env=environ, cwd=self.folder, capture_output=True, text=True, timeout=300)

    def token(self, user: str = "admin") -> str:
        """A bearer token for the API, as the store gets one."""
        body = {"username": user, "password": self.passwords[user]}
        answer = requests.post(f"{self.base_url}/auth/token", json=body, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def api(self, method: str, path: str, body: Any = None, user: str = "admin") -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        return requests.request(method, f"{self.base_url}{path}", json=body, headers=headers, timeout=30)

    def define(self, conn_id: str, **members: Any) -> None:
        """Define a connection through the API, as the UI does."""
        body = {"connection_id": conn_id, "conn_type": "oauth2", **members}
        answer = self.api("POST", "/api/v2/connections", body)
        assert answer.ok, answer.text

    def extra(self, conn_id: str) -> str:
        """The extra as the database has it, decrypted."""
        engine = create_engine(self.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        with engine.begin() as transaction:
            query = text("SELECT extra FROM connection WHERE conn_id = :conn_id")
            raw: str = transaction.execute(query, {"conn_id": conn_id}).scalar_one()
        engine.dispose()
        return Fernet(FERNET_KEY).decrypt(raw.encode()).decode()

    def key(self, conn_id: str) -> str:
        """The record key as the database has it."""
        return str(json.loads(self.extra(conn_id))["token_record_key"])

    def put(self, conn_id: str, record: str, if_version: str | None = None, **more: str) -> requests.Response:
        """Write a record as a task does."""
        key = more.pop("key", None) or self.key(conn_id)
        return put_record(self.base_url, conn_id, key, record, if_version, **more)

    def __repr__(self) -> str:
        return f"ApiServer({self.base_url})"
