"""A store that takes over the record that an earlier choice of store left in a variable."""

from __future__ import annotations

import logging

from airflow_oauth_provider.exceptions import StoreError
from airflow_oauth_provider.stores.variable import LeftBehind, VariableStore
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord, TokenStore

log = logging.getLogger(__name__)


class AdoptingStore:
    """Wraps the store ``home`` so that it begins with what the variable of the same connection holds.

    ``auto`` keeps tokens in a variable until somebody makes the connection writable (defines ``airflow_api``,
    or moves the connection into the database). The tokens must come along, and workers that have not heard of
    it yet must not refresh on the variable meanwhile. So the first write marks the variable before it writes
    the record to its new home: from the mark on, :class:`VariableStore` refuses the variable. A crash between
    the two leaves the marked record, which the next worker takes over.

    :param home: where the record belongs from now on.
    :param variable: where it may still be.
    """

    def __init__(self, home: TokenStore, variable: VariableStore) -> None:
        self.name = home.name
        self._home = home
        self._variable = variable
        self._left: LeftBehind | None = None

    def read(self) -> StoredRecord:
        """Return the newest record, with version None while it is still in the variable."""
        self._left = None
        found = self._home.read()
        if found.record is not None:
            return found
        left = self._variable.left_behind()
        if left.record is None:
            return found
        self._left = left
        return StoredRecord(record=left.record, version=None)

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        left = self._left if if_version is None else None
        if left is not None:
            self._variable.mark_moved(left, self.name)
        version = self._home.write(record, if_version=if_version)
        if left is not None:
            self._left = None
            log.info("The tokens have moved from the store 'variable' to the store %r.", self.name)
            try:
                self._variable.bury(self.name)
            except StoreError as error:
                # It is marked, so nobody uses it; only old tokens stay there, encrypted as all variables are.
                log.warning("The old record in the variable could not be cleared: %s", error)
        return version
