"""Tokens in the connection itself, for tasks of Airflow 3, which may read connections but not write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_oauth_provider.compat import connections
from airflow_oauth_provider.compat.database import record_in_extra, version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable
from airflow_oauth_provider.stores.api_client import ApiClient
from airflow_oauth_provider.stores.connection_orm import shadowed
from airflow_oauth_provider.stores.parsing import mask_record, stored
from airflow_oauth_provider.stores.row_watch import RowWatch
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Connection

_SERVER_SIDE = "an environment variable or a secrets backend of Airflow's API server"


class ApiConnectionStore:
    """Keeps the record in the member ``token_record`` of the connection's ``extra``, by way of the API server.

    Reads are ordinary reads of the connection. Writes go to the route of this provider's plugin in the API
    server, which compares and sets the row in one transaction, under the rights of the user in
    ``api_conn_id``.

    :param conn_id: the connection whose tokens these are.
    :param api_conn_id: the Airflow connection with the API server's address and credentials.
    :param first: the connection as just read. The first :meth:`read` takes the record from it, which makes a
        fresh token cost one look-up and not two.
    :param watch: knows what this worker has seen of the row before.
    """

    name = "connection"

    def __init__(
        self,
        conn_id: str,
        api_conn_id: str = "airflow_api",
        first: Connection | None = None,
        watch: RowWatch | None = None,
    ) -> None:
        self._conn_id = conn_id
        self._api_conn_id = api_conn_id
        self._first = first
        self._watch = watch or RowWatch()

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        connection, self._first = self._first, None
        if connection is None:
            connection = connections.get_connection(self._conn_id)
        text = record_in_extra(connection.extra, self._conn_id)
        return stored(text, f"The connection {self._conn_id!r}")

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        mask_record(record)
        if record.lease is not None and (place := connections.shadow_of_connection(self._conn_id)):
            raise shadowed(self._conn_id, place)
        answer = ApiClient(self._api_conn_id).put_record(self._conn_id, record.to_json(), if_version)
        if answer.missing:
            raise shadowed(self._conn_id, connections.shadow_of_connection(self._conn_id) or _SERVER_SIDE)
        if answer.stale:
            if self._watch.refused(if_version, answer.version):
                raise shadowed(self._conn_id, _SERVER_SIDE)
            raise StaleVersion(f"The record of {self._conn_id!r} was changed by another worker.")
        self._watch.taken()
        if answer.version is None or answer.version != version_of(record.to_json()):
            raise StoreNotWritable("The plugin in Airflow's API server is of another version than this provider.")
        if if_version is None:
            self._check_visible(answer.version)
        return answer.version

    def _check_visible(self, version: str) -> None:
        """Make sure that the first record ever written to the row is what others read.

        Where something stands before the row, both begin without a record, so the comparison passes.
        """
        seen = version_of(record_in_extra(connections.get_connection(self._conn_id).extra, self._conn_id))
        if seen is None:
            raise shadowed(self._conn_id, _SERVER_SIDE)
        if seen != version:
            raise StaleVersion(f"The record of {self._conn_id!r} was changed by another worker.")
