"""Airflow's API server: its address, its secrets, its auth manager and its audit log."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_oauth_provider.compat.sdk import AIRFLOW

log = logging.getLogger(__name__)

#: Where the pages of the grants are. Not ``/oauth2``: the program oauth2-proxy uses that path.
PAGES_PREFIX = "/oauth2-grants"
#: Whether Airflow's own session opens a plugin's pages; before, only a bearer token did.
HAS_PAGES = AIRFLOW >= (3, 1)


def base_url() -> str:
    """Return ``[api] base_url`` without a slash at its end; empty where it is not set in this process."""
    from airflow_oauth_provider.compat.sdk import conf

    return (conf.get("api", "base_url", fallback="") or "").rstrip("/")


def grant_url(conn_id: str) -> str:
    """Return the address of the grant's page; empty where this version of Airflow has no pages."""
    if not HAS_PAGES:
        return ""
    return f"{base_url()}{PAGES_PREFIX}/grant?connection={quote(conn_id, safe='')}"


def base_path() -> str:
    """Return the path of :func:`base_url`: empty, or one that begins with a slash and ends without one."""
    return urlsplit(base_url()).path.rstrip("/")


def signing_secret() -> str:
    """Return a secret that all workers of the API server share.

    The one that signs Airflow's sessions comes first: workers share it, or nobody would stay signed in.
    """
    from airflow_oauth_provider.compat.deployment import fernet_keys
    from airflow_oauth_provider.compat.sdk import conf

    return (
        conf.get("api_auth", "jwt_secret", fallback="")
        or "".join(fernet_keys()[:1])
        or conf.get("api", "secret_key", fallback="")
        or ""
    )


def is_permitted(method: str, conn_id: str | None, user: Any) -> bool:
    """Ask the auth manager whether ``user`` may read (``GET``) or edit (``PUT``) a connection.

    :param conn_id: the connection; None: connections in general.
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails

    from airflow_oauth_provider.compat.connections import team_of

    details = None if conn_id is None else ConnectionDetails(conn_id=conn_id, **team_of(conn_id))
    permitted: bool = get_auth_manager().is_authorized_connection(method=method, details=details, user=user)  # type: ignore[arg-type]
    return permitted


def permitted_connections(user: Any) -> set[str]:
    """Return the names of the connections that ``user``, who may read connections at all, may read.

    Ask :func:`is_permitted` first: FAB's auth manager returns all names here to everybody.
    """
    from airflow.api_fastapi.app import get_auth_manager

    look_up = getattr(get_auth_manager(), "get_authorized_connections", None)
    if look_up is not None:
        found: set[str] = look_up(user=user, method="GET")
        return found
    from airflow_oauth_provider.compat import database  # Airflow 3.0, which has no teams

    names = {row.conn_id for row in database.list_connections("oauth2")}
    return {name for name in names if is_permitted("GET", name, user)}


def write_audit_log(event: str, user_name: str, **members: str) -> int | None:
    """Write a row of Airflow's audit log, in a separate transaction.

    :param event: what happened.
    :param user_name: who did it.
    :param members: what else is known of it. Nothing secret.
    :return: the row's number; None where the database did not take it.
    """
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    entry = Log(event=event, owner=user_name, owner_display_name=user_name, extra=json.dumps(members, sort_keys=True))
    try:
        with create_session() as session:
            session.add(entry)
            session.flush()
            return int(entry.id)
    except SQLAlchemyError as error:
        log.warning("%s is missing in the audit log (%s)", event, type(error).__name__)
        return None


def is_in_audit_log(event: str, other_than: int, seconds: float, **members: str) -> bool:
    """Tell whether the audit log has another row than ``other_than`` that says the same.

    :param seconds: how far to look back.
    """
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    since = datetime.now(UTC) - timedelta(seconds=seconds)
    query = select(Log.id).where(
        Log.event == event,
        Log.dttm >= since,
        Log.extra == json.dumps(members, sort_keys=True),
        Log.id != other_than,
    )
    with create_session() as session:
        return session.execute(query.limit(1)).first() is not None
