"""Looks for secrets where none may be: in files, and in the plain text of a database."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import sqlalchemy as sa

# A signed JWT. Airflow gives them to its own tasks and to whoever logs in at its API.
JWT = re.compile(rb"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{20,}")


@dataclass(frozen=True, order=True)
class Finding:
    """One secret in one place; of the secret only a mark, since this is printed when a test fails."""

    place: str
    secret: str


class Secrets:
    """What to look for, in each form in which it might have been written."""

    def __init__(self, values: Iterable[str]) -> None:
        self._forms = {form: mark(value) for value in values if value for form in _forms(value)}
        self._pattern = re.compile(b"|".join(re.escape(form) for form in sorted(self._forms, key=len, reverse=True)))

    def within(self, data: bytes) -> set[str]:
        return {self._forms[hit] for hit in self._pattern.findall(data)} | {
            f"a JWT, {mark(hit.decode())}" for hit in JWT.findall(data)
        }


def mark(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:12]


def _forms(value: str) -> Iterator[bytes]:
    plain = {value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    plain |= {html.escape(value), value[::-1], value.encode().hex()}
    for form in plain:
        yield form.encode()
    # Base64 has three alignments: what stands before the secret shifts it. The ends depend on the neighbours.
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            middle = encode(b"\0" * shift + value.encode())[4 if shift else 0 :].rstrip(b"=")[:-1]
            if len(middle) >= 16:
                yield middle


def in_files(folder: Path, secrets: Secrets, leave_out: Iterable[str] = ()) -> list[Finding]:
    """Search every file below `folder`, but for those with a name in `leave_out`."""
    names = set(leave_out)
    return [
        Finding(f"file {path.relative_to(folder)}", secret)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in names
        for secret in sorted(secrets.within(path.read_bytes()))
    ]


def in_database(url: str, secrets: Secrets) -> list[Finding]:
    """Search every value of every column of every table."""
    return sorted(
        {
            Finding(f"column {table}.{column}", secret)
            for table, column, value in every_value(url)
            for secret in secrets.within(value)
        }
    )


def every_value(url: str) -> Iterator[tuple[str, str, bytes]]:
    """Dump the database: table, column, value."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
            for table in tables:
                # Plain SQL, so that every value comes as it is stored, whatever Airflow takes the column for.
                rows = connection.execute(sa.text(f'SELECT * FROM "{table}"'))
                columns = list(rows.keys())
                for row in rows:
                    for column, value in zip(columns, row, strict=True):
                        yield from ((table, column, data) for data in _as_bytes(value))
    finally:
        engine.dispose()


def _as_bytes(value: object) -> Iterator[bytes]:
    if value is None:
        return
    if isinstance(value, bytes | memoryview):
        data = bytes(value)
        yield data
        try:
            yield zlib.decompress(data)
        except zlib.error:
            return
    else:
        yield (value if isinstance(value, str) else json.dumps(value, default=str)).encode(errors="replace")
