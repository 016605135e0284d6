"""Files that are read and replaced as a whole: a reader, or a crash, sees the old content or the new."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

#: Bytes of the largest file that is read.
LARGEST = 4 * 1024 * 1024


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
