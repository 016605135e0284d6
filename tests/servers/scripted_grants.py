"""What the scripted authorization server knows: clients, grants, refresh tokens that rotate, access tokens.

No HTTP here: `Grants` gets a decoded form and gives a status and a body.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Reply = tuple[int, Json]


def fingerprint(token: str) -> str:
    """Twelve hexadecimal digits that stand for a token where the token itself must not stand."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


@dataclass
class Grant:
    """What one sign-in gave: all tokens that came of it die with it."""

    number: int
    scope: str
    alive: bool = True
    access_tokens: list[str] = field(default_factory=list)
    generation: int = 0
    revoked_because: str = ""


@dataclass
class RefreshToken:
    grant: Grant
    expires_at: float
    used_at: float | None = None
    answer: Json | None = None
    presented: int = 0


@dataclass
class AccessToken:
    grant: Grant | None
    expires_at: float
    alive: bool = True


@dataclass
class Rules:
    """How strict the server is. A test may change any of these while it runs."""

    lifetime: float = 3600
    """Seconds that an access token lives; sent as `expires_in`."""
    expires_in: object = None
    """What is sent as `expires_in` instead of `lifetime`; `False` leaves the field out."""
    refresh_lifetime: float = 86400
    rotate: bool = True
    """A refresh gives a new refresh token and the old one is used up."""
    send_refresh_token: bool = True
    """False: the answer to a refresh has no `refresh_token` (and does not rotate)."""
    reuse_revokes: bool = True
    """A used refresh token presented again takes the whole grant with it."""
    grace: float = 0
    """Seconds in which a used refresh token gives the same answer again."""
    old_access_dies: bool = False
    """A refresh kills the access tokens that the grant gave before."""
    min_interval: float = 0
    """Refreshing sooner than this many seconds after the last time is answered with 429 and Retry-After."""
    scope: str = "read"
    extra: Json = field(default_factory=dict)
    """More fields of each token answer."""
    reshape: Callable[[Json], Any] | None = None
    """Turns a token answer into another form just before it is sent, as vendors' dialects do."""


@dataclass
class Spend:
    """One refresh token presented: when, which (as a fingerprint) and how it went."""

    at: float
    fingerprint: str
    outcome: str
    """"rotated", "kept", "grace", "reuse", "unknown", "dead grant", "expired" or "too early"."""


class Grants:
    """All grants of the server, safe to use from many threads."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._lock = threading.RLock()
        self._refresh: dict[str, RefreshToken] = {}
        self._access: dict[str, AccessToken] = {}
        self._grants: list[Grant] = []
        self._last_refresh = float("-inf")
        self.history: list[Spend] = []
        self.issued: set[str] = set()
        """Every secret that this server ever gave out, for tests that look for leaks."""

    def issue(self, scope: str | None = None) -> str:
        """Sign in: a new grant. Gives its first refresh token."""
        answer = self.issue_tokens(scope)
        token: str = answer["refresh_token"]
        return token

    def issue_tokens(self, scope: str | None = None) -> Json:
        """Sign in: a new grant. Gives the whole token answer."""
        with self._lock:
            grant = Grant(len(self._grants), scope or self.rules.scope)
            self._grants.append(grant)
            return self._new_tokens(grant, with_refresh=True)

    def refresh(self, token: str) -> Reply:
        """Spend a refresh token (RFC 6749, section 6)."""
        with self._lock:
            outcome, reply = self._refresh_outcome(token)
            self.history.append(Spend(time.time(), fingerprint(token), outcome))
            return reply

    def _refresh_outcome(self, token: str) -> tuple[str, Reply]:
        now = time.time()
        known = self._refresh.get(token)
        if known is None:
            return "unknown", invalid_grant("unknown refresh token")
        known.presented += 1
        if not known.grant.alive:
            return "dead grant", invalid_grant("the grant was revoked")
        if known.expires_at < now:
            return "expired", invalid_grant("the refresh token expired")
        if known.used_at is not None and self.rules.rotate:
            return self._used_again(known, now)
        if now - self._last_refresh < self.rules.min_interval:
            return "too early", (429, {"error": "slow_down", "error_description": "too many refreshes"})
        self._last_refresh = now
        if self.rules.old_access_dies:
            self._kill_access_tokens(known.grant)
        rotates = self.rules.rotate and self.rules.send_refresh_token
        known.answer = self._new_tokens(known.grant, with_refresh=rotates)
        known.used_at = now if rotates else None
        return ("rotated" if rotates else "kept"), (200, known.answer)

    def _used_again(self, known: RefreshToken, now: float) -> tuple[str, Reply]:
        assert known.used_at is not None  # for the type checker: the caller asked
        if known.answer is not None and now - known.used_at <= self.rules.grace:
            return "grace", (200, known.answer)
        if self.rules.reuse_revokes:
            self._revoke(known.grant, "reuse")
        return "reuse", invalid_grant("the refresh token was used before")

    def client_credentials(self, scope: str | None = None) -> Reply:
        with self._lock:
            grant = Grant(len(self._grants), scope or self.rules.scope)
            self._grants.append(grant)
            return 200, self._new_tokens(grant, with_refresh=False)

    def _new_tokens(self, grant: Grant, with_refresh: bool) -> Json:
        now = time.time()
        grant.generation += 1
        access = f"at-{secrets.token_urlsafe(24)}"
        self._access[access] = AccessToken(grant, now + self.rules.lifetime)
        grant.access_tokens.append(access)
        self.issued.add(access)
        answer: Json = {"access_token": access, "token_type": "Bearer", "scope": grant.scope}
        if self.rules.expires_in is not False:
            answer["expires_in"] = self.rules.lifetime if self.rules.expires_in is None else self.rules.expires_in
            if isinstance(answer["expires_in"], float):
                answer["expires_in"] = max(1, int(answer["expires_in"]))
        if with_refresh:
            refresh = f"rt-{secrets.token_urlsafe(24)}"
            self._refresh[refresh] = RefreshToken(grant, now + self.rules.refresh_lifetime)
            self.issued.add(refresh)
            answer["refresh_token"] = refresh
        return answer | self.rules.extra

    # Access tokens

    def accepts(self, access_token: str) -> bool:
        """Whether the API would answer a request with this access token."""
        with self._lock:
            known = self._access.get(access_token)
            if known is None or not known.alive or known.expires_at <= time.time():
                return False
            return known.grant is None or known.grant.alive

    def scope_of(self, token: str) -> str | None:
        known = self._access.get(token) or self._refresh.get(token)
        return known.grant.scope if known and known.grant else None

    def is_usable_refresh_token(self, token: str) -> bool:
        """Whether spending it would give tokens, without spending it."""
        with self._lock:
            known = self._refresh.get(token)
            return known is not None and known.grant.alive and known.used_at is None

    def expire_access_tokens(self) -> None:
        """All access tokens given until now are worthless from now on, as if their time had come."""
        with self._lock:
            for token in self._access.values():
                token.expires_at = 0

    def revoke(self, token: str) -> None:
        """RFC 7009: an access token alone; a refresh token with its grant. An unknown one is no error."""
        with self._lock:
            if token in self._access:
                self._access[token].alive = False
            elif token in self._refresh:
                self._revoke(self._refresh[token].grant, "revoked")

    def revoke_all(self) -> None:
        """The user took the consent back: every grant is dead."""
        with self._lock:
            for grant in self._grants:
                self._revoke(grant, "revoked")

    def grants_alive(self) -> int:
        return sum(grant.alive for grant in self._grants)

    def _revoke(self, grant: Grant, why: str) -> None:
        grant.alive = False
        grant.revoked_because = grant.revoked_because or why
        self._kill_access_tokens(grant)

    def _kill_access_tokens(self, grant: Grant) -> None:
        for token in grant.access_tokens:
            self._access[token].alive = False
        grant.access_tokens.clear()

    # Counts

    def count(self, *outcomes: str) -> int:
        with self._lock:
            return sum(spend.outcome in outcomes for spend in self.history)


def invalid_grant(why: str) -> Reply:
    return 400, {"error": "invalid_grant", "error_description": why}
