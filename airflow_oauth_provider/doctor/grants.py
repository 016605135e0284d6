"""All grants of a deployment, as a list shows them; no authorization server is asked."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from airflow_oauth_provider.compat import database, sdk
from airflow_oauth_provider.compat.connections import find_connection
from airflow_oauth_provider.compat.database import ConnectionRow, record_in_extra
from airflow_oauth_provider.connection.fields import CONN_TYPE
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.exceptions import ConfigurationError, StoreError, name_connection
from airflow_oauth_provider.tokens.events import HistoryEntry
from airflow_oauth_provider.tokens.grant_state import GrantState, State, determine_state
from airflow_oauth_provider.tokens.record import Record

#: The gauge of :func:`report_dead_grants`; see docs/sign-in.md.
GRANTS_TO_SIGN_IN = "oauth2.grants_to_sign_in"
#: The stores whose records are in the row of the connection, which a list's one query reads.
_IN_THE_ROW = ("auto", "connection")


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of the list. Nothing in it is secret.

    :param vendor: the vendor's name, or the server's; empty where neither is known.
    :param store: the connection's ``store``.
    :param scope: what was granted, as the server said; empty where it did not.
    :param history: what has happened, oldest first.
    """

    conn_id: str
    vendor: str
    store: str
    state: GrantState
    scope: str = ""
    history: tuple[HistoryEntry, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the line for programs; times in seconds since the epoch."""
        named = self.state.state
        state = asdict(self.state) | {"state": named.value, "needs_person": named.needs_person}
        return {"connection": self.conn_id, "vendor": self.vendor, "store": self.store, "scope": self.scope, **state}


def list_grants() -> list[Grant]:
    """Return the grants of all connections in Airflow's database, the most urgent first.

    One query reads them all, with the records that stand in the connections themselves. Other stores are not asked:
    those grants have the state ``not read yet``, and :func:`read_grant` reads one of them. Connections from the
    environment and from secrets backends cannot be listed.

    :raises StoreUnavailable: the database cannot be asked.
    """
    now = time.time()
    return sort_by_urgency([_grant_of_row(row, now) for row in database.list_connections(CONN_TYPE)])


def sort_by_urgency(grants: list[Grant]) -> list[Grant]:
    """Return ``grants``, the most urgent first; within a state those that end first."""
    forever = float("inf")
    return sorted(grants, key=lambda g: (g.state.state.urgency, g.state.refresh_token_until or forever, g.conn_id))


def report_dead_grants(grants: list[Grant]) -> None:
    """Tell Airflow's metrics how many grants a person has to sign in for again.

    :param grants: all grants of the deployment. If one of them is not read yet, the gauge stays as it is: a partial
        count would look as if grants worked again.
    """
    states = [grant.state.state for grant in grants]
    if State.NOT_READ not in states:
        sdk.Stats.gauge(GRANTS_TO_SIGN_IN, states.count(State.SIGN_IN_AGAIN))


def read_grant(conn_id: str) -> Grant:
    """Return the grant of one connection, from whichever store it has.

    :raises AirflowNotFoundException: there is no such connection.
    """
    vendor = store = ""
    try:
        found = find_connection(conn_id)
        settings = read_settings(conn_id, found.connection)
        vendor, store = settings.vendor, settings.store_options.store
        snapshot = ConnectionLoader(conn_id, first=found).load()
    except (ConfigurationError, StoreError) as failure:
        return _describe_failure(conn_id, failure, vendor, store)
    state = determine_state(snapshot.configuration, snapshot.record, time.time())
    return _grant(conn_id, vendor, snapshot.store.name, state, snapshot.record)


def _grant_of_row(row: ConnectionRow, now: float) -> Grant:
    if row.unreadable:
        return Grant(row.conn_id, "", "", GrantState(State.STORE_UNREADABLE, row.unreadable))
    vendor = store = ""
    try:
        settings = read_settings(row.conn_id, row)
        vendor, store = settings.vendor, settings.store_options.store
        if store not in _IN_THE_ROW:
            state = GrantState(State.NOT_READ, f"Its tokens are in the store {store!r}.")
            return Grant(row.conn_id, vendor, store, state)
        store = "connection"
        text = record_in_extra(row.extra, row.conn_id)
        record = Record.from_json(text) if text else None
        state = determine_state(settings.grant_configuration(), record, now)
    except ConfigurationError as failure:
        return _describe_failure(row.conn_id, failure, vendor, store)
    except ValueError as failure:
        return Grant(row.conn_id, vendor, store, GrantState(State.STORE_UNREADABLE, f"{failure}."))
    return _grant(row.conn_id, vendor, store, state, record)


def _grant(conn_id: str, vendor: str, store: str, state: GrantState, record: Record | None) -> Grant:
    if record is None:
        return Grant(conn_id, vendor, store, state)
    return Grant(conn_id, vendor, store, state, record.scope or "", record.history)


def _describe_failure(conn_id: str, failure: Exception, vendor: str, store: str) -> Grant:
    state = State.WRONG_CONFIGURATION if isinstance(failure, ConfigurationError) else State.STORE_UNREADABLE
    reason = str(failure).removeprefix(name_connection(conn_id, ""))
    if reason.partition(" ")[0].isalpha():  # a word, and not the name of a key
        reason = reason[:1].upper() + reason[1:]
    return Grant(conn_id, vendor, store, GrantState(state, reason))
