"""What has happened to a grant: small entries without secrets, kept in its record."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_oauth_provider.tokens import json_members

#: How many entries a record keeps.
MAX_EVENTS = 50
#: The longest actor and the longest detail, in characters.
MAX_ACTOR, MAX_DETAIL = 80, 40

#: What can stand in a history.
KINDS = frozenset({"refreshed", "failed", "waited", "refused", "recovered", "holder_gone", "signed_in", "revoked"})

_check_at = json_members.number(0.0, json_members.LATEST_TIME)
_check_kind = json_members.text(20)
_check_actor = json_members.text(MAX_ACTOR)
_check_detail = json_members.text(MAX_DETAIL)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a grant.

    :param at: seconds since the epoch, on the clock of whoever wrote it.
    :param kind: one of :data:`KINDS`; a later version may write others.
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
    def from_json(cls, value: object) -> Event:
        """Read what :meth:`to_json` returned; a later version may add items.

        :raises ValueError: it is something else.
        """
        if not isinstance(value, list) or len(value) < 4:
            raise json_members.WrongMember("has to be a list of time, kind, actor and detail")
        at, kind, actor, detail = value[:4]
        return cls(_check_at(at), _check_kind(kind), _check_actor(actor), _check_detail(detail))


def event(at: float, kind: str, actor: str = "", detail: str = "", secrets: tuple[str | None, ...] = ()) -> Event:
    """Return an entry that is short, printable and without any of ``secrets``.

    :param at: seconds since the epoch.
    :param kind: one of :data:`KINDS`.
    :param actor: see :class:`Event`.
    :param detail: see :class:`Event`.
    :param secrets: what must not stand in it: a person may have put a token into a DAG's name.
    """
    for secret in secrets:
        if secret:
            actor, detail = actor.replace(secret, "***"), detail.replace(secret, "***")
    at = min(max(at, 0.0), json_members.LATEST_TIME)
    # Whole milliseconds, so that an entry comes back from JSON as it went, and is short.
    return Event(round(at, 3), kind, printable(actor)[:MAX_ACTOR], printable(detail)[:MAX_DETAIL])


def printable(text: str) -> str:
    """Return ``text`` with a question mark for each character that cannot be printed."""
    return "".join(character if character.isprintable() else "?" for character in text)
