"""The record of a connection in its own row: written by way of the database, or of the API server."""

from __future__ import annotations

from airflow_oauth_provider.compat import connections, database
from airflow_oauth_provider.compat.database import record_in_extra, version_of
from airflow_oauth_provider.compat.extra_json import NotAnObjectError, get_key
from airflow_oauth_provider.compat.masking import mask_secret
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.backend import Fetched
from airflow_oauth_provider.stores.record_route import RecordRoute


class _ConnectionPlace:
    """The member ``token_record`` of a connection's ``extra``.

    :param found: the connection as just read; None where it has not been read. The first fetch takes the record from
        it, which makes a fresh token cost one look-up and not two.
    """

    name = "connection"

    def __init__(self, conn_id: str, found: connections.FoundConnection | None = None) -> None:
        self.where = self.record_where = f"the connection {conn_id!r}"
        self._conn_id = conn_id
        self._place = None if found is None else found.place
        self._first = found

    def _take_first(self) -> connections.FoundConnection | None:
        first, self._first = self._first, None
        return first

    def _check_is_row(self) -> None:
        if self._place is not None:
            raise not_a_row(self._conn_id, self._place)


class RowBackend(_ConnectionPlace):
    """Keeps the record in the connection, by way of the database.

    For Airflow 2.11, and for the API server, the command line and ``dag.test`` of Airflow 3. All other members of
    ``extra`` stay as they are, character for character.
    """

    def fetch(self) -> Fetched:
        """See :meth:`Backend.fetch`."""
        first = self._take_first()
        if first is not None:
            return Fetched(record_in_extra(first.connection.extra, self._conn_id))
        self._check_is_row()
        try:
            return Fetched(record_in_extra(database.read_extra(self._conn_id), self._conn_id))
        except database.MissingRow:
            raise not_a_row(self._conn_id, "something else") from None

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """See :meth:`Backend.replace`."""
        self._check_is_row()
        try:
            database.swap_record(self._conn_id, text, version_of(fetched.text))
        except database.MissingRow:
            raise not_a_row(self._conn_id, "something else") from None
        except database.StaleRecord:
            return None
        return Fetched(text)


class RouteBackend(_ConnectionPlace):
    """Keeps the record in the connection, by way of the API server.

    For tasks of Airflow 3, which may read connections but not write them. Reads are ordinary reads of the connection;
    writes go to the route of this provider's plugin, signed with the connection's record key.
    """

    def fetch(self) -> Fetched:
        """See :meth:`Backend.fetch`."""
        found = self._take_first() or connections.find_connection(self._conn_id)
        self._place = found.place
        extra = found.connection.extra
        return Fetched(record_in_extra(extra, self._conn_id), token=key_in_extra(extra))

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """See :meth:`Backend.replace`."""
        self._check_is_row()
        key = fetched.token
        if key is None:
            raise StoreUnavailable("it has no record key any more: somebody changes it.", conn_id=self._conn_id)
        done = RecordRoute().put_record(self._conn_id, key, text, version_of(fetched.text))
        return Fetched(text, token=key) if done else None


def key_in_extra(extra: str | None) -> str | None:
    """Return the record key of a connection; None where it has none."""
    try:
        key = get_key(extra)
    except NotAnObjectError:
        return None
    mask_secret(key)
    return key


def not_a_row(conn_id: str, place: str) -> StoreNotWritable:
    """Return the error for a connection that is taken from ``place``, not from the metadata database."""
    return StoreNotWritable(
        f"it comes from {place}, not from Airflow's metadata database, so rotated tokens cannot be written into it. "
        "Set 'store' in its extra to 'variable' or 'vault', or define the connection in the database.",
        conn_id=conn_id,
    )
