"""Tokens in a JSON file that other programs may share, such as a NiFi flow."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import Permit, check_form, file_permit
from airflow_oauth_provider.stores.backend import Fetched, StoreOptions
from airflow_oauth_provider.stores.json_document import JsonDocument, Layout, read_layout
from airflow_oauth_provider.stores.record_store import RecordStore

log = logging.getLogger(__name__)

#: Seconds to wait for the lock. Whoever holds it reads and writes one small file.
LOCK_PATIENCE = 10.0
#: Bytes of the largest file that is read.
LARGEST = 4 * 1024 * 1024
_ABSOLUTE = re.compile(r"/[^\0]*")
#: Errors of the file system that no waiting mends.
_LASTING = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


class NotAFile(OSError):
    """The path is a folder, a pipe, a device or a symbolic link, or the file is too large to be a record."""


def read_file(path: Path) -> bytes:
    """Return the content of a regular file that ``path`` itself names: symbolic links at its end are not followed.

    :raises NotAFile: it is something else, which might never end or never answer, or larger than :data:`LARGEST`.
    :raises OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile("not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise NotAFile(f"larger than {LARGEST:,} bytes")
    return content


def replace_file(path: Path, text: str) -> None:
    """Write a file that its owner only can read, whole or not at all, and that survives a power cut.

    :raises OSError: it was not written.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class FileBackend:
    """Keeps the record in one member of a JSON file, and the tokens where the file's other readers look for them.

    A write happens under an exclusive lock (``flock``) on the file ``<name>.lock`` beside it, compares the record, and
    replaces the file as a whole. The new file is readable by its owner only. All other members stay.

    All workers must see the same file and the same locks: one machine, or a shared file system with locks (NFS
    4; not an object store that is mounted as one).

    :param path: the file. It must exist: a folder without it may be one that is not mounted, and taking that
        for "no tokens yet" would spend a refresh token that is long rotated.
    :param layout: where things stand in it.
    """

    name = "file"

    def __init__(self, conn_id: str, path: str, layout: Layout) -> None:
        self._conn_id = conn_id
        # A symbolic link stays one: what it points to is replaced.
        self._path = Path(os.path.realpath(path))
        self._document = JsonDocument(layout, f"the file {str(self._path)!r}")
        self.where, self.record_where = self._document.where, self._document.record_where

    def fetch(self) -> Fetched:
        """Return what the file holds; see :meth:`Backend.fetch`."""
        return self._document.to_fetched(self._load())

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """Replace the record, if it is as it was; see :meth:`Backend.replace`."""
        with self._explain("written"), self._lock():
            document = self._load()
            if self._document.record_text(document) != fetched.text:
                return None
            document = self._document.with_record(document, text)
            mode = stat.S_IMODE(self._path.stat().st_mode)
            if mode & 0o077:
                log.warning("%s could be read by others (mode %04o); from now on its owner only can.", self.where, mode)
            replace_file(self._path, json.dumps(document, indent=2) + "\n")
        return self._document.to_fetched(document)

    def _load(self) -> dict[str, Any]:
        with self._explain("read"):
            try:
                content = read_file(self._path)
            except FileNotFoundError:
                raise StoreNotWritable(
                    f"{self.where}, in which it keeps its tokens, does not exist. Mount its folder; or, for a new one, "
                    "create the file with the content {}.",
                    conn_id=self._conn_id,
                ) from None
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            # Another program may be writing it at this moment. The parser's error would quote secrets.
            raise StoreUnavailable(f"{self.where} is not JSON, or not complete yet.") from None
        if not isinstance(document, dict):
            raise StoreNotWritable(f"{self.where} is JSON, but not an object.")
        return document

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        # Beside the file, not the file itself: that one is replaced, and a lock on the old one guards nothing.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(f"{self._path}.lock", flags, 0o600)
        try:
            deadline = time.monotonic() + LOCK_PATIENCE
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreUnavailable(f"{self.where} stayed locked for {LOCK_PATIENCE:g} s.") from None
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)  # which unlocks it

    @contextlib.contextmanager
    def _explain(self, what: str) -> Iterator[None]:
        try:
            yield
        except NotAFile as error:
            raise StoreNotWritable(f"{self.where} could not be {what}: it is {error}.") from None
        except OSError as error:
            kind = StoreNotWritable if error.errno in _LASTING else StoreUnavailable
            raise kind(f"{self.where} could not be {what}: {error.strerror or type(error).__name__}.") from None


def find_permit(conn_id: str, options: StoreOptions) -> Permit:
    """Return whether the connection may use the file that it names."""
    return file_permit(conn_id, "file_path", options.file_path or "", deployment.allowed_folders())


def open_store(conn_id: str, options: StoreOptions) -> RecordStore:
    """Return the store of a connection with ``store: file``.

    :raises ConfigurationError: a key is missing or wrong.
    """
    path = check_form(conn_id, "file_path", options.file_path, "the absolute path of a JSON file", _ABSOLUTE)
    layout = read_layout(conn_id, options.file_map)
    return RecordStore(FileBackend(conn_id, path, layout), permit=find_permit(conn_id, options))
