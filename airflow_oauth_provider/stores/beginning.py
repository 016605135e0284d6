"""A variable in which a grant begins only where it has no other home."""

from __future__ import annotations

from collections.abc import Callable

from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.variable import VariableStore
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord


class BeginningStore:
    """Wraps the variable of a connection that may have, or get, its tokens in the connection's own row.

    An empty variable means the first use, or that this worker looks into the wrong place: Airflow was upgraded, the
    connection ``airflow_api`` was taken away or has only just been defined, the row was exported into an environment
    variable. The refresh token that a person entered is spent in the second case. So before anything is spent for the
    first time in a variable, it is asked once more whether this is the place.

    It is asked again with the lease in the variable. Workers that choose the connection look into the variable before
    they write to the row; so either they see the lease, or this one sees what they see.

    :param variable: the variable.
    :param check: raises what speaks against beginning with a record: StaleVersion where another store is right by now,
        StoreNotWritable where a person has to decide, StoreUnavailable where it cannot be told.
    """

    name = VariableStore.name

    def __init__(self, variable: VariableStore, check: Callable[[Record], None]) -> None:
        self._variable = variable
        self._check = check

    @property
    def seals(self) -> bool:
        """See :attr:`VariableStore.seals`."""
        return self._variable.seals

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """See :attr:`VariableStore.sealed_with`."""
        return self._variable.sealed_with

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        return self._variable.read()

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        begins = record.generation == 0 and record.lease is not None
        if begins:
            self._check(record)
        version = self._variable.write(record, if_version=if_version)
        if begins:
            try:
                self._check(record)
            except StoreUnavailable:
                # Not this error: it says that only the answer may be lost, and the lease that is found counts then.
                raise StaleVersion("It cannot be told any more whether the variable is the right store.") from None
        return version


def check_home(kept: Record | None, record: Record, conn_id: str, api_conn_id: str) -> None:
    """Refuse to begin with ``record`` where its refresh token has gone into the connection's own record.

    A refresh token that was entered since may begin: nobody has spent it.

    :param kept: the record in the connection's ``extra``, None where there is none.
    :param record: what would be spent.
    :param conn_id: the connection.
    :param api_conn_id: the Airflow connection with the credentials for the API server.
    :raises StoreNotWritable: its refresh token may be spent.
    """
    if kept is None:
        return
    mark = record.entered_fingerprint
    if mark is None or mark == kept.entered_fingerprint or kept.has_replaced(mark):
        raise StoreNotWritable(
            f"The connection {conn_id!r} has its newest tokens in its own extra, and the variable of the same name is "
            "empty, so nothing was refreshed: the refresh token that was entered is spent. To go on with the tokens in "
            f"the connection, let tasks write it: define the Airflow connection {api_conn_id!r} (with the database at "
            "hand: have no environment variable or secrets backend in front of the row). To go on with the variable, "
            "sign in again: enter a new refresh token, or run 'authorize'."
        )
