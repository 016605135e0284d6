"""Sends an API request, again where that is worth it and does no harm (RFC 9110 section 9.2.2), as fast as allowed."""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,  # requests' own
    ContentDecodingError,
    InvalidProxyURL,
    SSLError,
    Timeout,
)

from airflow_oauth_provider.http.auth import is_rewindable, rewind
from airflow_oauth_provider.http.errors import failure_text, never_connected, show_target
from airflow_oauth_provider.http.flow import Flow, Send, Sleep, Step, drive
from airflow_oauth_provider.oauth2.times import is_rate_limit, read_exhaustion, read_wait

log = logging.getLogger(__name__)

#: Methods that may be sent twice with the effect of once (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
#: Answers that pass. 500 is not among them: an API that fails on a request mostly fails on it again.
PASSING = frozenset({429, 502, 503, 504})
#: Seconds; a server that names less has not said how long to wait: our own pause holds.
_SHORTEST_TOLD = 1.0
#: Bytes of a body that are kept in memory while it is fetched; what is more goes into a temporary file.
_IN_MEMORY = 4 << 20


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Decides about the next attempt of one request.

    :param attempts: how often a request is sent at the most.
    :param max_retry_after: the longest ``Retry-After`` that is waited for, in seconds; beyond it the request fails.
    :param non_idempotent: also repeat a POST or PATCH that may have been taken.
    :param first_pause: upper bound of the first pause, in seconds; doubles with each attempt. The pause itself is
        random, so that a crowd of clients does not come back at once.
    :param longest_pause: what the upper bound grows to.
    :param accepted: beginnings of statuses that the caller takes as they are, such as "503" or "4".
    :param ends_at: no attempt begins later, in seconds of ``time.monotonic``; None: whenever it may.
    """

    attempts: int = 5
    max_retry_after: float = 300.0
    non_idempotent: bool = False
    first_pause: float = 1.0
    longest_pause: float = 30.0
    accepted: tuple[str, ...] = ()
    ends_at: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}, but a request has to be sent once at least")

    def after_status(self, method: str, status: int, headers: Mapping[str, str], attempt: int) -> float | None:
        """Return the seconds to wait before the next attempt after an answer; None: take the answer as it is.

        A rate limit (429, or a 403 that says so) means that the request was not taken, so it may be repeated whatever
        the method.
        """
        limited = is_rate_limit(status, headers)
        passes = limited or (status in PASSING and self._may_repeat(method))
        if not passes or attempt >= self.attempts or self.accepts(status):
            return None
        told = read_wait(status, headers) or 0.0
        if told > self.max_retry_after:
            return None
        if told < _SHORTEST_TOLD:
            return self._in_time(max(told, self._pause(attempt)))
        # A little later than told, and not all at once.
        return self._in_time(told + random.uniform(0, min(0.25, told / 10)))  # noqa: S311

    def accepts(self, status: int) -> bool:
        """Tell whether the caller takes a response of this status as it is."""
        return bool(self.accepted) and str(status).startswith(self.accepted)

    def after_failure(self, method: str, attempt: int, *, was_sent: bool) -> float | None:
        """Return the seconds to wait before the next attempt when no answer came; None: give up.

        :param was_sent: False when the connection did not come about, so that the request cannot have been taken.
        """
        if attempt >= self.attempts or (was_sent and not self._may_repeat(method)):
            return None
        return self._in_time(self._pause(attempt))

    def _in_time(self, pause: float) -> float | None:
        return None if self.ends_at is not None and time.monotonic() + pause > self.ends_at else pause

    def _may_repeat(self, method: str) -> bool:
        return self.non_idempotent or method.upper() in IDEMPOTENT

    def _pause(self, attempt: int) -> float:
        bound: float = min(self.longest_pause, self.first_pause * 2 ** (attempt - 1))
        return random.uniform(bound / 2, bound)  # noqa: S311 - no secret


class RateLimit:
    """Hands out the moments at which requests may leave, to any number of threads.

    :param requests_per_second: how many, evenly spaced; None: as many as there are.
    :param max_retry_after: the longest pause that an API may ask for, in seconds.
    :param clock: elapsed seconds.
    """

    def __init__(
        self,
        requests_per_second: float | None = None,
        *,
        max_retry_after: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if requests_per_second is not None and not requests_per_second > 0:
            raise ValueError(f"requests_per_second is {requests_per_second}, but has to be more than 0")
        self._space = 1 / requests_per_second if requests_per_second else 0.0
        self._max_retry_after = max_retry_after
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the next moment, and return in how many seconds it is."""
        with self._lock:
            now = self._clock()
            moment = max(now, self._next)
            self._next = moment + self._space
            return moment - now

    def hold(self, seconds: float) -> None:
        """Let nothing leave for a while, because the API said so."""
        if 0 < seconds <= self._max_retry_after:
            with self._lock:
                self._next = max(self._next, self._clock() + seconds)


def attempt_flow(
    request: requests.PreparedRequest, conn_id: str, policy: RetryPolicy, throttle: RateLimit
) -> Flow[requests.Response]:
    """Send ``request`` until a response counts, not faster than allowed; return it, whatever its status.

    :raises requests.RequestException: when no response came.
    :raises UnrewindableBody: when it had to be repeated, and its body was a stream.
    """
    attempt = 0
    while True:
        attempt += 1
        yield Sleep(throttle.reserve())
        try:
            response: requests.Response = yield Send(request)
        except (ConnectionError, Timeout, ChunkedEncodingError, ContentDecodingError) as error:
            # Neither a certificate nor an address of a proxy gets better.
            is_final = isinstance(error, SSLError | InvalidProxyURL)
            was_sent = not never_connected(error)
            pause = None if is_final else policy.after_failure(request.method or "", attempt, was_sent=was_sent)
            if pause is None:
                raise
            text = failure_text(request.method, request.url, error, conn_id)
            log.warning("%s; attempt %d, next one in %.1f s", text, attempt, pause)
            rewind(request, conn_id, "the API could not be reached")
        else:
            pause = _pause_after(response, request.method or "", attempt, policy, throttle)
            if pause is None or not is_rewindable(request):
                return response
            text = f"{request.method} {show_target(response.url or '')} answered {response.status_code}"
            log.warning("Connection %r: %s; attempt %d, next one in %.1f s", conn_id, text, attempt, pause)
            response.close()
            rewind(request, conn_id, f"the API answered {response.status_code}")
        yield Sleep(pause)


def _pause_after(
    response: requests.Response, method: str, attempt: int, policy: RetryPolicy, throttle: RateLimit
) -> float | None:
    status, headers = response.status_code, response.headers
    if policy.accepts(status):
        return None
    pause = policy.after_status(method, status, headers, attempt)
    # Whoever repeats the request, here or with retry_args, is held up for as long as the API wants, and those that run
    # beside it are too: also where it does not say for how long.
    told = read_wait(status, headers) or read_exhaustion(headers)
    throttle.hold(max(told, pause or 0.0) if is_rate_limit(status, headers) else told)
    return pause


@dataclass
class Sender:
    """How requests are sent.

    :param policy: which ones are repeated; by default none.
    :param throttle: when they may leave.
    :param spool: fetch streamed bodies to their end before they are handed out, so that a body that breaks off is
        fetched again, with at most 4 MB of it in memory.
    :param sleep: waits for some seconds.
    """

    policy: RetryPolicy = RetryPolicy(attempts=1)
    throttle: RateLimit = field(default_factory=RateLimit)
    spool: bool = field(default=False, kw_only=True)
    sleep: Callable[[float], None] = field(default=time.sleep, kw_only=True)

    def send(
        self, session: requests.Session, request: requests.PreparedRequest, options: Mapping[str, Any], conn_id: str
    ) -> requests.Response:
        """Send ``request`` with options of ``requests.Session.send``; see :func:`attempt_flow`."""

        def perform(step: Step) -> Any:
            match step:
                case Send(request):
                    return self._once(session, request, options)
                case Sleep(seconds) if seconds > 0:
                    self.sleep(seconds)
            return None

        return drive(attempt_flow(request, conn_id, self.policy, self.throttle), perform)

    def _once(
        self, session: requests.Session, request: requests.PreparedRequest, options: Mapping[str, Any]
    ) -> requests.Response:
        response = session.send(request, **options)
        if self.spool and options.get("stream") and response.status_code < 400:
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
