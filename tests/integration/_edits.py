"""Edits of connections by way of Airflow's model, with workers in between: `python -m tests.integration._edits`.

Each case is a function that gets a connection of its own; what it gives goes into one line of JSON. For any Airflow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from airflow import settings
from airflow.models.connection import Connection
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, event, text, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from airflow_oauth_provider.compat import database
from airflow_oauth_provider.compat.sdk import AIRFLOW_V_3_0_PLUS
from airflow_oauth_provider.connection.edits import keep_records
from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.tokens.record import Record

EXTRA = {"oauth_url": "https://as/token", "refresh_token": "entered-1"}


def record(generation: int) -> str:
    return Record(generation=generation, refresh_token=f"rotated-{generation}").to_json()


class Case:
    """One connection.

    :param generation: of the record that it has, None for no record.
    """

    def __init__(self, conn_id: str, generation: int | None = None, conn_type: str = "oauth2") -> None:
        self.conn_id = conn_id
        self.session = settings.Session()
        self.session.add(Connection(conn_id=conn_id, conn_type=conn_type, extra=json.dumps(EXTRA)))
        self.session.commit()
        self.version: str | None = None
        if generation is not None:
            self.rotate(generation)
        self.session.expire_all()
        self.connection = self.session.query(Connection).filter_by(conn_id=conn_id).one()
        self.opened = json.loads(self.connection.extra)

    def rotate(self, generation: int) -> None:
        """Write a record as a worker does, past the session."""
        self.version = database.swap_record(self.conn_id, record(generation), self.version).version

    def spoil(self) -> None:
        """Have the row encrypted with a key that nobody here has."""
        raw = Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
        table = Connection.__table__
        with database.metadata_engine().begin() as transaction:
            transaction.execute(update(table).where(table.c.conn_id == self.conn_id).values(extra=raw))
        self.spoiled = raw

    def raw(self) -> str:
        query = text("SELECT extra FROM connection WHERE conn_id = :conn_id")
        with database.metadata_engine().begin() as transaction:
            found: str = transaction.execute(query, {"conn_id": self.conn_id}).scalar_one()
        return found

    def extra(self) -> Any:
        """What the database has beside guard and key, with the record as its generation."""
        found = json.loads(database.read_extra(self.conn_id) or "null")
        if isinstance(found, dict) and "use_oauth2_hook" in found:
            assert next(iter(found)) == "use_oauth2_hook"
            assert ("token_record_key" in found) == AIRFLOW_V_3_0_PLUS
            found = {name: found[name] for name in found if name not in ("use_oauth2_hook", "token_record_key")}
        if isinstance(found, dict) and "token_record" in found:
            found["token_record"] = Record.from_json(found["token_record"]).generation
        return found

    def failing(self) -> str:
        """Commit, which fails: with what?"""
        try:
            self.session.commit()
        except (OAuth2Error, SQLAlchemyError, ValueError) as error:
            self.session.rollback()
            return f"{type(error).__name__}: {error}"
        return "nothing failed"


def the_first_record_is_written_meanwhile(case: Case) -> Any:
    case.rotate(1)
    case.connection.extra = json.dumps({**case.opened, "scope": "read"})
    case.session.commit()
    return case.extra()


def a_rotation_meanwhile(case: Case) -> Any:
    case.rotate(2)
    case.connection.extra = json.dumps({**case.opened, "scope": "read"})
    case.session.commit()
    return case.extra()


def the_row_is_locked_from_the_look_to_the_write(case: Case) -> Any:
    """A worker's write cannot come between what this package reads in the flush and Airflow's UPDATE."""
    url = settings.engine.url
    sqlite = url.drivername.startswith("sqlite")
    other = create_engine(url, connect_args={"timeout": 0} if sqlite else {})
    statement = "BEGIN IMMEDIATE" if sqlite else "SELECT id FROM connection WHERE conn_id = :conn_id FOR UPDATE NOWAIT"
    seen = []

    def worker(*_: Any) -> None:
        try:
            with other.connect() as transaction:
                transaction.execute(text(statement), {} if sqlite else {"conn_id": case.conn_id})
            seen.append("free")
        except OperationalError as error:
            seen.append(str(error.orig).strip())

    event.listen(Connection, "before_update", worker)
    case.connection.extra = json.dumps({**case.opened, "scope": "read"})
    case.session.commit()
    event.remove(Connection, "before_update", worker)
    other.dispose()
    return seen


def a_new_refresh_token_is_entered(case: Case) -> Any:
    case.connection.extra = json.dumps({"refresh_token": "entered-2"})
    case.session.commit()
    return case.extra()


def the_extra_is_emptied(case: Case) -> Any:
    case.connection.extra = None
    case.session.commit()
    return case.extra()


def an_old_record_is_imported(case: Case) -> Any:
    """As `airflow connections import --overwrite` does it."""
    case.rotate(2)
    imported = Connection(conn_id=case.conn_id, conn_type="oauth2", host="h", extra=json.dumps(case.opened))
    imported.id = case.connection.id
    case.session.merge(imported)
    case.session.commit()
    return case.extra()


def a_record_is_imported_where_there_is_none(case: Case) -> Any:
    case.connection.extra = json.dumps({**EXTRA, "token_record": record(7)})
    case.session.commit()
    return case.extra()


def the_type_is_changed(case: Case) -> Any:
    case.connection.conn_type = "http"
    case.connection.extra = json.dumps({**case.opened, "timeout": 5})
    case.session.commit()
    return case.extra()


def the_type_is_changed_while_the_first_record_is_written(case: Case) -> Any:
    case.rotate(1)
    case.connection.conn_type = "http"
    case.session.commit()
    return case.extra()


def a_bare_connection_becomes_another_type_while_the_first_record_is_written(case: Case) -> Any:
    case.connection.extra = None
    case.session.commit()
    # This session has read it, and knows of nothing but guard and key.
    assert json.loads(case.connection.extra).keys() <= {"use_oauth2_hook", "token_record_key"}
    case.rotate(1)
    case.connection.conn_type = "http"
    case.session.commit()
    return case.extra()


def another_type_becomes_ours(case: Case) -> Any:
    """As ``doctor`` advises whoever uses the hook on another type."""
    case.rotate(2)
    case.connection.conn_type = "oauth2"
    case.connection.extra = json.dumps(case.opened)
    case.session.commit()
    return case.extra()


def no_place_is_left_for_the_record(case: Case) -> Any:
    case.connection._extra = "[1, 2]"  # Airflow 3 would not take it by the setter
    case.connection.is_extra_encrypted = False
    return case.failing(), case.extra()


def the_row_cannot_be_decrypted(case: Case) -> Any:
    case.spoil()
    case.connection.extra = json.dumps(EXTRA)
    said = case.failing()
    kept = case.raw() == case.spoiled
    case.connection.host = "edited"
    return said, kept, case.failing()


def another_type_cannot_be_decrypted(case: Case) -> Any:
    case.spoil()
    case.connection.extra = json.dumps({"a": 1})
    said = case.failing(), case.extra()
    case.connection.conn_type = "generic"
    return *said, case.failing()


def the_row_is_deleted_meanwhile(case: Case) -> Any:
    with database.metadata_engine().begin() as transaction:
        transaction.execute(text("DELETE FROM connection WHERE conn_id = :conn_id"), {"conn_id": case.conn_id})
    case.connection.extra = json.dumps({**case.opened, "scope": "read"})
    return case.failing().partition(":")[0]


CASES: dict[Callable[[Case], Any], tuple[Any, ...]] = {
    the_first_record_is_written_meanwhile: (),
    a_rotation_meanwhile: (1,),
    the_row_is_locked_from_the_look_to_the_write: (1,),
    a_new_refresh_token_is_entered: (1,),
    the_extra_is_emptied: (1,),
    an_old_record_is_imported: (1,),
    a_record_is_imported_where_there_is_none: (),
    the_type_is_changed: (1,),
    the_type_is_changed_while_the_first_record_is_written: (),
    a_bare_connection_becomes_another_type_while_the_first_record_is_written: (),
    another_type_becomes_ours: (1, "http"),
    no_place_is_left_for_the_record: (1,),
    the_row_cannot_be_decrypted: (1,),
    another_type_cannot_be_decrypted: (None, "http"),
    the_row_is_deleted_meanwhile: (1,),
}


def main() -> None:
    keep_records()
    keep_records()
    found = {case.__name__: case(Case(case.__name__, *given)) for case, given in CASES.items()}
    with database.metadata_engine().begin() as transaction:
        transaction.execute(text("DELETE FROM connection"))  # one that cannot be decrypted would be in others' way
    sys.stdout.write("\nFOUND " + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
