"""What a deployment can be told of its grants: for listeners, metrics and alerts. Nothing in it is secret."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

#: All kinds of events, and what they say.
KINDS = {
    "refreshed": "the access token is new; seconds: how long that took",
    "failed": "a refresh failed for a passing reason, or because of the configuration; detail: the error's class",
    "waited": "a caller waited for another worker's refresh; seconds: how long",
    "ends_soon": "a person has to sign in again soon, and refreshing does not put that off; seconds: until then",
    "sign_in_again": "the server has refused the refresh token for good",
    "works_again": "a grant that was dead, or whose last refresh failed, has been refreshed",
    "rotation_not_saved": "new tokens did not reach the store; detail: where they are instead",
    "signed_in": "a person has signed in",
    "revoked": "the grant was revoked on purpose",
}


@dataclass(frozen=True, slots=True)
class GrantEvent:
    """One event.

    :param kind: one of :data:`KINDS`.
    :param conn_id: the connection.
    :param at: seconds since the epoch, on this machine's clock.
    :param actor: who: ``dag_id/task_id``, a command, a user's name; empty where unknown.
    :param seconds: a duration, where the kind has one.
    :param detail: one or two words of this package's own.
    """

    kind: str
    conn_id: str
    at: float
    actor: str = ""
    seconds: float | None = None
    detail: str = ""


OnEvent = Callable[[GrantEvent], None]


def emit(on_event: OnEvent | None, event: GrantEvent) -> None:
    """Tell the listener, which must not be able to break a refresh.

    :param on_event: the listener; None: there is none.
    :param event: what to tell.
    """
    if on_event is None:
        return
    try:
        on_event(event)
    except Exception as failure:  # noqa: BLE001 - foreign code; its text may hold anything
        log.warning(
            "Connection %r: the listener of %r events raised %s", event.conn_id, event.kind, type(failure).__name__
        )
