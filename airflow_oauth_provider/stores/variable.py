"""Tokens in an Airflow variable: needs nothing, but has no compare-and-set on Airflow 3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from airflow_oauth_provider.compat import database, supervisor, variables
from airflow_oauth_provider.stores.allowed_places import name_place
from airflow_oauth_provider.stores.backend import Fetched
from airflow_oauth_provider.stores.record_store import RecordStore, TimedLeaseStore, is_leased
from airflow_oauth_provider.stores.sealed_record import ConnectionKeys, SealedFormat

NAME = "variable"
#: "token" in the key makes Airflow show the value as ``***``.
KEY_PREFIX = "oauth2_token_record__"
_LONGEST = 250  # of a variable's key in Airflow's database


def variable_key(conn_id: str) -> str:
    """Return the key of the variable of ``conn_id``; no other connection has it.

    Airflow allows ``#`` and ``/`` in connection ids; in a URL of the Execution API they would mean something else.
    """
    name = name_place(conn_id)
    longest = _LONGEST - len(KEY_PREFIX)
    if len(name) > longest:
        name = name[: longest - 17] + "=" + hashlib.sha256(conn_id.encode()).hexdigest()[:16]
    return KEY_PREFIX + name


class _Variable:
    """The variable ``oauth2_token_record__<conn_id>``."""

    name = NAME

    def __init__(self, conn_id: str) -> None:
        self._key = variable_key(conn_id)
        self._description = f"OAuth 2.0 tokens of the connection {conn_id}. Written by the provider; do not edit."
        self.where = self.record_where = f"the variable {self._key!r} with the tokens of the connection {conn_id!r}"

    def fetch(self) -> Fetched:
        """Return what the variable holds; see :meth:`Backend.fetch`."""
        return Fetched(variables.read_variable(self._key))

    def _check_visible(self, text: str) -> None:
        """Refuse, before anything is spent, a variable that something else hides from tasks."""
        if is_leased(text):
            variables.refuse_shadowed_variable(self._key)


class RowVariable(_Variable):
    """The same for a process that has the metadata database: it can compare and set."""

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """Set the variable, if it is as it was; see :meth:`Backend.replace`."""
        self._check_visible(text)
        done = database.replace_variable(self._key, fetched.text, text, self._description)
        return Fetched(text) if done else None


class TaskVariable(_Variable):
    """The same for a task of Airflow 3, which can only read and write variables."""

    def put(self, fetched: Fetched, text: str) -> None:  # noqa: ARG002 - a variable is written as a whole
        """Set the variable; see :meth:`PlainBackend.put`."""
        self._check_visible(text)
        variables.write_variable(self._key, text, self._description)


def open_store(
    conn_id: str,
    keys: ConnectionKeys,
    *,
    settle_time: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> RecordStore | TimedLeaseStore:
    """Return the store of a connection whose tokens are in a variable; for the times see :class:`TimedLeaseStore`.

    The supervisor of every Airflow 3 logs at DEBUG, unmasked, whatever value a task gives to a variable: its masker
    passes the message by (3.0 with LocalExecutor shows it at level INFO too). So the record is sealed; see
    :mod:`airflow_oauth_provider.stores.sealed_record`.

    :param keys: what the connection has to seal its record with.
    """
    record_format = SealedFormat(conn_id, keys)
    if supervisor.on_task_sdk():
        return TimedLeaseStore(TaskVariable(conn_id), record_format, settle_time=settle_time, sleep=sleep)
    return RecordStore(RowVariable(conn_id), record_format)
