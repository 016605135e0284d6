"""Pages written to storage as they arrive, so that memory stays flat however many there are."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import IO, Any

from airflow_oauth_provider.http import json_text
from airflow_oauth_provider.http.page import Page

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
#: How a gzip file begins (RFC 1952 section 2.3.1).
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class OutputSpec:
    """Where pages go, and how, in plain values.

    :param path: what ``ObjectStoragePath`` takes, such as ``s3://bucket/invoices.ndjson.gz``; ``.gz`` compresses.
    :param conn_id: the storage's Airflow connection; None: the path's own, or the environment's credentials.
    :param owner: names the task instance, so that a retry finds what its predecessor left.
    """

    path: str
    conn_id: str | None = None
    owner: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON."""
        return asdict(self)


class OutputFile:
    """A file of pages, or of their records, that comes about whole or not at all.

    It is written under another name, beginning with a dot and ending in ``.partial``, and renamed when it is complete.
    That name is the same for all tries of a task instance, so what a killed one left behind goes away with the next.

    :param spec: where it goes.
    :param records_path: where a page's records are; None: the pages are written as they came.
    """

    def __init__(self, spec: OutputSpec, records_path: str | None = None) -> None:
        from airflow_oauth_provider.compat.sdk import ObjectStoragePath

        self._path = ObjectStoragePath(spec.path, conn_id=spec.conn_id)
        mark = hashlib.sha256(spec.owner.encode()).hexdigest()[:12]
        self._partial = self._path.parent / f".{self._path.name}.{mark}.partial"
        self._records_path = records_path
        self._compresses = self._path.name.endswith(".gz")
        self._file: IO[bytes] | None = None
        self._gzip: gzip.GzipFile | None = None
        self._begun = False
        self._ends_a_line = True
        self._pages = self._size = 0
        self._records: int | None = None

    def open(self) -> None:
        """Begin."""
        fs = self._partial.fs
        if "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol):
            # Object stores have no folders, and some take the call for a wish to have a bucket.
            fs.makedirs(self._partial.parent.path, exist_ok=True)
        self._remove_partial()  # rather than write over it: a predecessor that still lives keeps its own file
        self._begun = True
        self._file = self._partial.fs.open(self._partial.path, "wb")

    def add(self, page: Page, records: list[Any] | None = None) -> int | None:
        """Add a page as it came, or its records, one JSON value a line.

        :param records: what to write instead of what is in the page.
        :return: how many records it had; None where the pages are written as they came.
        :raises ApiError: when there are no records at the path, or one that JSON cannot hold.
        """
        if records is None and self._records_path is not None:
            records = page.records(self._records_path)
        self._pages += 1
        if records is None:
            self._add_source(page.source())
            return None
        try:
            lines = json_text.encode_lines(records)
        except ValueError as error:
            raise page.error(f"has a record that cannot be written: {error}") from None
        self.write(lines.encode())
        self._records = (self._records or 0) + len(records)
        return len(records)

    def _add_source(self, source: bytes | IO[bytes]) -> None:
        """Add a page as it came, gzip too: a ``.gz`` file may have several parts (RFC 1952 section 2.2)."""
        chunks = _chunks(source)
        first = next(chunks, b"")
        if not first:
            return
        if not self._ends_a_line:
            self.write(b"\n")
        is_gzip = self._compresses and first.startswith(_GZIP)
        if is_gzip:
            log.info("%s: the page is gzip already and is written as it is", self._path.name)
        for chunk in itertools.chain((first,), chunks):
            self.write(chunk, is_gzip=is_gzip)

    def write(self, data: bytes, *, is_gzip: bool = False) -> None:
        """Add bytes, which with ``is_gzip`` belong to a part of its own that is compressed already."""
        if self._file is None:
            raise ValueError("the file is not open")
        if is_gzip:
            self._end_part()
        elif self._compresses and self._gzip is None:
            # Without a time in it the same data gives the same file.
            self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, compresslevel=6, mtime=0)
        (self._gzip or self._file).write(data)
        self._size += len(data)
        if data:  # a line break behind a compressed part would be a part of its own
            self._ends_a_line = is_gzip or data.endswith(b"\n")

    def commit(self) -> dict[str, Any]:
        """Put the file in the place of an older one; return its path, pages, records, and bytes before compression."""
        written = {"path": str(self._path), "pages": self._pages, "records": self._records, "bytes": self._size}
        self._close()
        self._partial.fs.mv(self._partial.path, self._path.path)
        self._begun = False
        return written

    def discard(self) -> None:
        """Give up: nothing remains. Has no effect after :meth:`commit`."""
        if not self._begun:
            return
        self._begun = False
        with contextlib.suppress(OSError, ValueError):
            self._close()
        self._remove_partial()

    def _close(self) -> None:
        if self._file is not None and self._compresses and self._size == 0:
            self.write(b"")  # an empty file of gzip is not an empty file
        file, self._file = self._file, None
        try:
            self._end_part()
        finally:
            if file is not None:
                file.close()

    def _end_part(self) -> None:
        part, self._gzip = self._gzip, None
        if part is not None:
            part.close()

    def _remove_partial(self) -> None:
        try:
            self._partial.fs.rm_file(self._partial.path)
        except FileNotFoundError:
            pass
        except NotImplementedError:
            log.debug("%s cannot remove files", type(self._partial.fs).__name__)


def _chunks(source: bytes | IO[bytes]) -> Iterator[bytes]:
    return iter((source,)) if isinstance(source, bytes) else iter(partial(source.read, _CHUNK), b"")


def owner_of(context: Mapping[str, Any]) -> str:
    """Return what names the task instance, the same for all its tries."""
    ti = context.get("ti") or context.get("task_instance")
    parts = [getattr(ti, name, "") for name in ("dag_id", "task_id", "run_id", "map_index")]
    return "/".join(str(part) for part in parts)
