"""Tokens in a JSON file that other programs may share, such as a NiFi flow."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.json_document import TokenDocument, read_layout
from airflow_oauth_provider.stores.json_layout import Layout
from airflow_oauth_provider.stores.parsing import mask_record
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord

log = logging.getLogger(__name__)

#: Seconds to wait for the lock. Whoever holds it reads and writes one small file.
LOCK_PATIENCE = 10.0
#: Errors of the file system that no waiting mends.
_LASTING = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ELOOP})


class FileStore:
    """Keeps the record in one member of a JSON file, and the tokens where the file's other readers look for them.

    A write happens under an exclusive lock (``flock``) on the file ``<name>.lock`` beside it, compares the
    record, and replaces the file as a whole: readers see the old file or the new one, and a crash leaves one
    of the two. The new file is readable by its owner only. All other members stay.

    All workers must see the same file and the same locks: one machine, or a shared file system with locks (NFS
    4; not an object store that is mounted as one).

    :param conn_id: the connection whose tokens these are.
    :param path: the file. It must exist: a directory without it may be one that is not mounted, and taking that
        for "no tokens yet" would spend a refresh token that is long rotated.
    :param layout: where things stand in it.
    :param sleep: waits so many seconds.
    """

    name = "file"

    def __init__(self, conn_id: str, path: str, layout: Layout, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._conn_id = conn_id
        # A symbolic link stays one: what it points to is replaced.
        self._path = Path(os.path.realpath(path))
        self._document = TokenDocument(layout, f"the file {str(self._path)!r}")
        self._sleep = sleep
        self._known: dict[str, Any] | None = None

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        self._known = self._load()
        return self._document.read(self._known)

    def secrets(self) -> dict[str, Any]:
        """Return what stands beside the record: client id and secret, and a refresh token that a person entered."""
        if self._known is None:
            self._known = self._load()
        return self._document.secrets(self._known)

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        mask_record(record)
        new_version = version_of(record.to_json())
        assert new_version is not None  # noqa: S101 - a text always has a version
        with self._failing("written"), self._locked():
            document = self._load()
            held = self._document.record_in(document).version
            if held != if_version:
                if held == new_version:
                    return new_version  # our own write, whose end we have not seen
                raise StaleVersion(f"The record in {self.where} was changed by another worker.")
            self._document.update(document, record)
            self._replace(document)
        self._known = document
        return new_version

    @property
    def where(self) -> str:
        """What the file is called."""
        return self._document.where

    def _load(self) -> dict[str, Any]:
        with self._failing("read"):
            try:
                content = self._path.read_bytes()
            except FileNotFoundError:
                raise StoreNotWritable(
                    f"The connection {self._conn_id!r} keeps its tokens in {self.where}, which does not exist. Mount "
                    "its directory; or, for a new one, create the file with the content {}."
                ) from None
        try:
            document = json.loads(content)
        except ValueError:
            # Another program may be writing it at this moment. The parser's error would quote secrets.
            raise StoreUnavailable(f"{self.where} is not JSON, or not complete yet.") from None
        if not isinstance(document, dict):
            raise StoreNotWritable(f"{self.where} is JSON, but not an object.")
        return document

    def _replace(self, document: dict[str, Any]) -> None:
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if mode & 0o077:
            log.warning("%s could be read by others (mode %04o); from now on its owner only can.", self.where, mode)
        # mkstemp makes it readable by its owner only.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Beside the file, not the file itself: that one is replaced, and a lock on the old one guards nothing.
        descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_PATIENCE
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreUnavailable(f"{self.where} stayed locked for {LOCK_PATIENCE:g} s.") from None
                self._sleep(0.02)
            yield
        finally:
            os.close(descriptor)  # which unlocks it

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = StoreNotWritable if error.errno in _LASTING else StoreUnavailable
            raise kind(f"{self.where} could not be {what}: {error.strerror or type(error).__name__}.") from None


def open_store(conn_id: str, options: Mapping[str, Any]) -> FileStore:
    """Return the store of a connection with ``store: file``.

    :param conn_id: the connection.
    :param options: the keys of its extra that concern stores.
    :raises ConfigurationError: a key is missing or wrong.
    """
    path = options.get("file_path")
    if not path or not os.path.isabs(path):
        raise ConfigurationError(
            f"Connection {conn_id!r}: with store 'file', the key 'file_path' of its extra has to be the absolute path "
            f"of a JSON file{f', not {path!r}' if path else ''}."
        )
    return FileStore(conn_id, path, read_layout(conn_id, options.get("file_map")))
