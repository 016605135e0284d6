"""The grants as JSON, for scripts: with a bearer token of Airflow's API, or with the session of the pages."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Header, HTTPException, Request

from airflow_oauth_provider.api_server import actions, session
from airflow_oauth_provider.api_server.actions import list_permitted_grants, require
from airflow_oauth_provider.exceptions import OAuth2Error

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
    grant = actions.find_grant(connection)
    events = [
        {"at": event.at, "kind": event.kind, "actor": event.actor, "detail": event.detail}
        for event in reversed(grant.history)
    ]
    return {**grant.as_json(), "events": events}


@router.post("/refresh")
def post_refresh(request: Request, connection: str, user: GetUserDep, token: FormToken = "") -> dict[str, Any]:
    """Refresh the access token now."""
    _allow(request, connection, user, token)
    try:
        return actions.refresh(connection, user).as_dict()
    except OAuth2Error as failure:
        raise HTTPException(409, str(failure)) from None


@router.post("/revoke")
def post_revoke(request: Request, connection: str, user: GetUserDep, token: FormToken = "") -> dict[str, Any]:
    """End the grant."""
    _allow(request, connection, user, token)
    try:
        return {"revoked": actions.revoke(connection, user)}
    except OAuth2Error as failure:
        raise HTTPException(409, str(failure)) from None


@router.post("/check")
def post_check(request: Request, connection: str, user: GetUserDep, token: FormToken = "") -> dict[str, Any]:
    """Have the doctor examine the connection."""
    _allow(request, connection, user, token)
    return actions.check(connection, user).as_json()


def _allow(request: Request, conn_id: str, user: Any, token: str) -> None:
    session.check_form(request, token, user)
    require("PUT", conn_id, user)
    actions.find_grant(conn_id)
