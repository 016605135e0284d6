"""The route that replaces the token record of a connection, if nobody else has."""

from __future__ import annotations

import json
import logging
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_connection
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_oauth_provider.compat import database
from airflow_oauth_provider.connection.fields import CONN_TYPE
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.api_client import OTHER_TYPE, ROUTE
from airflow_oauth_provider.stores.parsing import mask_record
from airflow_oauth_provider.tokens.record import Record

log = logging.getLogger(__name__)

#: Characters of a record. Encrypted it grows by a third, and MySQL's column ends at 64 KiB.
MAX_RECORD = 32_000
#: Bytes of a request: in JSON a character may take six.
MAX_BODY = 6 * MAX_RECORD


class TokenRecordBody(BaseModel):
    """The record to write and the version that it replaces."""

    record: str = Field(max_length=MAX_RECORD, repr=False)
    if_version: str | None = Field(default=None, max_length=100)


class TokenRecordVersion(BaseModel):
    """The version of the record that was written."""

    version: str


def create_app() -> FastAPI:
    """Return the application that the plugin mounts."""
    app = FastAPI(title="OAuth 2.0 token store", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit)
    app.add_exception_handler(RequestValidationError, _say_what_not_which)
    app.put(
        ROUTE.replace("{connection_id}", "{connection_id:path}"),
        dependencies=[Depends(requires_access_connection("PUT"))],
    )(put_token_record)
    return app


def put_token_record(connection_id: str, body: TokenRecordBody, user: GetUserDep) -> TokenRecordVersion:
    """Replace the record of ``connection_id`` that has the version ``if_version``."""
    try:
        mask_record(Record.from_json(body.record))
    except ValueError as error:
        raise _answer(422, "not_a_record", str(error)) from None
    try:
        version = database.swap_record(connection_id, body.record, body.if_version, CONN_TYPE)
    except database.StaleRecord as error:
        raise _answer(412, "stale_version", str(error), version=error.held) from None
    except database.MissingRow as error:
        raise _answer(404, "connection_not_found", str(error)) from None
    except database.OtherType as error:
        # What stands in extra of other types, their hooks may send somewhere.
        raise _answer(409, OTHER_TYPE, str(error)) from None
    except StoreNotWritable as error:
        raise _answer(422, "not_writable", str(error)) from None
    except (StoreUnavailable, StaleVersion) as error:
        raise _answer(503, "unavailable", str(error)) from None
    _audit(connection_id, user)
    return TokenRecordVersion(version=version)


def _answer(status: int, reason: str, message: str, **more: Any) -> HTTPException:
    return HTTPException(status, {"reason": reason, "message": message, **more})


async def _say_what_not_which(_request: Request, error: Exception) -> JSONResponse:
    """Answer 422 without the input, which FastAPI would quote: it is made of tokens."""
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    detail = [{"loc": found.get("loc"), "type": found.get("type")} for found in errors]
    return JSONResponse({"detail": detail}, status_code=422)


def _audit(connection_id: str, user: Any) -> None:
    """Note in Airflow's audit log who wrote into which connection.

    Not ``action_logging``: that notes the request's body too, and does not know that this one is secret.
    """
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    name = user.get_name()
    extra = json.dumps({"connection_id": connection_id})
    entry = Log(event="oauth2_put_token_record", owner=name, owner_display_name=name, extra=extra)
    try:
        with create_session() as session:
            session.add(entry)
    except SQLAlchemyError as error:
        # The record is written; to say otherwise now would make the worker write it again.
        log.warning("The write to %s is missing in the audit log (%s)", connection_id, type(error).__name__)


class BodyLimit:
    """Turns away requests that are too large before they are read, and so before anybody had to log in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 411 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit() and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            await JSONResponse({"detail": "Content-Length required"}, 411)(scope, receive, send)
        elif length.isdigit() and int(length) > MAX_BODY:
            await JSONResponse({"detail": "Request too large"}, 413)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
