"""The token that this process has read or refreshed last, timed by a clock that does not jump."""

from __future__ import annotations

import math
from dataclasses import replace

from airflow_oauth_provider.tokens import expiry
from airflow_oauth_provider.tokens.clock import Clock
from airflow_oauth_provider.tokens.configuration import RefreshPolicy
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.result import TokenRequirements, TokenResult

#: Seconds after a failed refresh during which a token that still works is served without another try.
PAUSE_AFTER_FAILURE = 30.0


class TokenCache:
    """Serves a token without a look into the store for as long as it is fresh.

    :param clock: the wall clock is looked at once, when a token is taken; from then on only elapsed time counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._result: TokenResult | None = None
        self._stale_at = 0.0
        self._ends_at = 0.0
        self._quiet_until = 0.0

    def take(self, result: TokenResult, policy: RefreshPolicy) -> TokenResult:
        """Cache ``result`` and return it."""
        record, now, wall = result.record, self._clock.elapsed(), self._clock.now()
        left = expiry.remaining(record, wall)
        same = self._result is not None and self._result.record.access_token == record.access_token
        if same:
            left = min(left, self._ends_at - now)
        self._result = replace(result, refreshed=False, rotated=False)
        self._ends_at = now + left
        if policy.when in ("expired", "always"):
            self._stale_at = self._ends_at - expiry.wanted(record, policy.leeway, 0.0)
        elif policy.when == "interval":
            self._stale_at = min(self._ends_at, now + policy.interval - expiry.age(record, wall))
        else:
            self._stale_at = math.inf  # only the API's 401 tells
        if not same:
            self._quiet_until = 0.0
        return result

    @property
    def left(self) -> float:
        """Seconds for which the cached token still works, whatever the wall clock says by now."""
        return self._ends_at - self._clock.elapsed()

    def is_ahead_of(self, record: Record) -> bool:
        """Tell whether the cached token is newer than ``record``: it was refreshed, but its store was away."""
        cached = self._result.record if self._result is not None else None
        if cached is None or cached.entered_fingerprint != record.entered_fingerprint:
            return False
        return cached.generation > record.generation

    def serve(self, requirements: TokenRequirements) -> TokenResult | None:
        """Return the cached token if it meets ``requirements``, else None."""
        cached, now = self._result, self._clock.elapsed()
        if cached is None or requirements.force or cached.record.access_token in (None, requirements.rejected):
            return None
        fresh = now < self._stale_at and now + expiry.wanted(cached.record, 0.0, requirements.min_ttl) < self._ends_at
        quiet = now < self._quiet_until and now < self._ends_at
        return cached if fresh or quiet else None

    def find_working(self, requirements: TokenRequirements) -> TokenResult | None:
        """Return the cached token if it works for as long as it has to, however stale it is. Changes nothing."""
        cached = self._result
        if cached is None or requirements.force or cached.record.access_token in (None, requirements.rejected):
            return None
        return cached if self.left > requirements.min_ttl else None

    def serve_for_want_of_better(self, requirements: TokenRequirements, warning: str) -> TokenResult | None:
        """Return the cached token if it works at all, and keep on serving it for a while.

        :param requirements: what the caller wants.
        :param warning: why there is nothing better.
        """
        cached, now = self._result, self._clock.elapsed()
        if cached is None or cached.record.access_token in (None, requirements.rejected) or now >= self._ends_at:
            return None
        self._quiet_until = now + min(PAUSE_AFTER_FAILURE, (self._ends_at - now) / 2)
        return replace(cached, warning=warning)
