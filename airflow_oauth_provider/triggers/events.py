"""What a trigger hands back to its task, in plain values: pages, or an error.

Trigger events and deferred tasks' arguments stand in Airflow's metadata database, so pages are compressed where that
makes them smaller. They hold no header of a request, no token and no cookie, and no lone surrogate: Airflow cannot send
one, and the triggerer would end.
"""

from __future__ import annotations

import base64
import json
import traceback
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from requests import Response
from requests.structures import CaseInsensitiveDict

from airflow_oauth_provider import exceptions
from airflow_oauth_provider.compat import sdk
from airflow_oauth_provider.connection.notices import log_what_to_do
from airflow_oauth_provider.exceptions import name_connection

if TYPE_CHECKING:
    from airflow_oauth_provider.http.page import PageRequest

#: Bytes of a body from which on it is compressed.
_WORTH_COMPRESSING = 1024


#: A cookie may be a session, which is as good as a password, and many people read the database.
_OF_COOKIES = frozenset({"set-cookie", "set-cookie2"})


def make_sendable(text: str) -> str:
    """Replace in ``text`` what UTF-8 or the database cannot hold: lone surrogates and NUL."""
    return text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", "\ufffd")


def why_not_sendable(request: PageRequest) -> str | None:
    """Return why ``request`` cannot go to the triggerer; None where it can."""
    for name, value in request.to_dict().items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            return f"{name} holds what cannot be sent to the triggerer (bytes, a file, or another object)"
    return None


def pack_pages(responses: Iterable[Response]) -> list[dict[str, Any]]:
    """Return ``responses`` as plain JSON values."""
    return [_pack(response) for response in responses]


def unpack_pages(pages: Iterable[Mapping[str, Any] | Response]) -> list[Response]:
    """Return the responses that :func:`pack_pages` packed, or that ``HttpTrigger`` sent."""
    return [page if isinstance(page, Response) else _unpack(page) for page in pages]


def pack_page(response: Response) -> dict[str, Any]:
    """Return ``response`` in the form of ``HttpEventTrigger``, for code that reads asset events."""
    return {**_pack(response, compress=False), "history": [pack_page(earlier) for earlier in response.history]}


def _pack(response: Response, *, compress: bool = True) -> dict[str, Any]:
    content = response.content or b""
    packed = zlib.compress(content, 1) if compress and len(content) >= _WORTH_COMPRESSING else content
    smaller = len(packed) < len(content)
    return {
        "status_code": response.status_code,
        "reason": make_sendable(response.reason or ""),
        "url": make_sendable(response.url or ""),
        "headers": {
            make_sendable(name): make_sendable(value)
            for name, value in response.headers.items()
            if name.lower() not in _OF_COOKIES
        },
        "encoding": None if response.encoding is None else make_sendable(response.encoding),
        "compressed": smaller,
        "content": base64.b64encode(packed if smaller else content).decode("ascii"),
        "history": pack_pages(response.history),
    }


def _unpack(page: Mapping[str, Any]) -> Response:
    if not isinstance(page, Mapping):  # a pickle, as versions of HttpTrigger before 5.3 sent it
        raise TypeError(f"Response data must be a dict, got {type(page).__name__}")
    response = Response()
    content = base64.b64decode(page["content"])
    response._content = zlib.decompress(content) if page.get("compressed") else content
    response.status_code = page["status_code"]
    response.reason = page["reason"]
    response.url = page["url"]
    response.headers = CaseInsensitiveDict(page["headers"])
    response.encoding = page["encoding"]
    response.history = unpack_pages(page.get("history", []))
    return response


def is_safe(error: BaseException) -> bool:
    """Tell whether the error's text may be shown: this package wrote it, or it names a missing connection."""
    return isinstance(error, exceptions.OAuth2Error | sdk.AirflowNotFoundException)


def trail_of(error: BaseException) -> str:
    """Return where ``error`` came from, without its text and its causes' texts, which may quote secrets."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{frames}{type(error).__module__}.{type(error).__qualname__}"


def error_event(error: Exception, conn_id: str) -> dict[str, Any]:
    """Return the event of a failed trigger, with the error's own text only if that is safe to be shown."""
    if is_safe(error):
        status = getattr(error, "http_status", None)
        kind, message = type(error).__name__, make_sendable(str(error))
        return {"status": "error", "kind": kind, "message": message, "http_status": status, "conn_id": conn_id}
    text = f"unexpected {type(error).__name__} in the triggerer. The log of the trigger says where."
    return {"status": "error", "kind": "OAuth2Error", "message": name_connection(conn_id, text), "http_status": None}


def raise_error_of(event: Mapping[str, Any]) -> None:
    """Raise the trigger's error, in the class that it had there; return if there was none."""
    if event["status"] == "success":
        return
    if event.get("kind") == sdk.AirflowNotFoundException.__name__:
        raise sdk.AirflowNotFoundException(event["message"])
    kind = getattr(exceptions, event.get("kind", ""), exceptions.OAuth2Error)
    if kind is exceptions.ApiError:
        raise exceptions.ApiError(event["message"], status_code=event.get("http_status"))
    failure = kind(event["message"])
    if event.get("conn_id"):
        log_what_to_do(failure, event["conn_id"])  # in the task's own log, too
    raise failure
