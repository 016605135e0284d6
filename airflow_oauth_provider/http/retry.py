"""When a failed API request is worth another try, and when it may be sent (RFC 9110 sections 9.2.2 and 10.2.3)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Methods that may be sent twice with the effect of once (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
#: Answers that pass. 500 is not among them: an API that fails on a request mostly fails on it again.
PASSING = frozenset({429, 502, 503, 504})

_TOO_MANY_REQUESTS = 429
_SERVICE_UNAVAILABLE = 503
#: Numbers above this are moments, in seconds since 1970; below it they are seconds from now.
_EARLIEST_MOMENT = 1e9
_EARLIEST_MOMENT_IN_MS = 1e12

_RESET_NAMES = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-requests-reset")
_REMAINING_NAMES = (
    "ratelimit-remaining",
    "x-ratelimit-remaining",
    "x-rate-limit-remaining",
    "x-ratelimit-requests-remaining",
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Decides about the next attempt of one request.

    :param attempts: how often a request is sent at the most.
    :param max_retry_after: the longest ``Retry-After`` that is waited for, in seconds; beyond it the request fails.
    :param non_idempotent: also repeat a POST or PATCH that may have been taken.
    :param first_pause: upper bound of the first pause, in seconds; doubles with each attempt. The pause itself is
        random, so that a crowd of clients does not come back at once.
    :param longest_pause: what the upper bound grows to.
    """

    attempts: int = 5
    max_retry_after: float = 300.0
    non_idempotent: bool = False
    first_pause: float = 1.0
    longest_pause: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}, but a request has to be sent once at least")

    def after_status(self, method: str, status: int, headers: Mapping[str, str], attempt: int) -> float | None:
        """Return the seconds to wait before the next attempt after an answer; None: take the answer as it is.

        A 429 says that the request was not taken, so it may be repeated whatever the method.

        :param attempt: how often the request has been sent.
        """
        if status not in PASSING or attempt >= self.attempts:
            return None
        if status != _TOO_MANY_REQUESTS and not self._may_repeat(method):
            return None
        told = told_to_wait(status, headers)
        if told is None:
            return self._pause(attempt)
        # A little later than told, and not all at once.
        return None if told > self.max_retry_after else told + random.uniform(0, min(0.25, told / 10))  # noqa: S311

    def after_failure(self, method: str, attempt: int, *, was_sent: bool) -> float | None:
        """Return the seconds to wait before the next attempt when no answer came; None: give up.

        :param was_sent: False when the connection did not come about, so that the request cannot have been taken.
        """
        if attempt >= self.attempts or (was_sent and not self._may_repeat(method)):
            return None
        return self._pause(attempt)

    def _may_repeat(self, method: str) -> bool:
        return self.non_idempotent or method.upper() in IDEMPOTENT

    def _pause(self, attempt: int) -> float:
        bound: float = min(self.longest_pause, self.first_pause * 2 ** (attempt - 1))
        return random.uniform(bound / 2, bound)  # noqa: S311 - no secret


def told_to_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer wants the next request to wait; None where it does not say.

    :param headers: with names in any case.
    """
    if status not in (_TOO_MANY_REQUESTS, _SERVICE_UNAVAILABLE):
        return None
    wait = retry_after(headers)
    if wait is None and status == _TOO_MANY_REQUESTS:
        wait = _limit(headers)[1]
    return wait


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return ``Retry-After`` in seconds from now (RFC 9110 section 10.2.3); None where there is none.

    A date is told by the server's clock, so it is compared with the server's ``Date``.
    """
    value = (headers.get("Retry-After") or "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    moment = _http_date(value)
    if moment is None:
        return None
    now = _http_date(headers.get("Date") or "") or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def used_up(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float:
    """Return for how many seconds no further request is allowed, as the common rate-limit headers tell it; else 0.

    Understood are ``RateLimit-Remaining``/``-Reset`` (draft-ietf-httpapi-ratelimit-headers up to 06), ``RateLimit``
    (later drafts: ``"default";r=0;t=30`` and ``limit=10, remaining=0, reset=30``), ``X-RateLimit-…`` and
    ``X-Rate-Limit-…``, with the end of the window in seconds from now, in seconds or milliseconds since 1970.
    """
    remaining, wait = _limit(headers, now)
    return wait if remaining == 0 and wait is not None else 0.0


def _limit(
    headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> tuple[float | None, float | None]:
    """Return how many requests remain, and the seconds until the window ends."""
    combined = headers.get("RateLimit")
    if combined:
        remaining = re.search(r"\b(?:r|remaining)=(\d+)", combined)
        reset = re.search(r"\b(?:t|reset)=(\d+)", combined)
        return (float(remaining[1]) if remaining else None), (float(reset[1]) if reset else None)
    left = next((number for name in _REMAINING_NAMES if (number := _number(headers.get(name))) is not None), None)
    ends = next((number for name in _RESET_NAMES if (number := _number(headers.get(name))) is not None), None)
    if ends is not None and ends >= _EARLIEST_MOMENT:
        moment = ends / 1000 if ends >= _EARLIEST_MOMENT_IN_MS else ends
        ends = max(0.0, moment - now().timestamp())
    return left, ends


def _number(value: str | None) -> float | None:
    # Several windows may be listed, as in "0, 120;w=60": the first is the one in force.
    match = re.match(r"\s*(\d+(?:\.\d+)?)", value or "")
    return float(match[1]) if match else None


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
