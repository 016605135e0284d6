"""Who may see and do what: the auth manager decides for each connection, and the audit log has what was done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import HTTPException

from airflow_oauth_provider.compat import api_server
from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.oauth2.errors import OAuth2ProtocolError

T = TypeVar("T")


def require(method: str, conn_id: str, user: Any) -> None:
    """Refuse what the person may not do.

    :param method: ``GET`` to see, ``PUT`` to act.
    :raises HTTPException: 403, the same one for a connection that does not exist.
    """
    if not api_server.is_permitted(method, conn_id, user):
        what = "see" if method == "GET" else "act on"
        raise HTTPException(403, f"You have no right to {what} this connection.")


def audited(event: str, conn_id: str, user: Any, action: Callable[[], T]) -> T:
    """Do something, and note in the audit log who did it and whether it worked.

    :param event: the name of the row.
    :param action: what to do.
    """
    outcome = "done"
    try:
        return action()
    except (OAuth2Error, OAuth2ProtocolError) as failure:
        outcome = type(failure).__name__
        raise
    except BaseException:
        outcome = "failed"
        raise
    finally:
        api_server.write_audit_log(event, user.get_name(), connection_id=conn_id, outcome=outcome)
