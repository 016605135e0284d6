"""Names that are looked up once: an address that was judged is the one that is connected to.

Who answers for a name may answer otherwise a moment later: with a public address for the judgement, and one of this
network for the connection (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

_current = threading.local()


@contextlib.contextmanager
def look_up_once() -> Iterator[None]:
    """Let each name keep, in this thread and in the block, the addresses that it had first."""
    before: dict[str, list[str]] | None = getattr(_current, "known", None)
    _current.known = {}
    try:
        yield
    finally:
        _current.known = before


def find(host: str) -> list[str]:
    """Return the addresses of ``host``, of IPv4 and IPv6; none where nobody knows it."""
    known: dict[str, list[str]] = {} if (found := getattr(_current, "known", None)) is None else found
    if host not in known:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
        except (OSError, UnicodeError):
            entries = []
        known[host] = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    return known[host]


def are_kept() -> bool:
    """Tell whether names keep their addresses now, in this thread."""
    return getattr(_current, "known", None) is not None
