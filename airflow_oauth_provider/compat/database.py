"""Read and replace records in Airflow's metadata database.

For processes that have the database: everything on Airflow 2.11, the API server and the command line on Airflow 3. The
plugin's route and the stores share these functions, so there is one mechanism of compare-and-set.

It has two locks, because neither is enough alone: ``SELECT … FOR UPDATE``, which SQLite does not know, and an
``UPDATE`` that names the value it replaces, which other writers such as the connection form do not use.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat.extra_json import NotAnObjectError, get_key, get_member, prepare_extra, set_member
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection as Transaction
    from sqlalchemy.engine import Engine

log = logging.getLogger(__name__)

#: How often a write is tried when somebody changes another field of the same row between its read and its write.
_ATTEMPTS = 20


class MissingRow(StoreNotWritable):
    """The metadata database has no such connection."""


class WrongKey(StoreNotWritable):
    """The row is not of the type that keeps records, or has another record key."""


@dataclass(frozen=True, slots=True)
class Swapped:
    """A record that was replaced.

    :param version: of the new one.
    :param previous: the text of the old one; None where there was none.
    """

    version: str
    previous: str | None = field(repr=False)


class StaleRecord(StaleVersion):
    """The row holds another record.

    :param conn_id: the connection.
    :param held: the version that the row holds.
    """

    def __init__(self, conn_id: str, held: str | None) -> None:
        super().__init__(f"The record of {conn_id!r} was changed by another worker.")
        self.held = held


@dataclass(frozen=True, slots=True)
class Cell:
    """One text as the database holds it."""

    row_id: int
    raw: str | None
    encrypted: bool | None
    conn_type: str | None = None

    def text(self, what: str) -> str | None:
        """Return the plain text.

        :param what: what this is, for the message.
        :raises StoreUnavailable: this process has not the key.
        """
        if not self.raw or not self.encrypted:
            return self.raw
        from cryptography.fernet import InvalidToken

        fernet = get_fernet()
        try:
            # Without a key, Airflow's stand-in returns the cipher text.
            plain: str | None = fernet.decrypt(self.raw.encode()).decode() if fernet.is_encrypted else None
        except (InvalidToken, AttributeError, ValueError):
            plain = None
        if plain is None:
            # Not "there is none": a worker with an old key would spend the token that was first entered.
            raise StoreUnavailable(
                f"{what} cannot be decrypted in this process. Give it the Fernet key ([core] fernet_key) "
                "with which the value was written."
            )
        return plain


def version_of(text: str | None) -> str | None:
    """Return the version of a record: its hash, None for no record."""
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------------- records in connections


def read_extra(conn_id: str) -> str | None:
    """Return ``extra`` of the row of ``conn_id``.

    :raises MissingRow: the database has no such connection.
    :raises StoreUnavailable: the database cannot be asked.
    """
    with _transaction() as transaction:
        return _connection_cell(transaction, conn_id).text(f"extra of the connection {conn_id!r}")


@dataclass(slots=True)
class ConnectionRow:
    """A connection as one row of the database has it, decrypted.

    :param conn_id: its name.
    :param unreadable: why ``password`` and ``extra`` are not known; empty: they are.
    """

    conn_id: str
    conn_type: str
    host: str | None
    schema: str | None
    port: int | None
    login: str | None
    password: str | None = field(default=None, repr=False)
    extra: str | None = field(default=None, repr=False)
    unreadable: str = ""


def list_connections(conn_type: str) -> list[ConnectionRow]:
    """Return all connections of a type that the database has, by one query, sorted by name.

    :raises StoreUnavailable: the database cannot be asked.
    """
    table = _connection_table()
    query = table.select().where(table.c.conn_type == conn_type).order_by(table.c.conn_id)
    with _transaction() as transaction:
        return [_read_row(row) for row in transaction.execute(query)]


def _read_row(row: Any) -> ConnectionRow:
    found = ConnectionRow(row.conn_id, row.conn_type, row.host, row.schema, row.port, row.login)
    what = f"of the connection {row.conn_id!r}"
    try:
        found.password = Cell(row.id, row.password, row.is_encrypted).text(f"The password {what}")
        found.extra = _extra_of(row).text(f"The extra {what}")
    except StoreUnavailable as failure:
        found.unreadable = str(failure)
    return found


def record_in_extra(extra: str | None, conn_id: str) -> str | None:
    """Return the text of the record in ``extra``, None where there is none.

    :raises StoreNotWritable: ``extra`` is no JSON object.
    """
    try:
        return get_member(extra)
    except NotAnObjectError as error:
        raise StoreNotWritable(
            f"it cannot keep tokens: {error}. Enter {{}} or a JSON object.", conn_id=conn_id
        ) from None


def record_key(conn_id: str, conn_type: str) -> str | None:
    """Return the record key in the row of ``conn_id``.

    :param conn_type: the type of the connections that have one.
    :return: None where the database has no such connection, it is of another type, or it has no key.
    :raises StoreUnavailable: the database cannot be asked.
    """
    with _transaction() as transaction:
        try:
            cell = _connection_cell(transaction, conn_id)
            return None if cell.conn_type != conn_type else get_key(cell.text("Its extra"))
        except (MissingRow, NotAnObjectError, StoreUnavailable):
            return None  # errors of the database are still SQLAlchemy's here


def swap_record(
    conn_id: str, record: str, if_version: str | None, *, conn_type: str | None = None, key: str | None = None
) -> Swapped:
    """Replace the record of ``conn_id`` that has the version ``if_version`` (None: it has none).

    :param record: the new record's text.
    :param conn_type: the only type of connection that is written to; None: any.
    :param key: the record key that the row has to have; None: any.
    :raises WrongKey: the row has another key, or is of another type.
    :raises StaleRecord: the row holds another version.
    :raises MissingRow: the database has no such connection.
    :raises StoreNotWritable: ``extra`` is no JSON object.
    :raises StoreUnavailable: the database cannot be asked.
    """
    new_version = version_of(record)
    assert new_version is not None  # noqa: S101 - a text always has a version
    for _ in range(_ATTEMPTS):
        with _transaction() as transaction:
            cell = _connection_cell(transaction, conn_id, lock=True)
            extra = cell.text(f"extra of the connection {conn_id!r}")
            _check_key(cell, extra, conn_type, key)
            previous = record_in_extra(extra, conn_id)
            held = version_of(previous)
            if held != if_version:
                if held == new_version:
                    return Swapped(new_version, previous)  # our own write, whose answer was lost
                raise StaleRecord(conn_id, held)
            if _replace_extra(transaction, cell, set_member(extra, record)):
                return Swapped(new_version, previous)
        # Another field of the row was changed in between, which only SQLite allows. Compare again.
    raise StoreUnavailable("it is being changed all the time; its record was not written.", conn_id=conn_id)


def _check_key(cell: Cell, extra: str | None, conn_type: str | None, key: str | None) -> None:
    if conn_type not in (None, cell.conn_type) or (key is not None and get_key(extra) != key):
        raise WrongKey("The row has another record key by now.")


def prepare_rows(conn_type: str, conn_id: str | None = None, *, with_key: bool) -> int:
    """Give rows that were written without this package their guard and their record key.

    :param conn_type: the type of the connections that have them.
    :param conn_id: only this connection; None: all.
    :param with_key: whether tasks need a key to write a row (Airflow 3).
    :return: how many rows were changed.
    :raises StoreUnavailable: the database cannot be asked.
    """
    if conn_id is not None and not _is_name(conn_id):
        return 0
    table = _connection_table()
    query = table.select().where(table.c.conn_type == conn_type)
    with _transaction() as transaction:
        rows = transaction.execute(query if conn_id is None else query.where(table.c.conn_id == conn_id)).all()
    return sum(_prepare_row(row.id, row.conn_id, conn_type, with_key=with_key) for row in rows)


def _prepare_row(row_id: int, conn_id: str, conn_type: str, *, with_key: bool) -> bool:
    with _transaction() as transaction:
        cell = lock_extra(transaction, row_id)
        if cell is None or cell.conn_type != conn_type:
            return False
        try:
            extra = cell.text(f"extra of the connection {conn_id!r}")
            prepared = prepare_extra(extra, with_key=with_key)
        except (NotAnObjectError, StoreUnavailable) as error:
            log.warning("The connection %s gets no record key: %s", conn_id, error)
            return False
        return prepared != extra and _replace_extra(transaction, cell, prepared)


def lock_extra(transaction: Transaction, row_id: int) -> Cell | None:
    """Lock a row until ``transaction`` ends, and return its ``extra`` as the database has it now.

    :param transaction: it may have read the row before, but not changed it.
    :param row_id: ``id`` of the row, not the connection's.
    :return: None where the row is gone.
    """
    table = _connection_table()
    if transaction.dialect.name == "sqlite":
        # It has no row locks and ignores FOR UPDATE. Any write takes its one lock, even without a change.
        transaction.execute(table.update().where(table.c.id == row_id).values(id=table.c.id))
    row = transaction.execute(table.select().where(table.c.id == row_id).with_for_update()).first()
    return None if row is None else _extra_of(row)


def _connection_cell(transaction: Transaction, conn_id: str, *, lock: bool = False) -> Cell:
    table = _connection_table()
    query = table.select().where(table.c.conn_id == conn_id)
    row = transaction.execute(query.with_for_update() if lock else query).first() if _is_name(conn_id) else None
    if row is None:
        raise MissingRow(f"The metadata database has no connection {conn_id!r}.")
    return _extra_of(row)


def _extra_of(row: Any) -> Cell:
    return Cell(row.id, row.extra, row.is_extra_encrypted, row.conn_type)


def _replace_extra(transaction: Transaction, cell: Cell, extra: str) -> bool:
    column = _connection_table().c
    return _replace(transaction, cell, column.extra, column.is_extra_encrypted, extra)


def _is_name(conn_id: str) -> bool:
    """Tell whether a row can have this name: PostgreSQL's driver fails at a NUL before it asks."""
    return "\0" not in conn_id


def _connection_table() -> Any:
    from airflow.models.connection import Connection

    return Connection.__table__


# --------------------------------------------------------------------------------------- records in variables


def read_variable(key: str) -> str | None:
    """Return the variable's value, None where there is no such variable.

    :raises StoreUnavailable: the database cannot be asked, or the value cannot be decrypted.
    """
    with _transaction() as transaction:
        cell = _variable_cell(transaction, key)
        return None if cell is None else cell.text(f"The variable {key!r}")


def write_variable(key: str, value: str, description: str) -> None:
    """Set the variable, whatever it holds now.

    :raises StoreUnavailable: it was not set.
    """
    for _ in range(_ATTEMPTS):
        with _transaction() as transaction:
            cell = _variable_cell(transaction, key, lock=True)
            if _put_variable(transaction, cell, key, value, description):
                return
    raise StoreUnavailable(f"The variable {key!r} is being changed all the time and was not set.")


def replace_variable(key: str, old: str | None, value: str, description: str) -> bool:
    """Set the variable if it holds ``old`` (None: it does not exist); tell whether it was set.

    :raises StoreUnavailable: the database cannot be asked.
    """
    with _transaction() as transaction:
        cell = _variable_cell(transaction, key, lock=True)
        held = None if cell is None else cell.text(f"The variable {key!r}")
        return held == old and _put_variable(transaction, cell, key, value, description)


def delete_variable(key: str) -> None:
    """Delete the variable; it may be gone already.

    :raises StoreUnavailable: it may still be there.
    """
    table = _variable_table()
    with _transaction() as transaction:
        transaction.execute(table.delete().where(table.c.key == key))


def _variable_cell(transaction: Transaction, key: str, *, lock: bool = False) -> Cell | None:
    table = _variable_table()
    query = table.select().where(table.c.key == key)
    row = transaction.execute(query.with_for_update() if lock else query).first()
    return None if row is None else Cell(row.id, row.val, row.is_encrypted)


def _put_variable(transaction: Transaction, cell: Cell | None, key: str, value: str, description: str) -> bool:
    from sqlalchemy.exc import IntegrityError

    table = _variable_table()
    if cell is not None:
        return _replace(transaction, cell, table.c.val, table.c.is_encrypted, value)
    raw, encrypted = _encrypt(value)
    try:
        transaction.execute(table.insert().values(key=key, val=raw, is_encrypted=encrypted, description=description))
    except IntegrityError:
        return False  # the key is unique: somebody else was first
    return True


def _variable_table() -> Any:
    from airflow.models.variable import Variable

    return Variable.__table__


# --------------------------------------------------------------------------------------------------- common


def metadata_engine() -> Engine:
    """Return the SQLAlchemy engine of the metadata database.

    :raises StoreUnavailable: this process has none.
    """
    from airflow import settings

    if getattr(settings, "engine", None) is None:
        raise StoreUnavailable("This process has no access to Airflow's metadata database.")
    engine: Engine = settings.engine  # type: ignore[assignment]
    return engine


def _replace(transaction: Transaction, cell: Cell, column: Any, flag: Any, text: str) -> bool:
    """Replace what ``cell`` holds, unless somebody has changed it since it was read.

    :param flag: the column that says whether ``column`` is encrypted.
    """
    raw, encrypted = _encrypt(text)
    table = column.table
    statement = table.update().where(table.c.id == cell.row_id, column == cell.raw)  # for None, that is IS NULL
    return bool(transaction.execute(statement.values({column: raw, flag: encrypted})).rowcount)


def get_fernet() -> Any:
    """Return Airflow's Fernet, or its stand-in where no key is set (``is_encrypted`` tells)."""
    from airflow.models.crypto import get_fernet as airflow_fernet

    return airflow_fernet()


def _encrypt(text: str) -> tuple[str, bool]:
    fernet = get_fernet()
    return fernet.encrypt(text.encode()).decode(), bool(fernet.is_encrypted)


@contextmanager
def _transaction() -> Iterator[Transaction]:
    """Open a separate transaction.

    Not Airflow's session: on 2.11 all code of a thread shares it, and a commit would commit the task's half-done state,
    too.

    :raises StoreUnavailable: for every error of the database; it does not quote statements, which hold tokens.
    """
    from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError

    try:
        with metadata_engine().begin() as transaction:
            yield transaction
    except PendingRollbackError:
        raise  # a bug of this module, not of the database
    except SQLAlchemyError as error:
        reason = type(getattr(error, "orig", None) or error).__name__
        raise StoreUnavailable(f"Airflow's metadata database failed ({reason}).") from None
