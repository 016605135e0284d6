"""A supervisor as a task of Airflow 3 sees it, and a metadata database in a file: neither needs a server."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms as messages
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, insert, select, update

from airflow_oauth_provider.compat import database as metadata
from airflow_oauth_provider.stores.sealed_record import ConnectionKeys
from airflow_oauth_provider.tokens.record import Lease, Record

TASK_RUNNER = "airflow.sdk.execution_time.task_runner"
KEY = Fernet.generate_key()
#: What the connection of most tests has to seal its record with.
KEYS = ConnectionKeys((("client_secret", "client-secret"), ("refresh_token", "entered-secret")))


def record(generation: int = 1, owner: str | None = None, **more: Any) -> Record:
    """A record with recognizable tokens, leased where ``owner`` is given."""
    lease = Lease(owner, 60.0, 1_000.0) if owner else None
    tokens = {"access_token": f"access-secret-{generation}", "refresh_token": f"refresh-secret-{generation}"}
    return Record(generation=generation, lease=lease, **{**tokens, **more})


class Supervisor:
    """Answers as the supervisor and the API server behind it do.

    ``fail`` is asked before each answer: it gives None, an ErrorResponse to answer with, or an exception to raise.
    """

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.connections: dict[str, dict[str, Any]] = {}
        self.shadows: dict[str, str] = {}  # what the API server's environment has
        self.log: list[Any] = []
        self.fail: Callable[[Any], Any] = lambda _message: None

    def asked(self, kind: str) -> list[Any]:
        return [message for message in self.log if type(message).__name__ == kind]

    def send(self, message: Any) -> Any:
        self.log.append(message)
        trouble = self.fail(message)
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            return trouble
        return getattr(self, f"_{type(message).__name__}")(message)

    def _MaskSecret(self, _message: Any) -> None:  # noqa: N802 - named after the message
        return None

    def _GetVariable(self, message: Any) -> Any:  # noqa: N802
        value = self.shadows.get(message.key, self.variables.get(message.key))
        if value is None:
            return messages.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": message.key})
        return messages.VariableResult(key=message.key, value=value)

    def _GetVariableKeys(self, message: Any) -> Any:  # noqa: N802
        keys = sorted(key for key in self.variables if key.startswith(message.prefix))[: message.limit]
        return messages.VariableKeysResult(keys=keys, total_entries=len(keys))

    def _PutVariable(self, message: Any) -> Any:  # noqa: N802
        self.variables[message.key] = message.value

    def _DeleteVariable(self, message: Any) -> Any:  # noqa: N802
        self.variables.pop(message.key, None)
        return messages.OKResponse(ok=True)

    def _GetConnection(self, message: Any) -> Any:  # noqa: N802
        if message.conn_id not in self.connections:
            detail = {"conn_id": message.conn_id}
            return messages.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail=detail)
        fields = dict.fromkeys(("host", "login", "password", "schema", "port", "extra"))
        return messages.ConnectionResult(conn_id=message.conn_id, **{**fields, **self.connections[message.conn_id]})


def server_error(status: int = 500) -> AirflowRuntimeError:
    """What ``send`` raises when the API server failed."""
    detail = {"status_code": status, "message": "Server error with refresh-secret-1"}
    return AirflowRuntimeError(messages.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


def put_in_task(monkeypatch: pytest.MonkeyPatch, comms: Any = None) -> Any:
    """Make this process look like a task whose supervisor is ``comms``; gives ``comms``."""
    comms = Supervisor() if comms is None else comms
    if TASK_RUNNER not in sys.modules:
        monkeypatch.setitem(sys.modules, TASK_RUNNER, types.ModuleType(TASK_RUNNER))
    monkeypatch.setattr(sys.modules[TASK_RUNNER], "SUPERVISOR_COMMS", comms, raising=False)
    return comms


class _RealFernet(Fernet):
    is_encrypted = True


class Database:
    """Airflow's two tables in a SQLite file."""

    def __init__(self, folder: Path) -> None:
        from airflow.models.connection import Connection
        from airflow.models.variable import Variable

        self.engine = create_engine(f"sqlite:///{folder}/airflow.db", connect_args={"timeout": 30})
        self.connections, self.variables = Connection.__table__, Variable.__table__
        for table in (self.connections, self.variables):
            # Without the foreign keys to Airflow's other tables.
            with self.engine.begin() as transaction:
                columns = ", ".join(
                    f"{column.name} INTEGER PRIMARY KEY" if column.primary_key else f"{column.name} TEXT"
                    for column in table.columns
                )
                unique = "conn_id" if table is self.connections else "key"
                transaction.exec_driver_sql(f"CREATE TABLE {table.name} ({columns}, UNIQUE ({unique}))")
        self.fernet = _RealFernet(KEY)

    def add_connection(self, conn_id: str, extra: str | None) -> None:
        raw = None if extra is None else self.fernet.encrypt(extra.encode()).decode()
        with self.engine.begin() as transaction:
            row = {"conn_id": conn_id, "conn_type": "oauth2", "extra": raw, "is_extra_encrypted": raw is not None}
            transaction.execute(insert(self.connections).values(is_encrypted=False, **row))

    def raw_extra(self, conn_id: str) -> str | None:
        query = select(self.connections.c.extra).where(self.connections.c.conn_id == conn_id)
        with self.engine.begin() as transaction:
            return transaction.execute(query).scalar_one()

    def extra(self, conn_id: str) -> str | None:
        raw = self.raw_extra(conn_id)
        return None if raw is None else self.fernet.decrypt(raw.encode()).decode()

    def set_extra(self, conn_id: str, extra: str) -> None:
        """Overwrite without comparing, as Airflow's form does."""
        raw = self.fernet.encrypt(extra.encode()).decode()
        statement = update(self.connections).where(self.connections.c.conn_id == conn_id).values(extra=raw)
        with self.engine.begin() as transaction:
            transaction.execute(statement)


@contextmanager
def database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Make ``compat.database`` find a metadata database below ``folder``."""
    made = Database(folder)
    monkeypatch.setattr(metadata, "metadata_engine", lambda: made.engine)
    monkeypatch.setattr(metadata, "get_fernet", lambda: made.fernet)
    yield made
    made.engine.dispose()
