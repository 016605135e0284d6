"""What people see and do: for the pages; and as JSON for scripts, with a bearer token or the session of the pages.

The auth manager decides who may, for each connection. The audit log has each action under the person's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Header, HTTPException, Request

from airflow_oauth_provider.api_server import session
from airflow_oauth_provider.compat import api_server
from airflow_oauth_provider.compat.sdk import AirflowNotFoundException
from airflow_oauth_provider.doctor.examination import examine
from airflow_oauth_provider.doctor.grants import Grant, list_grants, read_grant, report_dead_grants
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.oauth2.errors import OAuth2ProtocolError
from airflow_oauth_provider.tokens.decision import TokenStatus

T = TypeVar("T")


def require(method: str, conn_id: str, user: Any) -> None:
    """Refuse (403) what the person may not do, ``GET`` to see or ``PUT`` to act: also where there is no connection."""
    if not api_server.is_permitted(method, conn_id, user):
        what = "see" if method == "GET" else "act on"
        raise HTTPException(403, f"You have no right to {what} this connection.")


def list_permitted_grants(user: Any) -> list[Grant]:
    """Return the grants that the person may see, the most urgent first; refuse (403) who may see no connections."""
    if not api_server.is_permitted("GET", None, user):
        raise HTTPException(403, "You have no right to see connections.")
    permitted = api_server.permitted_connections(user)
    grants = list_grants()
    report_dead_grants(grants)
    return [grant for grant in grants if grant.conn_id in permitted]


def find_grant(conn_id: str) -> Grant:
    """Return the grant of a connection; 404 where there is none."""
    try:
        return read_grant(conn_id)
    except AirflowNotFoundException:
        raise HTTPException(404, f"There is no connection {conn_id!r}.") from None


def audit(event: str, conn_id: str, user: Any, action: Callable[[], T]) -> T:
    """Do something, and note in the audit log, in a row named ``event``, who did it and whether it worked."""
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


def refresh(conn_id: str, user: Any) -> TokenStatus:
    """Refresh the access token now."""
    return audit("oauth2_refresh", conn_id, user, OAuth2Hook(conn_id, actor=user.get_name()).refresh)


def revoke(conn_id: str, user: Any) -> bool:
    """End the grant at the authorization server; False where there was nothing to revoke."""
    return audit("oauth2_revoke", conn_id, user, OAuth2Hook(conn_id, actor=user.get_name()).revoke)


def check(conn_id: str, user: Any) -> Report:
    """Have the doctor examine the connection, at its servers too."""
    return audit("oauth2_check", conn_id, user, lambda: examine(conn_id))


# -- JSON ------------------------------------------------------------------------------------------------------------

router = APIRouter(prefix="/json")

FormToken = Annotated[str, Header(alias=session.FORM_HEADER)]


@router.get("/grants")
def get_grants(user: GetUserDep) -> dict[str, Any]:
    """Return all grants that the person may see, the most urgent first."""
    return {"grants": [grant.as_json() for grant in list_permitted_grants(user)]}


@router.get("/grant")
def get_grant(connection: str, user: GetUserDep) -> dict[str, Any]:
    """Return one grant with its history, from whichever store it has."""
    require("GET", connection, user)
    grant = find_grant(connection)
    events = [
        {"at": event.at, "kind": event.kind, "actor": event.actor, "detail": event.detail}
        for event in reversed(grant.history)
    ]
    return {**grant.as_json(), "events": events}


@router.post("/refresh")
def post_refresh(request: Request, connection: str, user: GetUserDep, token: FormToken = "") -> dict[str, Any]:
    """Refresh the access token now."""
    return _act(request, connection, user, token, refresh).as_dict()


@router.post("/revoke")
def post_revoke(request: Request, connection: str, user: GetUserDep, token: FormToken = "") -> dict[str, Any]:
    """End the grant."""
    return {"revoked": _act(request, connection, user, token, revoke)}


@router.post("/check")
def post_check(request: Request, connection: str, user: GetUserDep, token: FormToken = "") -> dict[str, Any]:
    """Have the doctor examine the connection."""
    return _act(request, connection, user, token, check).as_json()


def _act(request: Request, conn_id: str, user: Any, token: str, action: Callable[[str, Any], T]) -> T:
    session.check_form(request, token, user)
    require("PUT", conn_id, user)
    find_grant(conn_id)
    try:
        return action(conn_id, user)
    except OAuth2Error as failure:
        raise HTTPException(409, str(failure)) from None
