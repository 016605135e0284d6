"""The two routes by which tasks keep tokens in a connection: replace its record, and have its record key minted.

No auth manager is asked. A request to replace a record is signed with the record key of the connection
(:mod:`airflow_oauth_provider.stores.record_key`), which everybody has who can read the connection. So a task can write
only what it can read, with any auth manager.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from airflow_oauth_provider.compat import api_server, connections, database
from airflow_oauth_provider.compat.sdk import AirflowNotFoundException
from airflow_oauth_provider.connection.fields import CONN_TYPE
from airflow_oauth_provider.exceptions import StoreError, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import record_key
from airflow_oauth_provider.stores.record_key import KEY_ROUTE, RECORD_ROUTE, Signature
from airflow_oauth_provider.tokens.record import Record

log = logging.getLogger(__name__)

#: Characters of a record. Encrypted it grows by a third, and MySQL's column ends at 64 KiB.
MAX_RECORD = 32_000
#: Bytes of a request: in JSON a character may take six.
MAX_BODY = 6 * MAX_RECORD
#: Seconds that a request may take to arrive.
_PATIENCE = 20.0


class Throttle:
    """Counts events in bounded memory: allows each key so many events at once, and so many a second after that.

    :param keys: how many keys are remembered; the one that was longest quiet is forgotten first.
    :param clock: elapsed seconds.
    """

    def __init__(
        self, burst: int, rate: float, keys: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._rate, self._keys, self._clock = burst, rate, keys, clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, key: Hashable) -> bool:
        """Count an event of ``key``; tell whether it is within what is allowed."""
        now = self._clock()
        with self._lock:
            left, seen = self._left.pop(key, (float(self._burst), now))
            left = min(float(self._burst), left + (now - seen) * self._rate)
            allowed = left >= 1
            self._left[key] = (left - 1 if allowed else left, now)
            if len(self._left) > self._keys:
                self._left.popitem(last=False)
            return allowed


#: Failures by client and connection: those beyond are answered 429, and not logged. A request with a valid signature
#: always passes: a stranger must not keep tasks from writing, and 256 random bits cannot be guessed.
_failures = Throttle(burst=20, rate=0.5)
#: Requests for a key, by client. A worker's tasks share one.
_requests = Throttle(burst=300, rate=20.0)


class _Refusal(Exception):
    """No success: a word for programs, a message for people that holds nothing of the request's body."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class TokenRecordBody(BaseModel):
    """The record to write, the version that it replaces, and the task that says it sends it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    record: str = Field(max_length=MAX_RECORD, repr=False)
    if_version: str | None = Field(default=None, max_length=100)
    task: str = Field(default="", max_length=500)


def create_app() -> FastAPI:
    """Return the application that the plugin mounts."""
    app = FastAPI(title="OAuth 2.0 token store", docs_url=None, redoc_url=None, openapi_url=None)
    app.put(RECORD_ROUTE.replace("{connection_id}", "{connection_id:path}"))(put_token_record)
    app.post(KEY_ROUTE.replace("{connection_id}", "{connection_id:path}"))(post_record_key)
    return app


async def put_token_record(connection_id: str, request: Request) -> Response:
    """Replace the record of ``connection_id`` that has the version ``if_version``."""
    try:
        body = await _read(request)
        signature = Signature.from_headers(request.headers)
        key = await run_in_threadpool(_find_key, connection_id, signature, body)
    except _Refusal as refusal:
        return _answer(refusal)
    except StoreUnavailable:
        return _answer(_Refusal(503, "unavailable", "the metadata database failed"))
    if key is None:
        return _answer(_forbidden(request, connection_id))
    try:
        version = await run_in_threadpool(_put, connection_id, key, body)
        status, content = 200, {"version": version}
    except database.WrongKey:
        return _answer(_forbidden(request, connection_id))
    except _Refusal as refusal:
        status, content = refusal.status, {"reason": refusal.reason, "message": str(refusal)}
    text = json.dumps(content).encode()
    signed = {record_key.SIGNATURE_FIELD: record_key.sign_answer(key, signature, status, text)}
    return Response(text, status, signed, "application/json")


async def post_record_key(connection_id: str, request: Request) -> Response:
    """Mint a record key for ``connection_id``, if that is a row without one. Each name gets the same answer."""
    if not _requests.allow(_client(request)):
        return _answer(_Refusal(429, "too_many_requests", "Too many requests. Try again later."))
    try:
        await run_in_threadpool(database.prepare_rows, CONN_TYPE, connection_id, with_key=True)
    except StoreUnavailable:
        return _answer(_Refusal(503, "unavailable", "the metadata database failed"))
    return JSONResponse({"accepted": True}, 202)


async def _read(request: Request) -> bytes:
    """Return the body, bounded in size and time: the sender is not known yet."""
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise _Refusal(411, "length_required", "Content-Length required")
    if len(length) > 9 or int(length) > MAX_BODY:
        raise _Refusal(413, "too_large", "Request too large")
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY:
                    raise _Refusal(413, "too_large", "Request too large")
    except TimeoutError:
        raise _Refusal(408, "timeout", "The request did not arrive in time") from None
    except ClientDisconnect:
        raise _Refusal(400, "incomplete", "The request ended before its body") from None
    return bytes(body)


def _find_key(conn_id: str, signature: Signature, body: bytes) -> str | None:
    """Return the record key of ``conn_id`` if the request is signed with it, else None."""
    held = database.record_key(conn_id, CONN_TYPE)
    # Without a key check against a random one, so that the answer takes as long.
    key = held or secrets.token_urlsafe(32)
    valid = record_key.is_valid(signature, key, "PUT", conn_id, body, now=time.time())
    return held if valid and held is not None else None


def _put(conn_id: str, key: str, body: bytes) -> str:
    """Write what an authorized body says; return the version of the record that was written."""
    parsed, record = _parse(body)
    if record.lease is not None and (place := _hiding_place(conn_id)) is not None:
        raise _Refusal(409, "hidden", place)
    try:
        swapped = database.swap_record(conn_id, parsed.record, parsed.if_version, conn_type=CONN_TYPE, key=key)
    except (database.StaleRecord, database.MissingRow) as error:
        raise _Refusal(412, "stale_version", str(error)) from None
    except database.WrongKey:
        raise
    except StoreNotWritable as error:
        raise _Refusal(422, "not_writable", str(error)) from None
    except StoreError as error:
        raise _Refusal(503, "unavailable", str(error)) from None
    if _has_new_tokens(swapped.previous, record):
        _audit(conn_id, parsed.task)
    return swapped.version


def _parse(body: bytes) -> tuple[TokenRecordBody, Record]:
    try:
        parsed = TokenRecordBody.model_validate_json(body)
    except ValidationError as error:
        # Without the input, which pydantic would quote: it is made of tokens.
        wrong = ", ".join(sorted({str(found["loc"][0]) if found["loc"] else "body" for found in error.errors()}))
        raise _Refusal(422, "not_a_record", f"Wrong: {wrong}") from None
    try:
        record = Record.from_json(parsed.record)
        parsed.record.encode()  # a lone surrogate is no text that a database takes
    except UnicodeError:
        raise _Refusal(422, "not_a_record", "the text is not valid Unicode") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        # The errors of this package do not quote what they read; others may.
        message = str(error) if type(error) is ValueError else "the record is malformed"
        raise _Refusal(422, "not_a_record", message) from None
    # Its tokens are not masked: nothing here logs them. Airflow compiles one pattern of all masked values, again for
    # each new one: a server that runs for months would get slower with every refresh.
    return parsed, record


def _hiding_place(conn_id: str) -> str | None:
    """Return the place from which tasks get this connection; None where that is its row."""
    try:
        return connections.find_connection(conn_id).place
    except StoreUnavailable as error:
        raise _Refusal(503, "unavailable", str(error)) from None
    except AirflowNotFoundException:
        return None


def _has_new_tokens(previous: str | None, record: Record) -> bool:
    """Tell a refresh from a lease, its renewal and its release, which change no token."""
    try:
        before = Record() if previous is None else Record.from_json(previous)
    except ValueError:
        return True
    return (before.access_token, before.refresh_token) != (record.access_token, record.refresh_token)


def _forbidden(request: Request, conn_id: str) -> _Refusal:
    """Return the same answer for an unknown connection, a wrong key, and a wrong time."""
    client = _client(request)
    if not _failures.allow((client, conn_id)):
        return _Refusal(429, "too_many_requests", "Too many failures. Try again later.")
    log.warning("A request from %s to write the tokens of a connection was not signed with its record key", client)
    return _Refusal(403, "forbidden", "The request is not signed with the record key of this connection.")


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _answer(refusal: _Refusal) -> Response:
    headers = {"Retry-After": "10"} if refusal.status == 429 else None
    return JSONResponse({"reason": refusal.reason, "message": str(refusal)}, refusal.status, headers)


def _audit(conn_id: str, task: str) -> None:
    """Note in Airflow's audit log that tokens were replaced. Never fails: the worker would write them again."""
    members = {"connection_id": conn_id, "task_instance_unverified": task}
    api_server.write_audit_log("oauth2_put_token_record", "oauth2 task", **members)
