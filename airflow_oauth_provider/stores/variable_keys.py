"""Names for what is kept in Airflow variables, one a connection."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 250  # of a variable's key in Airflow's database
#: Airflow allows ``#`` and ``/`` in connection ids; in a variable's key they would end up in a URL of the
#: Execution API, where they mean something else.
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


def key(prefix: str, conn_id: str) -> str:
    """Return a key for ``conn_id`` that no other connection has.

    :param prefix: what kind of thing is kept.
    :param conn_id: the connection.
    """
    name = _UNSAFE.sub(lambda found: "".join(f"={byte:02x}" for byte in found[0].encode()), conn_id)
    room = _LONGEST - len(prefix)
    if len(name) > room:
        name = name[: room - 17] + "=" + hashlib.sha256(conn_id.encode()).hexdigest()[:16]
    return prefix + name
