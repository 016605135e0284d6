"""Airflow's metrics: StatsD, Datadog or OpenTelemetry, as ``[metrics]`` in airflow.cfg says."""

from __future__ import annotations

import logging

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


def count(kind: str, conn_id: str, seconds: float | None = None, cause: str = "") -> None:
    """Count one event.

    :param kind: of :data:`airflow_oauth_provider.tokens.events.KINDS`.
    :param conn_id: the connection, which becomes a tag.
    :param seconds: how long it took, or how long there is left.
    :param cause: the name of an error, which becomes a tag.
    """
    from airflow_oauth_provider.compat.sdk import Stats

    tags = {"conn_id": conn_id, **({"cause": cause} if cause else {})}
    if kind in COUNTERS:
        Stats.incr(COUNTERS[kind], tags=tags)
    if seconds is not None and kind in TIMERS:
        Stats.timing(TIMERS[kind], seconds * 1000.0, tags=tags)
    if seconds is not None and kind in GAUGES:
        Stats.gauge(GAUGES[kind], seconds, tags=tags)
