"""The token that this process has in hand, timed by a clock that does not jump."""

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
        self._outcome: TokenResult | None = None
        self._stale_at = 0.0
        self._ends_at = 0.0
        self._quiet_until = 0.0

    def take(self, outcome: TokenResult, policy: RefreshPolicy) -> TokenResult:
        """Take ``outcome`` in hand, and return it."""
        record, now, wall = outcome.record, self._clock.elapsed(), self._clock.now()
        left = expiry.remaining(record, wall)
        same = self._outcome is not None and self._outcome.record.access_token == record.access_token
        if same:
            left = min(left, self._ends_at - now)
        self._outcome = outcome
        self._ends_at = now + left
        if policy.when in ("expired", "always"):
            self._stale_at = self._ends_at - expiry.wanted(record, policy.leeway, 0.0)
        elif policy.when == "interval":
            self._stale_at = min(self._ends_at, now + policy.interval - expiry.age(record, wall))
        else:
            self._stale_at = math.inf  # only the API's 401 tells
        if not same:
            self._quiet_until = 0.0
        return outcome

    @property
    def left(self) -> float:
        """Seconds for which the token in hand still works, whatever the wall clock says by now."""
        return self._ends_at - self._clock.elapsed()

    def is_ahead_of(self, record: Record) -> bool:
        """Tell whether the token in hand is newer than ``record``: it was refreshed, but its store was away."""
        held = self._outcome.record if self._outcome is not None else None
        if held is None or held.entered_fingerprint != record.entered_fingerprint:
            return False
        return held.generation > record.generation

    def serve(self, demand: TokenRequirements) -> TokenResult | None:
        """Return what is in hand if it meets ``demand``, else None."""
        held, now = self._outcome, self._clock.elapsed()
        if held is None or demand.force or held.record.access_token in (None, demand.rejected):
            return None
        lifetime = held.record.expires_in
        wanted_end = now + (demand.min_ttl if lifetime is None else min(demand.min_ttl, lifetime * 0.9))
        fresh = now < self._stale_at and wanted_end < self._ends_at
        quiet = now < self._quiet_until and now < self._ends_at
        return replace(held, refreshed=False, rotated=False) if fresh or quiet else None

    def working(self, demand: TokenRequirements) -> TokenResult | None:
        """Return what is in hand if it works for as long as ``demand`` wants, however stale it is; changes nothing."""
        held = self._outcome
        if held is None or demand.force or held.record.access_token in (None, demand.rejected):
            return None
        return replace(held, refreshed=False, rotated=False) if self.left > demand.min_ttl else None

    def serve_for_want_of_better(self, demand: TokenRequirements, warning: str) -> TokenResult | None:
        """Return what is in hand if it works at all, and keep on serving it for a while.

        :param demand: what the caller wants.
        :param warning: why there is nothing better.
        """
        held, now = self._outcome, self._clock.elapsed()
        if held is None or held.record.access_token in (None, demand.rejected) or now >= self._ends_at:
            return None
        self._quiet_until = now + min(PAUSE_AFTER_FAILURE, (self._ends_at - now) / 2)
        return replace(held, refreshed=False, rotated=False, warning=warning)
