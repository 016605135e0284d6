"""``status``, ``refresh`` and ``revoke``: see and act from a shell, and from a monitoring check."""

from __future__ import annotations

import json
from typing import Any

from airflow_oauth_provider.cli.run import check_one_or_all, complain, say
from airflow_oauth_provider.compat.sdk import AirflowNotFoundException
from airflow_oauth_provider.doctor.grants import Grant, list_grants, read_grant, sort_by_urgency
from airflow_oauth_provider.exceptions import ConfigurationError, StoreError
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.grant_state import State

#: The exit codes of a monitoring plugin, as Nagios, Icinga and Sensu read them.
OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
_CODES = {State.ENDS_SOON: WARNING, State.STORE_UNREADABLE: UNKNOWN, State.NOT_READ: UNKNOWN}
#: What one state says about all: what is broken counts for more than what nobody knows.
_SEVERITY = (OK, WARNING, UNKNOWN, CRITICAL)


def status(arguments: Any) -> int:
    """Print the state of one grant, or of all."""
    try:
        check_one_or_all(arguments)
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
            say(_line(grant))
    return max((exit_code(grant) for grant in grants), key=_SEVERITY.index, default=OK)


def _read_all() -> list[Grant]:
    """Return all grants, those in other stores too: whoever asks here can wait for that."""
    grants = list_grants()
    return sort_by_urgency(
        [read_grant(grant.conn_id) if grant.state.state is State.NOT_READ else grant for grant in grants]
    )


def exit_code(grant: Grant) -> int:
    """Return the exit code that says how a grant is."""
    state = grant.state.state
    return CRITICAL if state.needs_person else _CODES.get(state, OK)


def _line(grant: Grant) -> str:
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
