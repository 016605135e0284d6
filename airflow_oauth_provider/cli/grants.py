"""``status``, ``refresh``, ``revoke``, ``doctor``, ``revive``: the commands that look at a grant and act on it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from airflow_oauth_provider.cli.run import complain, say
from airflow_oauth_provider.compat.database import list_connections
from airflow_oauth_provider.compat.sdk import AirflowNotFoundException
from airflow_oauth_provider.connection.fields import CONN_TYPE
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.doctor.examination import examine
from airflow_oauth_provider.doctor.grants import Grant, list_grants, read_grant, report_dead_grants, sort_by_urgency
from airflow_oauth_provider.doctor.report import Finding
from airflow_oauth_provider.exceptions import ConfigurationError, StoreError
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.grant_state import State

#: The exit codes of a monitoring plugin, as Nagios, Icinga and Sensu read them.
OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
_CODES = {State.ENDS_SOON: WARNING, State.STORE_UNREADABLE: UNKNOWN, State.NOT_READ: UNKNOWN}
#: The exit code for several grants is the last one here that any of them has.
_SEVERITY = (OK, WARNING, UNKNOWN, CRITICAL)


def status(arguments: Any) -> int:
    """Print the state of one grant, or of all."""
    try:
        _check_one_or_all(arguments)
        grants = _read_all() if arguments.all else [read_grant(arguments.conn_id)]
    except AirflowNotFoundException:
        complain(f"The connection {arguments.conn_id!r} is not defined here.")
        return UNKNOWN
    except (ConfigurationError, StoreError) as failure:
        complain(str(failure))
        return UNKNOWN
    if arguments.json:
        say(json.dumps([grant.as_json() for grant in grants], indent=2))
    else:
        for grant in grants:
            say(_show_grant(grant))
    return max((exit_code(grant) for grant in grants), key=_SEVERITY.index, default=OK)


def _check_one_or_all(arguments: Any) -> None:
    if bool(arguments.conn_id) == arguments.all:
        raise ConfigurationError("Name one connection, or give --all.")


def _read_all() -> list[Grant]:
    """Return all grants, those in other stores too: a command has the time."""
    grants = [read_grant(grant.conn_id) if grant.state.state is State.NOT_READ else grant for grant in list_grants()]
    report_dead_grants(grants)
    return sort_by_urgency(grants)


def exit_code(grant: Grant) -> int:
    """Return the exit code that says how a grant is."""
    state = grant.state.state
    return CRITICAL if state.needs_person else _CODES.get(state, OK)


def _show_grant(grant: Grant) -> str:
    state = grant.state
    last = state.last_refresh
    parts = [f"{grant.conn_id}: {state.state.value}. {state.reason}"]
    if state.signed_in_as:
        parts.append(f"Signed in as {state.signed_in_as}.")
    if last is not None:
        parts.append(f"Last refresh {show_time(last.at)}{f' by {last.actor}' if last.actor else ''}.")
    return " ".join(parts)


def refresh(arguments: Any) -> int:
    """Refresh the access token of a connection."""
    hook = OAuth2Hook(arguments.conn_id, actor="airflow oauth2 refresh")
    result = hook.refresh(force=not arguments.if_due)
    say(f"{arguments.conn_id}: {result.sentence}")
    return WARNING if result.warning else OK


def revoke(arguments: Any) -> int:
    """Revoke the grant of a connection, or its access token alone."""
    kind = "access_token" if arguments.access_token else "refresh_token"
    what = kind.replace("_", " ")
    if OAuth2Hook(arguments.conn_id, actor="airflow oauth2 revoke").revoke(kind):
        after = "the next task refreshes" if arguments.access_token else "tasks fail until a person signs in again"
        say(f"{arguments.conn_id}: the {what} is revoked; {after}.")
    else:
        say(f"{arguments.conn_id}: there is no {what} to revoke.")
    return OK


def doctor(arguments: Any) -> int:
    """Print what is right and wrong about a connection, or about all; 1 if anything does not work."""
    _check_one_or_all(arguments)
    names = [row.conn_id for row in list_connections(CONN_TYPE)] if arguments.all else [arguments.conn_id]
    reports = [examine(name) for name in names]
    if arguments.json:
        found = [report.as_json() for report in reports]
        say(json.dumps(found if arguments.all else found[0], indent=2))
    else:
        for report in reports:
            if arguments.all:
                say(f"{report.conn_id}: {'does not work' if report.failed else 'works'}")
            for finding in report.findings:
                if finding.level != "ok" or not arguments.all:
                    say(_show_finding(finding))
    return int(any(report.failed for report in reports))


def _show_finding(finding: Finding) -> str:
    change = f"\n{'':22}-> {finding.change}" if finding.change and finding.level != "ok" else ""
    return f"{finding.level:<5} {finding.check:<15} {finding.text}{change}"


def revive(arguments: Any) -> int:
    """Remove the mark "dead" from a connection's record, so that the next task tries its refresh token again."""
    snapshot = ConnectionLoader(arguments.conn_id).load()
    record = snapshot.record
    if record is None or record.dead is None:
        say(f"The grant of the connection {arguments.conn_id!r} is not marked as dead; nothing was changed.")
        return 0
    snapshot.store.write(replace(record, dead=None), if_version=snapshot.version)
    say(f"The next task tries the refresh token of the connection {arguments.conn_id!r} again.")
    return 0
