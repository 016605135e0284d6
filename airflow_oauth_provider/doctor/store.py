"""The store: where it is, and whether it can be read and written."""

from __future__ import annotations

from airflow_oauth_provider.compat import connections, deployment, sdk
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.connection.settings import Settings
from airflow_oauth_provider.doctor import connection
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreError, StoreNotWritable
from airflow_oauth_provider.stores.connection import key_in_extra
from airflow_oauth_provider.stores.fallback import open_fallback
from airflow_oauth_provider.stores.record_route import RecordRoute
from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.configuration import GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.record import Record, TokenStore
from airflow_oauth_provider.tokens.sealing import fallback_key

CHECK = "store"
ROUTE = "API server"
FALLBACK = "fallback store"

#: A version that no record has.
_NOBODYS = "0" * 64


def read(report: Report, settings: Settings) -> Snapshot | None:
    """Open and read the store; None where that fails."""
    try:
        snapshot = ConnectionLoader(report.conn_id).load()
    except (ConfigurationError, StoreError) as failure:
        about = CHECK if isinstance(failure, StoreError | StoreNotWritable) else connection.KEYS
        report.refuse(about, failure)
        return None
    connection.say_keys_are_right(report)
    name = snapshot.store.name
    chosen = " (that is what 'auto' stands for here)" if settings.store_options.store == "auto" else ""
    report.ok(CHECK, f"the store {name!r}{chosen} can be read")
    if name == "variable" and sdk.AIRFLOW_V_3_0_PLUS:
        report.warn(
            CHECK,
            "tasks of Airflow 3 cannot replace a variable only if it is unchanged",
            "Give all tasks that use the connection a pool with one slot; or define it in Airflow's metadata database, "
            "which keeps the tokens in its own row; or choose the store 'vault'.",
        )
        if not (settings.keys.secrets or deployment.fernet_keys()):
            report.warn(
                CHECK,
                "Airflow 3 logs what tasks write into variables, and this connection has no secret to seal tokens with",
                "Set Airflow's Fernet key ([core] fernet_key), or choose another store.",
            )
    warn_of_one_key(report, snapshot.store)
    return snapshot


def configuration_without(report: Report, settings: Settings) -> GrantConfiguration | None:
    """Return what the connection alone says, since its store could not be read; None where that is not enough."""
    try:
        return settings.grant_configuration()
    except ConfigurationError as missing:
        if not any(found.level == "fail" and found.check == connection.KEYS for found in report.findings):
            report.warn(
                connection.KEYS,
                f"without the store: {missing}",
                "If that is in the store, nothing is wrong with the connection; mend the store first.",
            )
        return None


def warn_of_one_key(report: Report, store: TokenStore) -> None:
    """Warn where only one secret opens the stored tokens, and a person may renew it."""
    names = store.sealed_with
    if names in (("client_secret",), ("private_key",)):
        report.warn(
            CHECK,
            f"the {names[0]} of the connection is the only key to its stored tokens: a renewed one does not open them",
            "Give Airflow's Fernet key ([core] fernet_key) to all workers; or sign in again with the new one.",
        )


def check_writable(report: Report, snapshot: Snapshot) -> None:
    """Write the record back unchanged, or try a write that has to be refused."""
    if snapshot.store.name == "connection" and sdk.AIRFLOW_V_3_0_PLUS:
        _check_route(report)
    if snapshot.record is None or snapshot.version is None:
        report.ok(CHECK, "it holds nothing yet, so writing was not tried")
        return
    _write_back(report, snapshot.store, snapshot.record, snapshot.version)


def _write_back(report: Report, store: TokenStore, record: Record, version: str) -> None:
    try:
        store.write(record, if_version=version)
    except StaleVersion:
        report.ok(CHECK, "it is being written by a worker at this moment")
    except (ConfigurationError, StoreError) as failure:
        report.fail(CHECK, str(failure), "Refreshes will fail before they spend anything.")
    else:
        report.ok(CHECK, "it can be written")


def _check_route(report: Report) -> None:
    """Ask the plugin in the API server for a write that it refuses only after all other checks."""
    conn_id = report.conn_id
    try:
        route = RecordRoute()
        key = key_in_extra(connections.get_connection(conn_id).extra)
        if key is None:
            route.request_key(conn_id)
            key = key_in_extra(connections.get_connection(conn_id).extra)
        if key is None:
            report.fail(
                ROUTE,
                f"it has no row of the connection {conn_id!r}, so this has no record key",
                f"Is {route.address.url} the API server of this deployment?",
            )
            return
        done = route.put_record(conn_id, key, Record().to_json(), _NOBODYS)
    except (ConfigurationError, StoreError) as failure:
        report.fail(ROUTE, str(failure), "Without it, tasks cannot write tokens into the connection.")
        return
    if done:
        report.fail(ROUTE, "its plugin does not compare versions", "Install the same version of the provider there.")
    else:
        where = f"{route.address.url} ({route.address.setting})"
        report.ok(ROUTE, f"{where} has this provider's plugin, and takes the record key of the connection")


def check_fallback(report: Report, snapshot: Snapshot) -> None:
    """Look for tokens that a worker could not write to the store."""
    record = precedence.current(snapshot.configuration, snapshot.record)
    following = record.generation + 1
    try:
        key = fallback_key(following, record.refresh_token or "")
        waiting = open_fallback().load(key)
    except StoreError as failure:
        report.warn(FALLBACK, str(failure), "Refreshes wait while it cannot be told whether tokens are kept there.")
        return
    if waiting is None:
        report.ok(FALLBACK, "no tokens wait there")
    else:
        report.warn(
            FALLBACK,
            f"tokens of generation {following} wait there, since the store could not be written",
            "The next refresh brings them back; do not enter an older refresh token meanwhile.",
        )
