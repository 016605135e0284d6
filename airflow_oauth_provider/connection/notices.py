"""Tells whom it concerns: the log of the task, the listeners of the deployment, and Airflow's metrics.

What happens to a grant comes as a :class:`~airflow_oauth_provider.tokens.events.GrantEvent`. All of it is counted;
listeners hear of the few things after which a person may have to do something, or need no longer.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from airflow_oauth_provider.compat import deployment, sdk
from airflow_oauth_provider.compat.api_server import grant_url
from airflow_oauth_provider.exceptions import ConfigurationError, OAuth2Error, ReauthorizationRequired
from airflow_oauth_provider.tokens.events import GrantEvent
from airflow_oauth_provider.tokens.grant_state import format_duration

log = logging.getLogger(__name__)

#: The counter of each kind of event; see docs/sign-in.md.
COUNTERS = {
    "refreshed": "oauth2.refreshes",
    "failed": "oauth2.refresh_failures",
    "sign_in_again": "oauth2.dead_grants",
    "works_again": "oauth2.revived_grants",
    "rotation_not_saved": "oauth2.rotations_not_saved",
    "signed_in": "oauth2.sign_ins",
    "revoked": "oauth2.revocations",
}
#: The timer of each kind of event that has a duration.
TIMERS = {"refreshed": "oauth2.refresh_duration", "waited": "oauth2.lease_wait_duration"}
#: Seconds until the refresh token ends.
GAUGES = {"ends_soon": "oauth2.refresh_token_seconds_left"}


@dataclass(frozen=True, slots=True)
class Notice:
    """What a listener is told. Nothing in it is secret.

    :param kind: ``ends_soon``, ``sign_in_again``, ``works_again`` or ``rotation_not_saved``.
    :param conn_id: the connection.
    :param text: what has happened, and what to do, in plain words.
    :param url: the page of the grant; empty where the deployment has none.
    :param at: seconds since the epoch.
    :param actor: by whom it came to light: ``dag_id/task_id``, a command, a user; empty where unknown.
    """

    kind: str
    conn_id: str
    text: str
    url: str
    at: float
    actor: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.url}".strip()


def log_what_to_do(failure: OAuth2Error, conn_id: str) -> None:
    """Log a short line of its own for an error that only a person mends: its own text stands below many frames."""
    if not isinstance(failure, ReauthorizationRequired | ConfigurationError):
        return
    url = grant_url(conn_id)
    what = "sign in again" if isinstance(failure, ReauthorizationRequired) else "mend the connection"
    command = "authorize" if isinstance(failure, ReauthorizationRequired) else "doctor"
    where = url or f"python -m airflow_oauth_provider {command} {conn_id}"
    log.error("Connection %r: a person has to %s: %s", conn_id, what, where)


def handle_event(event: GrantEvent) -> None:
    """Count an event, and tell the listeners if it is one for people."""
    _count(event)
    text = _describe(event)
    if text:
        notice = Notice(event.kind, event.conn_id, text, grant_url(event.conn_id), event.at, event.actor)
        for path in deployment.listeners():
            _tell(path, notice)


def _count(event: GrantEvent) -> None:
    """Count an event with Airflow's metrics: StatsD, Datadog or OpenTelemetry, as ``[metrics]`` says."""
    tags = {"conn_id": event.conn_id, **({"cause": event.detail} if event.detail else {})}
    if event.kind in COUNTERS:
        sdk.Stats.incr(COUNTERS[event.kind], tags=tags)
    if event.seconds is not None and event.kind in TIMERS:
        sdk.Stats.timing(TIMERS[event.kind], event.seconds * 1000.0, tags=tags)
    if event.seconds is not None and event.kind in GAUGES:
        sdk.Stats.gauge(GAUGES[event.kind], event.seconds, tags=tags)


def _describe(event: GrantEvent) -> str:
    """Return what to tell people; empty: nothing."""
    connection = f"OAuth 2.0 connection {event.conn_id!r}"
    if event.kind == "ends_soon":
        return f"{connection}: the refresh token ends in {format_duration(event.seconds or 0.0)}. Sign in before that."
    if event.kind == "sign_in_again":
        waits = f" A run waits for that: {event.actor}." if event.detail == "waits" and event.actor else ""
        return f"{connection}: the refresh token is of no more use, and tasks fail. Sign in again.{waits}"
    if event.kind == "works_again":
        return f"{connection} works again. There is nothing to do."
    if event.kind == "rotation_not_saved":
        if event.detail == "lost":
            return f"{connection}: new tokens could not be written anywhere. Sign in again once the store works."
        return (
            f"{connection}: new tokens could not be written to the store and wait in the fallback store, encrypted. "
            "Mend the store; do not enter an older refresh token."
        )
    return ""


def _tell(path: str, notice: Notice) -> None:
    """Call one listener. Whatever it does, the refresh goes on."""
    module, _, function = path.partition(":")
    try:
        listener: Callable[[Notice], object] = getattr(importlib.import_module(module), function)
        listener(notice)
    except Exception as error:  # noqa: BLE001 - foreign code; its text may hold what is secret
        log.warning(
            "The listener %s of [oauth2] listeners failed on %s of the connection %r (%s)",
            path,
            notice.kind,
            notice.conn_id,
            type(error).__name__,
        )
