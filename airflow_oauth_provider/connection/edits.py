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
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat import database
from airflow_oauth_provider.compat.extra_json import NotAnObjectError, get_member, set_member, without_member
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


def _keep_record(_mapper: Any, transaction: Transaction, edited: Any) -> None:
    """See SQLAlchemy's ``MapperEvents.before_update``: what is set here is part of the ``UPDATE`` that follows."""
    if not _is_about_records(edited):
        return
    row = database.lock_extra(transaction, edited.id)
    if row is None:
        return  # deleted by somebody else, as SQLAlchemy will say
    conn_type, cell = row
    if CONN_TYPE not in (conn_type, edited.conn_type):
        return
    record = _record_in(cell, edited.conn_id)
    if edited.conn_type != CONN_TYPE:
        _leave_behind(record, edited)
    elif record is not None:
        _carry_over(record, edited)


def _is_about_records(edited: Any) -> bool:
    """Tell whether the edit writes ``extra`` of an OAuth 2.0 connection, or may make another type of it.

    Of all other connections nothing more than this is looked at.
    """
    from sqlalchemy import inspect

    attributes = inspect(edited).attrs
    decisive = attributes["_extra"] if edited.conn_type == CONN_TYPE else attributes["conn_type"]
    return bool(decisive.history.has_changes())


def _record_in(cell: database.Cell, conn_id: str) -> str | None:
    """Return the record that the row holds, None for none.

    :raises StoreUnavailable: the row cannot be decrypted, so that nobody knows.
    """
    try:
        return get_member(cell.text("Its extra"))
    except NotAnObjectError:
        return None  # where there is no object there is no record, and the edit may repair it
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"The connection {conn_id!r} was not changed, since it may hold tokens. {error} If nobody has that key, "
            "the tokens are lost: delete the connection and enter it anew."
        ) from None


def _carry_over(record: str, edited: Any) -> None:
    """Give the edit the record of the row.

    Also where the edit has another one, such as a file that was exported last week: nobody but the stores knows which
    record is the newest. A refresh token that a person enters is another member, and wins over any record.

    :raises StoreNotWritable: the edit leaves no place for the record.
    """
    written = edited.get_extra()
    try:
        kept = set_member(written, record)
    except NotAnObjectError as error:
        raise StoreNotWritable(
            f"The connection {edited.conn_id!r} was not changed, since it would lose its tokens: {error}. "
            "Enter {} or a JSON object."
        ) from None
    if kept != written:
        log.info("The edit of the connection %s did not have its newest tokens; they are kept", edited.conn_id)
        edited.set_extra(kept)


def _leave_behind(record: str | None, edited: Any) -> None:
    """Drop the record from a connection that becomes another type: ``HttpHook`` would send it as a header."""
    from sqlalchemy.orm.attributes import flag_modified

    try:
        written = edited.get_extra()
        rest = without_member(written)
    except ValueError:
        return  # no JSON object has no record; Airflow 3 says so by an error of its own
    if record is None and rest == written:
        return
    log.warning("The connection %s is now of type %s: its tokens are deleted", edited.conn_id, edited.conn_type)
    edited.set_extra(rest)
    flag_modified(edited, "_extra")  # the row may have a record that this copy has not
