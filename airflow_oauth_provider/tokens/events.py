"""What happens to a grant: events for listeners, metrics and alerts, and the history that its record keeps.

Nothing in either is secret.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from airflow_oauth_provider.tokens import json_members

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
    """Tell the listener, which must not be able to break a refresh."""
    if on_event is None:
        return
    try:
        on_event(event)
    except Exception as failure:  # noqa: BLE001 - foreign code; its text may hold anything
        log.warning(
            "Connection %r: the listener of %r events raised %s", event.conn_id, event.kind, type(failure).__name__
        )


#: How many entries a record keeps.
MAX_ENTRIES = 50
#: The longest actor and the longest detail, in characters.
MAX_ACTOR, MAX_DETAIL = 80, 40

_check_at = json_members.number(0.0, json_members.LATEST_TIME)
_check_kind = json_members.text(20)
_check_actor = json_members.text(MAX_ACTOR)
_check_detail = json_members.text(MAX_DETAIL)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened to a grant.

    :param at: seconds since the epoch, on the clock of whoever wrote it.
    :param kind: ``refreshed``, ``failed``, ``waited``, ``refused``, ``recovered``, ``holder_gone``, ``signed_in`` or
        ``revoked``; a later version may write others.
    :param actor: who: ``dag_id/task_id``, a command, a user's name; empty where unknown.
    :param detail: one or two words of this package's own, such as the name of an error. Never text of a server: it may
        repeat a secret.
    """

    at: float
    kind: str
    actor: str = ""
    detail: str = ""

    def to_json(self) -> list[float | str]:
        """Return the entry as it stands in a record: a short list."""
        return [self.at, self.kind, self.actor, self.detail]

    @classmethod
    def from_json(cls, value: object) -> HistoryEntry:
        """Read what :meth:`to_json` returned; a later version may add items.

        :raises ValueError: it is something else.
        """
        if not isinstance(value, list) or len(value) < 4:
            raise json_members.WrongMember("has to be a list of time, kind, actor and detail")
        at, kind, actor, detail = value[:4]
        return cls(_check_at(at), _check_kind(kind), _check_actor(actor), _check_detail(detail))


def make_entry(
    at: float, kind: str, actor: str = "", detail: str = "", secrets: tuple[str | None, ...] = ()
) -> HistoryEntry:
    """Return an entry that is short, printable and without any of ``secrets``.

    :param at: seconds since the epoch.
    :param secrets: what must not stand in it: a person may have put a token into a DAG's name.
    """
    for secret in secrets:
        if secret:
            actor, detail = actor.replace(secret, "***"), detail.replace(secret, "***")
    at = min(max(at, 0.0), json_members.LATEST_TIME)
    # Whole milliseconds, so that an entry comes back from JSON as it went, and is short.
    return HistoryEntry(round(at, 3), kind, printable(actor)[:MAX_ACTOR], printable(detail)[:MAX_DETAIL])


def printable(text: str) -> str:
    """Return ``text`` with a question mark for each character that cannot be printed."""
    return "".join(character if character.isprintable() else "?" for character in text)
