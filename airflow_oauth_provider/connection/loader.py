"""Reads a connection and its record anew, for each refresh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_oauth_provider.compat import connections, deployment, masking
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.compat.database import record_in_extra
from airflow_oauth_provider.connection import credentials
from airflow_oauth_provider.connection.settings import Settings, read_settings
from airflow_oauth_provider.exceptions import OAuth2Error, StoreNotWritable
from airflow_oauth_provider.stores import variable
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.stores.record_store import parse_record
from airflow_oauth_provider.tokens.configuration import Snapshot
from airflow_oauth_provider.tokens.record import StoredRecord, TokenStore


class ConnectionLoader:
    """The :class:`~airflow_oauth_provider.tokens.configuration.ConfigurationSource` of an Airflow connection.

    :param first: the connection as just read, used once instead of reading it again.
    """

    def __init__(self, conn_id: str, first: FoundConnection | None = None) -> None:
        self._conn_id = conn_id
        self._first = first
        self._signed_in: tuple[StoreOptions, TokenStore] | None = None

    def load(self) -> Snapshot:
        """Read the connection and its record."""
        try:
            return self._load()
        except OAuth2Error as failure:
            failure.name_connection(self._conn_id)
            raise

    def _load(self) -> Snapshot:
        found, self._first = self._first, None
        if found is None:
            found = connections.find_connection(self._conn_id)
        settings = read_settings(self._conn_id, found.connection)
        for secret in settings.secrets:
            masking.mask_secret(secret)
        store = self._open(settings, found)
        stored = store.read()
        if store.name == variable.NAME:
            _check_variable(self._conn_id, settings, found, stored)
        kept = stored.kept
        for name, value in (kept or {}).items():
            if name != "client_id":
                for secret in credentials.find_key_secrets(value):
                    masking.mask_secret(secret)
        return Snapshot(
            settings.grant_configuration(kept, "" if kept is None else _describe(stored.where, kept)),
            store,
            stored.record,
            stored.version,
            stored.settle_time,
        )

    def _open(self, settings: Settings, found: FoundConnection) -> TokenStore:
        options = settings.store_options
        if self._signed_in is not None and self._signed_in[0] == options:
            return self._signed_in[1]
        store = open_store(self._conn_id, options, found=found, keys=settings.keys)
        if options.store in ("vault", "gcp_secret_manager"):
            self._signed_in = options, store
        return store


def _describe(where: str, kept: Mapping[str, Any]) -> str:
    """Return what to call a store that people keep other things in, and whether there is anything."""
    return where if kept else f"{where} (where there is no client id, client secret or refresh token now)"


def _check_variable(conn_id: str, settings: Settings, found: FoundConnection, stored: StoredRecord) -> None:
    """Refuse a variable where it cannot be right.

    :raises StoreNotWritable: teams share the deployment; or the connection has its newest tokens in its own extra, and
        the refresh token with which an empty variable would begin has been spent by way of them.
    """
    if not settings.keys.rotates:
        return  # anyone can ask for such a token again
    if deployment.multi_team():
        raise StoreNotWritable(
            "it would keep its tokens in a variable, and teams share this deployment ([core] multi_team): a variable "
            "that a task of one team writes is not seen by the others, who would spend the same refresh token again. "
            "Define the connection in Airflow's metadata database, which keeps the tokens in its own row, or set "
            "'store' in its extra to 'vault'.",
            conn_id=conn_id,
        )
    text = record_in_extra(found.connection.extra, conn_id)
    if text is None or stored.record is not None:
        return
    in_row, entered = parse_record(text, f"The connection {conn_id!r}"), settings.keys.entered
    # A refresh token that was entered since may begin: nobody has spent it.
    if entered is None or entered == in_row.entered_fingerprint or in_row.has_replaced(entered):
        raise StoreNotWritable(
            "it has its newest tokens in its own extra, and the variable in which it would keep them now is empty, so "
            "nothing was refreshed: the refresh token that was entered is spent. To go on with the tokens in the "
            "connection, define it in Airflow's metadata database, and nothing before it (no environment variable, no "
            "secrets backend). To go on with the variable, sign in again: enter a new refresh token, or run "
            "'authorize'.",
            conn_id=conn_id,
        )
