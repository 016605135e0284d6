"""Keep the record of a connection that somebody edits.

Whatever edits a connection in Airflow (the form, the REST API, ``connections import --overwrite``,
``rotate-fernet-key``) reads the row without a lock, changes its copy, and writes ``extra`` as a whole. A record that
was written meanwhile would be gone, and with it the only refresh token that still works. All of them write by way of
Airflow's model, so this listens there: in the transaction of the edit it locks the row, and what is about to be written
gets the record that the row holds at that moment. The stores themselves write by plain ``UPDATE``, which no such event
sees.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat import database
from airflow_oauth_provider.compat.extra_json import (
    KEY_MEMBER,
    RECORD_MEMBER,
    NotAnObjectError,
    get_key,
    get_member,
    prepare_extra,
    set_member,
    without_member,
    without_provisions,
)
from airflow_oauth_provider.compat.sdk import AIRFLOW, AIRFLOW_V_3_0_PLUS
from airflow_oauth_provider.connection.fields import CONN_TYPE
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection as Transaction

log = logging.getLogger(__name__)


def keep_records() -> None:
    """Keep records through all edits that this process makes from now on.

    For processes that edit connections: it imports Airflow's model. Calling it again changes nothing.
    """
    from airflow.models.connection import Connection
    from sqlalchemy import event

    if not event.contains(Connection, "before_update", _keep_record):
        event.listen(Connection, "before_update", _keep_record)
        event.listen(Connection, "before_insert", _prepare_new)


@cache
def prepare_rows() -> None:
    """Give the rows that have been written without :func:`keep_records` their guard and their record key.

    For servers when they start: once in a process. A failure is only said: a task that finds no key asks for it.
    """
    try:
        done = database.prepare_rows(CONN_TYPE, with_key=AIRFLOW_V_3_0_PLUS)
    except StoreUnavailable as error:
        log.warning("The oauth2 connections could not be given their record keys now. %s", error)
    else:
        if done:
            log.info("%d oauth2 connections were given a guard and a record key", done)


def _prepare_new(_mapper: Any, _transaction: Transaction, added: Any) -> None:
    """Give a new row a key of its own: the one of a file that is imported belongs to the system it comes from."""
    if added.conn_type == CONN_TYPE:
        try:
            extra = without_member(added.get_extra(), KEY_MEMBER)
        except NotAnObjectError:
            return  # nobody can use it as it is; what repairs it is an edit
        added.set_extra(prepare_extra(extra, with_key=AIRFLOW_V_3_0_PLUS))
        _set_port(added)


def _set_port(row: Any) -> None:
    """Write 0 for a port that is NULL.

    The form of Airflow 3.3 tests a connection with port 0 where the row has none, and the API server takes that for
    another address to which it must not send the stored secrets: "Bad Request". A port of 0 means none elsewhere.
    """
    if AIRFLOW >= (3, 3) and row.port is None:
        row.port = 0


def _keep_record(_mapper: Any, transaction: Transaction, edited: Any) -> None:
    """See SQLAlchemy's ``MapperEvents.before_update``: what is set here is part of the ``UPDATE`` that follows."""
    if not _is_about_records(edited):
        return
    cell = database.lock_extra(transaction, edited.id)
    if cell is None:
        return  # deleted by somebody else, as SQLAlchemy will say
    if CONN_TYPE not in (cell.conn_type, edited.conn_type):
        return
    if edited.conn_type != CONN_TYPE:
        _leave_behind(cell, edited)
    else:
        _carry_over(cell, edited)
        _set_port(edited)


def _is_about_records(edited: Any) -> bool:
    """Tell whether the edit writes ``extra`` of an OAuth 2.0 connection, or may make another type of it.

    Of all other connections nothing more than this is looked at.
    """
    from sqlalchemy import inspect

    attributes = inspect(edited).attrs
    decisive = attributes["_extra"] if edited.conn_type == CONN_TYPE else attributes["conn_type"]
    return bool(decisive.history.has_changes())


def _read_provisions(cell: database.Cell, conn_id: str) -> dict[str, str]:
    """Return the record and the record key that the row holds, by the names of their members.

    :raises StoreUnavailable: the row cannot be decrypted, so that nobody knows.
    """
    try:
        text = cell.text("Its extra")
        found = {KEY_MEMBER: get_key(text), RECORD_MEMBER: get_member(text)}
    except NotAnObjectError:
        return {}  # where there is no object there is no record, and the edit may repair it
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"it was not changed, since it may hold tokens. {error} If nobody has that key, the tokens are lost: "
            "delete the connection and enter it anew.",
            conn_id=conn_id,
        ) from None
    return {name: value for name, value in found.items() if value is not None}


def _carry_over(cell: database.Cell, edited: Any) -> None:
    """Give the edit the record and the key of the row, and the guard its place.

    Also where the edit has another one, such as a file that was exported last week: nobody but the stores knows which
    record is the newest. A refresh token that a person enters is another member, and wins over any record.

    :raises StoreNotWritable: the edit leaves no place for the record.
    """
    held = _read_provisions(cell, edited.conn_id)
    written = edited.get_extra()
    try:
        kept = without_member(written, KEY_MEMBER) if KEY_MEMBER not in held else written
        for name, value in held.items():
            kept = set_member(kept, value, name)
        kept = prepare_extra(kept, with_key=AIRFLOW_V_3_0_PLUS)
    except NotAnObjectError as error:
        if RECORD_MEMBER not in held:
            return  # nothing is lost
        raise StoreNotWritable(
            f"it was not changed, since it would lose its tokens: {error}. Enter {{}} or a JSON object.",
            conn_id=edited.conn_id,
        ) from None
    if kept != written:
        edited.set_extra(kept)


def _leave_behind(cell: database.Cell, edited: Any) -> None:
    """Drop record, key and guard from a connection that becomes another type: its hook may send them as headers."""
    from sqlalchemy.orm.attributes import flag_modified

    held = _read_provisions(cell, edited.conn_id)
    try:
        written = edited.get_extra()
        rest = without_provisions(written)
    except ValueError:
        return  # no JSON object has no record; Airflow 3 says so by an error of its own
    if not held and rest == written:
        return
    log.warning("The connection %s is now of type %s: its tokens are deleted", edited.conn_id, edited.conn_type)
    edited.set_extra(rest)
    flag_modified(edited, "_extra")  # the row may have a record that this copy has not
