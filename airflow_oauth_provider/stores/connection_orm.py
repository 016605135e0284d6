"""Tokens in the connection itself, for processes that have Airflow's metadata database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_oauth_provider.compat import connections, database
from airflow_oauth_provider.exceptions import StoreNotWritable
from airflow_oauth_provider.stores.parsing import mask_record, stored
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Connection


class OrmConnectionStore:
    """Keeps the record in the member ``token_record`` of the connection's ``extra``, by way of the database.

    For Airflow 2.11, and for the API server and the command line of Airflow 3. All other members of ``extra``
    stay as they are, character for character. The record's version is its hash, so that a change of other
    fields of the connection makes no version stale.

    :param conn_id: the connection whose tokens these are.
    :param first: the connection as just read. The first :meth:`read` takes the record from it, which makes a
        fresh token cost one look-up and not two.
    """

    name = "connection"

    def __init__(self, conn_id: str, first: Connection | None = None) -> None:
        self._conn_id = conn_id
        self._first = first

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        first, self._first = self._first, None
        try:
            extra = database.read_extra(self._conn_id) if first is None else first.extra
        except database.MissingRow:
            raise _no_row(self._conn_id) from None
        return stored(database.record_in_extra(extra, self._conn_id), f"The connection {self._conn_id!r}")

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        mask_record(record)
        if record.lease is not None and (shadow := connections.shadow_of_connection(self._conn_id)):
            raise shadowed(self._conn_id, shadow)
        try:
            return database.swap_record(self._conn_id, record.to_json(), if_version)
        except database.MissingRow:
            raise _no_row(self._conn_id) from None


def _no_row(conn_id: str) -> StoreNotWritable:
    return shadowed(conn_id, connections.shadow_of_connection(conn_id) or "something else")


def shadowed(conn_id: str, place: str) -> StoreNotWritable:
    """Return the error for a connection that is not taken from the metadata database.

    :param place: where it is taken from.
    """
    return StoreNotWritable(
        f"The connection {conn_id!r} comes from {place}, not from Airflow's metadata database, so rotated "
        "tokens cannot be written into it. Set 'store' in its extra to 'variable' or 'vault', or define the "
        "connection in the database."
    )
