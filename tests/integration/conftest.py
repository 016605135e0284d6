"""The real servers, each started with the first test that asks for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.environments import ROOT, python_of
from tests.integration._store_airflow import airflow_environ
from tests.servers.fixtures import (
    authorization_server,
    aws_server,
    django_server,
    mtls_authorization_server,
    openbao,
    postgres,
    scripted_server,
    scripted_tls_server,
    sealable_openbao,
)
from tests.servers.postgres import Postgres

__all__ = [
    "authorization_server",
    "aws_server",
    "django_server",
    "mtls_authorization_server",
    "openbao",
    "postgres",
    "scripted_server",
    "scripted_tls_server",
    "sealable_openbao",
]


class Airflow2Database:
    """Airflow 2.11 on a PostgreSQL of its own, without any of its services."""

    def __init__(self, postgres: Postgres, home: Path) -> None:
        self.postgres = postgres
        more = {"AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_ENABLED": "False", "PYTHONPATH": str(ROOT)}
        self.environ = airflow_environ(home, postgres.create_database("airflow"), **more)
        self.run("-m", "airflow", "db", "migrate")

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs Python there."""
        return [str(python_of("2.11")), "-W", "ignore", *arguments]

    def run(self, *arguments: str) -> str:
        """Run Python there; gives what it prints."""
        done = subprocess.run(
            self.command(*arguments), env=self.environ, cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="session")
def airflow_2_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow2Database]:
    """A test that pauses its PostgreSQL leaves it running."""
    with Postgres() as server:
        yield Airflow2Database(server, tmp_path_factory.mktemp("airflow-2"))
