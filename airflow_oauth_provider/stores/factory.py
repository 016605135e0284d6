"""From the ``store`` of a connection to the store itself."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat import connections, deployment, fernet, sdk, supervisor, versions
from airflow_oauth_provider.compat.database import record_in_extra
from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreUnavailable
from airflow_oauth_provider.stores.adopting import AdoptingStore
from airflow_oauth_provider.stores.beginning import BeginningStore, check_home
from airflow_oauth_provider.stores.parsing import stored
from airflow_oauth_provider.stores.row_watch import RowWatch
from airflow_oauth_provider.stores.sealed_record import ConnectionKeys
from airflow_oauth_provider.stores.variable import VariableStore
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import FallbackStore, TokenStore

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Connection

#: The values of ``store`` that this module knows.
KINDS = (
    "auto", "connection", "variable", "vault", "file", "aws_secrets_manager", "azure_keyvault", "gcp_secret_manager",
)  # fmt: skip
#: Where the rest of them are: modules with a function ``open_store(conn_id, options)``, imported where used.
_FURTHER = {
    "vault": "airflow_oauth_provider.stores.vault",
    "file": "airflow_oauth_provider.stores.file",
    "aws_secrets_manager": "airflow_oauth_provider.stores.aws_secrets_manager",
    "azure_keyvault": "airflow_oauth_provider.stores.azure_keyvault",
    "gcp_secret_manager": "airflow_oauth_provider.stores.gcp_secret_manager",
}

#: Seconds for which a process remembers whether the connection with the API's credentials exists.
_REMEMBER = 60.0
_api_defined: dict[str, tuple[bool, float]] = {}


def open_store(
    conn_id: str,
    *,
    kind: str,
    connection: Connection | None,
    api_conn_id: str = "airflow_api",
    options: Mapping[str, Any] | None = None,
    keys: ConnectionKeys | None = None,
    watch: RowWatch | None = None,
) -> TokenStore:
    """Return the store of the tokens of ``conn_id``.

    :param conn_id: the connection.
    :param kind: its ``store``, one of :data:`KINDS`.
    :param connection: the connection as just read (by :func:`connections.get_connection`), so that it need not be
        read again; None where it has not been read.
    :param api_conn_id: the Airflow connection with the credentials for the API server.
    :param options: what the connection says about stores, key by key, for the other kinds.
    :param keys: what the connection has to seal its tokens with, in a variable.
    :param watch: what this worker has seen of the connection's row before; None: nothing.
    :raises ConfigurationError: ``kind`` is unknown, or what it needs is not given.
    :raises StoreUnavailable: ``auto`` cannot tell now which store it stands for.
    """
    chosen = kind
    if kind == "auto":
        kind = _choose(conn_id, connection, api_conn_id)
    if kind == "variable":
        return _beginning_store(conn_id, keys, api_conn_id, chosen=chosen)
    if kind == "connection":
        home = _connection_store(conn_id, connection, api_conn_id, watch)
        return AdoptingStore(home, _variable_store(conn_id, keys))
    if kind in _FURTHER:
        further: TokenStore = importlib.import_module(_FURTHER[kind]).open_store(conn_id, options or {})
        return further
    raise ConfigurationError(
        f"The connection {conn_id!r} has store={kind!r} in its extra. Known are: {', '.join(KINDS)}."
    )


def open_fallback(conn_id: str) -> FallbackStore:
    """Return where the tokens of ``conn_id`` go while their store is away."""
    from airflow_oauth_provider.stores.fallback import FallbackChain, PathFallback, VariableFallback

    del conn_id  # one place for all: connections may share a record, and what is kept is named after that
    return FallbackChain([VariableFallback(), PathFallback()])


def _beginning_store(conn_id: str, keys: ConnectionKeys | None, api_conn_id: str, *, chosen: str) -> TokenStore:
    """Return the variable for whoever ``chosen``, ``variable`` or ``auto``, stands for it."""
    variable = _variable_store(conn_id, keys)
    if keys is not None and not keys.rotates:
        return variable  # anyone can ask for such a token again

    def check(record: Record) -> None:
        connection = connections.get_connection(conn_id)
        if chosen == "auto":
            _api_defined.pop(api_conn_id, None)
            if _choose(conn_id, connection, api_conn_id) != "variable":
                raise StaleVersion(f"The connection {conn_id!r} can keep its own tokens by now.")
        text = record_in_extra(connection.extra, conn_id)
        check_home(stored(text, f"The connection {conn_id!r}").record, record, conn_id, api_conn_id)

    return BeginningStore(variable, check)


def _variable_store(conn_id: str, keys: ConnectionKeys | None) -> VariableStore:
    all_keys = keys or ConnectionKeys()
    airflows = fernet.fernet_keys()
    if all_keys.secrets or supervisor.on_task_sdk():
        # Airflow's own key too, where this process has it: it outlives any change of the connection.
        all_keys = all_keys.with_more("fernet_key", airflows)
    else:
        # Not as the only one: the command line has it, and tasks may not. What it writes appears in no log.
        all_keys = replace(all_keys, opening=tuple(("fernet_key", key) for key in airflows))
    return VariableStore(conn_id, all_keys, claim_delay=deployment.claim_delay())


def _connection_store(
    conn_id: str, connection: Connection | None, api_conn_id: str, watch: RowWatch | None
) -> TokenStore:
    if supervisor.on_task_sdk():
        from airflow_oauth_provider.stores.connection_api import ApiConnectionStore

        return ApiConnectionStore(conn_id, api_conn_id, first=connection, watch=watch)
    from airflow_oauth_provider.stores.connection_orm import OrmConnectionStore

    return OrmConnectionStore(conn_id, first=connection)


def _choose(conn_id: str, connection: Connection | None, api_conn_id: str) -> str:
    """Return the store that ``auto`` stands for: the same one in every worker, or an error."""
    if versions.AIRFLOW_V_3_0_PLUS:
        # The command line and the API server have the database, but have to choose what the tasks choose.
        if connections.shadow_of_connection(conn_id) is not None:
            return "variable"
        return "connection" if _is_api_defined(api_conn_id, conn_id) else "variable"
    if getattr(connection, "id", None) is not None:
        return "connection"  # it was read from its row, and Airflow looks there last: nothing hides the row
    from airflow_oauth_provider.compat import database

    if connections.shadow_of_connection(conn_id) is None and database.row_exists(conn_id):
        return "connection"
    return "variable"


def _is_api_defined(api_conn_id: str, conn_id: str) -> bool:
    """Tell whether the connection with the API's credentials exists.

    A wrong "no" would put the tokens of this worker into another store than everybody else's. The API server
    says "not found" also while its database fails, so its word counts only between two answers that the
    database is there: the connection ``conn_id`` itself is found, before (it has been read) and after.

    :raises StoreUnavailable: it cannot be told.
    """
    known, until = _api_defined.get(api_conn_id, (False, 0.0))
    if time.monotonic() < until:
        return known
    defined = _is_defined(api_conn_id)
    if not defined:
        if not _is_defined(conn_id):
            raise StoreUnavailable(f"Airflow does not find the connection {conn_id!r} that it found a moment ago.")
        defined = _is_defined(api_conn_id)
    _api_defined[api_conn_id] = (defined, time.monotonic() + _REMEMBER)
    return defined


def _is_defined(conn_id: str) -> bool:
    try:
        connections.get_connection(conn_id)
    except sdk.AirflowNotFoundException:
        return False
    return True
