"""From the ``store`` of a connection to the store itself."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from airflow_oauth_provider.compat import connections, deployment, sdk, supervisor
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable
from airflow_oauth_provider.stores import variable
from airflow_oauth_provider.stores.allowed_places import Permit
from airflow_oauth_provider.stores.backend import CONN_TYPE, IN_AIRFLOW, KINDS, StoreKind, StoreOptions
from airflow_oauth_provider.stores.connection import RouteBackend, RowBackend, key_in_extra, not_a_row
from airflow_oauth_provider.stores.record_route import RecordRoute
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.stores.sealed_record import FERNET_KEY, ConnectionKeys
from airflow_oauth_provider.tokens.record import TokenStore


def open_store(
    conn_id: str, options: StoreOptions, *, found: FoundConnection | None = None, keys: ConnectionKeys | None = None
) -> TokenStore:
    """Return the store of the tokens of ``conn_id``.

    :param found: the connection as just read, so that it need not be read again; None where it has not been read.
    :param keys: what the connection has to seal its tokens with, in a variable.
    :raises ConfigurationError: its ``store`` is unknown, or what it needs is not given.
    :raises StoreUnavailable: it cannot be told whether the connection is a row.
    """
    kind = options.store
    if kind in ("auto", "connection"):
        kind, found = _settle(conn_id, kind, found or connections.find_connection(conn_id))
        if kind == "connection":
            if supervisor.has_database():
                return RecordStore(RowBackend(conn_id, found))
            return RecordStore(RouteBackend(conn_id, found))
    if kind == "variable":
        return _variable_store(conn_id, keys)
    opened: TokenStore = _import_store(conn_id, kind).open_store(conn_id, options)
    return opened


def find_permit(conn_id: str, options: StoreOptions) -> Permit:
    """Return whether a connection may use the place outside Airflow that it names; nothing is opened for that."""
    if options.store in IN_AIRFLOW:
        return Permit(conn_id)
    permit: Permit = _import_store(conn_id, options.store).find_permit(conn_id, options)
    return permit


def _import_store(conn_id: str, kind: StoreKind) -> Any:
    """Return the module of a store outside Airflow: it has the store's name, and needs packages that others lack."""
    if kind not in KINDS:
        raise ConfigurationError(f"it has store={kind!r} in its extra. Known are: {', '.join(KINDS)}.", conn_id=conn_id)
    return importlib.import_module(f"airflow_oauth_provider.stores.{kind}")


def _variable_store(conn_id: str, keys: ConnectionKeys | None) -> TokenStore:
    keys = keys or ConnectionKeys()
    airflows = tuple((FERNET_KEY, key) for key in deployment.fernet_keys())
    if keys.secrets or supervisor.on_task_sdk():
        # Airflow's own key too, where this process has it: it outlives any change of the connection.
        keys = replace(keys, secrets=keys.secrets + airflows)
    else:
        # Not as the only one: the command line has it, and tasks may not. What it writes appears in no log.
        keys = replace(keys, opening=airflows)
    return variable.open_store(conn_id, keys)


def _settle(conn_id: str, kind: StoreKind, found: FoundConnection) -> tuple[StoreKind, FoundConnection]:
    """Return the store that ``auto`` or ``connection`` stands for, and the connection, now with its record key.

    What decides is stored, and so the same for every worker: whether the connection is a row. The API server does not
    say that to a task. But each row has a record key, or gets one when it is asked for.
    """
    if found.place is not None:
        return ("variable" if kind == "auto" else kind), found
    if supervisor.has_database():
        if sdk.AIRFLOW_V_3_0_PLUS:
            _check_type(conn_id, found)  # for tasks, which have to choose the same
        return "connection", found
    _check_type(conn_id, found)
    if key_in_extra(found.connection.extra) is None:
        RecordRoute().request_key(conn_id)
        found = connections.find_connection(conn_id)
    if key_in_extra(found.connection.extra) is not None:
        return "connection", found
    if kind == "auto":
        return "variable", found
    raise not_a_row(conn_id, "an environment variable or a secrets backend of Airflow's API server")


def _check_type(conn_id: str, found: FoundConnection) -> None:
    """Refuse rows of other types: tokens in their extra, other hooks may send away. So they have no record key."""
    if found.connection.conn_type != CONN_TYPE:
        raise StoreNotWritable(
            f"it is of the type {found.connection.conn_type!r}, and tasks of Airflow 3 can keep tokens only in one of "
            f"the type {CONN_TYPE!r}. Set its type to that, or set 'store' in its extra to 'variable' or 'vault'.",
            conn_id=conn_id,
        )
