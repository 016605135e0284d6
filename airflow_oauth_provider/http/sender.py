"""Sends one prepared request, again where that is right, and not faster than allowed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from airflow_oauth_provider.http.flow import Send, Sleep, Step, drive
from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy, attempt_flow

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

        def perform(step: Step) -> Any:
            match step:
                case Send(request):
                    return self._once(session, request, options)
                case Sleep(seconds) if seconds > 0:
                    self._sleep(seconds)
            return None

        return drive(attempt_flow(request, conn_id, self._policy, self._throttle), perform)

    def _once(
        self, session: requests.Session, request: requests.PreparedRequest, options: Mapping[str, Any]
    ) -> requests.Response:
        response = session.send(request, **options)
        if self._spool and options.get("stream") and response.status_code < 400:
            _fetch(response)
        return response


def _fetch(response: requests.Response) -> None:
    """Read the body to its end, and put it back as a file."""
    spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - lives as long as the response
    try:
        for chunk in response.iter_content(1 << 16):
            spool.write(chunk)
    except BaseException as error:
        spool.close()
        if isinstance(error, requests.RequestException):
            error.request = response.request  # for the message
        raise
    spool.seek(0)
    response.close()
    response.raw = spool
    response._content_consumed = False  # type: ignore[attr-defined]
