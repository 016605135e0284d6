"""Sends one prepared request, again where that is right, and not faster than allowed."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,  # requests' own
    SSLError,
    Timeout,
)

from airflow_oauth_provider.http.auth import rewind
from airflow_oauth_provider.http.errors import failure_text, never_connected, show_target
from airflow_oauth_provider.http.rate_limit import RateLimit
from airflow_oauth_provider.http.retry import RetryPolicy
from airflow_oauth_provider.oauth2.retry_after import read_exhaustion, read_wait

log = logging.getLogger(__name__)

#: Bytes of a body that are kept in memory while it is fetched; what is more goes into a temporary file.
_IN_MEMORY = 4 << 20


class Sender:
    """How requests are sent.

    :param policy: which ones are repeated; None: none.
    :param throttle: when they may leave.
    :param spool: fetch streamed bodies to their end before they are handed out, so that a body that breaks off is
        fetched again, with at most 4 MB of it in memory.
    :param sleep: waits for some seconds.
    """

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        throttle: RateLimit | None = None,
        *,
        spool: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._policy = policy or RetryPolicy(attempts=1)
        self._throttle = throttle or RateLimit()
        self._spool = spool
        self._sleep = sleep

    def send(
        self,
        session: requests.Session,
        request: requests.PreparedRequest,
        options: Mapping[str, Any],
        conn_id: str,
    ) -> requests.Response:
        """Send ``request`` and return its answer, whatever the status.

        :param options: of ``requests.Session.send``.
        :param conn_id: for messages.
        :raises requests.RequestException: when no answer came.
        :raises UnrewindableBody: when it had to be repeated, and its body was a stream.
        """
        attempt = 0
        while True:
            attempt += 1
            self._wait(self._throttle.reserve())
            try:
                response = self._once(session, request, options)
            except (ConnectionError, Timeout, ChunkedEncodingError) as error:
                pause = self._after_failure(request, error, attempt, conn_id)
                if pause is None:
                    raise
            else:
                again = self._after_answer(request, response, attempt, conn_id)
                if again is None:
                    return response
                pause = again
            rewind(request, conn_id, "the API could not be reached")
            self._wait(pause)

    def _once(
        self, session: requests.Session, request: requests.PreparedRequest, options: Mapping[str, Any]
    ) -> requests.Response:
        response = session.send(request, **options)
        if self._spool and options.get("stream") and response.status_code < 400:
            _fetch(response)
        return response

    def _after_failure(
        self, request: requests.PreparedRequest, error: Exception, attempt: int, conn_id: str
    ) -> float | None:
        if isinstance(error, SSLError):
            return None  # a certificate does not get better
        pause = self._policy.after_failure(request.method or "", attempt, was_sent=not never_connected(error))
        if pause is not None:
            text = failure_text(request.method, request.url, error, conn_id)
            log.warning("%s; attempt %d, next one in %.1f s", text, attempt, pause)
        return pause

    def _after_answer(
        self, request: requests.PreparedRequest, response: requests.Response, attempt: int, conn_id: str
    ) -> float | None:
        status, headers = response.status_code, response.headers
        told = read_wait(status, headers)
        # Whoever repeats the request, here or with retry_args, is held up for as long as the API wants.
        self._throttle.hold(told or read_exhaustion(headers))
        pause = self._policy.after_status(request.method or "", status, headers, attempt)
        if pause is None:
            return None
        response.close()
        log.warning(
            "Connection %r: %s %s answered %d; attempt %d, next one in %.1f s",
            conn_id,
            request.method,
            show_target(response.url or ""),
            status,
            attempt,
            pause,
        )
        return pause

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)


def _fetch(response: requests.Response) -> None:
    """Read the body to its end, and put it back as a file."""
    spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - lives as long as the response
    try:
        for chunk in response.iter_content(1 << 16):
            spool.write(chunk)
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    response.close()
    response.raw = spool
    response._content_consumed = False  # type: ignore[attr-defined]
