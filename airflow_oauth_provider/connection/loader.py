"""Reads a connection and its record anew, for each refresh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_oauth_provider.compat import connections, masking
from airflow_oauth_provider.connection import credentials
from airflow_oauth_provider.connection.settings import Settings, read_settings
from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.stores.row_watch import RowWatch
from airflow_oauth_provider.tokens.configuration import Snapshot
from airflow_oauth_provider.tokens.store import TokenStore


class ConnectionLoader:
    """The :class:`~airflow_oauth_provider.tokens.configuration.ConfigurationSource` of an Airflow connection.

    :param conn_id: the connection.
    :param first: the connection as just read, used once instead of reading it again.
    """

    def __init__(self, conn_id: str, first: Any = None) -> None:
        self._conn_id = conn_id
        self._first = first
        self._signed_in: tuple[object, TokenStore] | None = None
        self._watch = RowWatch()

    def load(self) -> Snapshot:
        """Read the connection and its record."""
        try:
            return self._load()
        except OAuth2Error as failure:
            failure.name_connection(self._conn_id)
            raise

    def _load(self) -> Snapshot:
        connection, self._first = self._first, None
        if connection is None:
            connection = connections.get_connection(self._conn_id)
        settings = read_settings(self._conn_id, connection)
        for secret in settings.secrets:
            masking.mask_secret(secret)
        store = self._open(settings, connection)
        stored = store.read()
        kept = stored.kept
        for name, value in (kept or {}).items():
            if name != "client_id":
                for secret in credentials.find_key_secrets(value):
                    masking.mask_secret(secret)
        return Snapshot(
            settings.account(kept, "" if kept is None else _describe(stored.where, kept)),
            store,
            stored.record,
            stored.version,
            stored.settle_time,
        )

    def _open(self, settings: Settings, connection: Any) -> TokenStore:
        choice = settings.store
        if self._signed_in is not None and self._signed_in[0] == choice:
            return self._signed_in[1]
        store = open_store(
            self._conn_id,
            kind=choice.kind,
            connection=connection,
            api_conn_id=choice.api_conn_id,
            options=choice.options,
            keys=settings.keys,
            watch=self._watch,
        )
        if choice.kind in ("vault", "gcp_secret_manager"):
            self._signed_in = choice, store
        return store


def _describe(where: str, kept: Mapping[str, Any]) -> str:
    """Return what to call a store that people keep other things in, and whether there is anything."""
    return where if kept else f"{where} (where there is no client id, client secret or refresh token now)"
