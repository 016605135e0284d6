"""When a failed API request is worth another try, and when it may be sent (RFC 9110 section 9.2.2)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_oauth_provider.oauth2.retry_after import is_rate_limit, read_wait

#: Methods that may be sent twice with the effect of once (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
#: Answers that pass. 500 is not among them: an API that fails on a request mostly fails on it again.
PASSING = frozenset({429, 502, 503, 504})
#: Seconds; a server that names less has not said how long to wait: our own pause holds.
_SHORTEST_TOLD = 1.0


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

        A rate limit (429, or a 403 that says so) means that the request was not taken, so it may be repeated whatever
        the method.

        :param attempt: how often the request has been sent.
        """
        limited = is_rate_limit(status, headers)
        if attempt >= self.attempts or not (limited or (status in PASSING and self._may_repeat(method))):
            return None
        told = read_wait(status, headers) or 0.0
        if told > self.max_retry_after:
            return None
        if told < _SHORTEST_TOLD:
            return max(told, self._pause(attempt))
        # A little later than told, and not all at once.
        return told + random.uniform(0, min(0.25, told / 10))  # noqa: S311

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
