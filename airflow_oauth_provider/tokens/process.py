"""Which process holds a lease, and whether it is gone: told on the same machine at once, elsewhere not at all.

Linux only. A process is named by machine, boot, namespaces, number and start time, so that a number that is used again,
another container or another machine is never taken for it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_PROC = Path("/proc")


def identify() -> str:
    """Return a name for this process, good for :func:`is_gone`; empty where it cannot be told apart for certain."""
    try:
        place = _place()
        started = _start_time(os.getpid())
    except OSError:
        return ""
    return f"{place}:{os.getpid()}:{started}" if place and started else ""


def is_gone(identity: str) -> bool:
    """Tell whether the process of that name has certainly ended; False where that cannot be told from here.

    :param identity: what :func:`identify` returned in that process.
    """
    place, _, rest = identity.partition(":")
    number, _, started = rest.partition(":")
    try:
        if not place or place != _place() or not number.isdecimal() or not number.isascii():
            return False
        os.kill(int(number), 0)  # the kernel's word: /proc may hide the processes of other users
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    try:
        return _start_time(int(number)) != started or _is_zombie(int(number))
    except FileNotFoundError:
        return _has_ended(int(number))
    except OSError:
        return False


def _place() -> str:
    """Return a hash of machine, boot and namespaces; empty where /proc does not show this process's own namespace."""
    if os.readlink(_PROC / "self") != str(os.getpid()):
        return ""
    parts = [(_PROC / "sys/kernel/random/boot_id").read_text().strip(), os.uname().nodename]
    parts.append(os.readlink(_PROC / "self/ns/pid"))
    # Start times are counted by the clock of the time namespace, where the kernel has them (5.6).
    parts.append(os.readlink(_PROC / "self/ns/time") if (_PROC / "self/ns/time").is_symlink() else "")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _fields(stat: Path) -> list[str]:
    # The second field is the program's name in parentheses, and may hold anything.
    return stat.read_text().rpartition(")")[2].split()


def _start_time(number: int) -> str:
    return _fields(_PROC / str(number) / "stat")[19]


def _is_zombie(number: int) -> bool:
    """Tell whether no thread of the process runs any more; its parent has only not looked yet."""
    threads = (_PROC / str(number) / "task").iterdir()
    return all(_fields(thread / "stat")[0] in ("Z", "X") for thread in threads)


def _has_ended(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
