"""A token response as a value (RFC 6749 section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful answer of a token endpoint.

    :param access_token: the access token, opaque.
    :param token_type: as answered; ``Bearer`` where the answer has none.
    :param expires_in: lifetime of the access token in seconds; None where the answer does not say.
    :param refresh_token: the refresh token that replaces the one spent; None means: keep the old one (section 6).
    :param scope: as answered; None means: as requested (section 5.1).
    :param refresh_expires_in: lifetime of the refresh token in seconds; None where the answer does not say.
    :param others: every other member, kept as it came, as far as there is room.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    refresh_expires_in: float | None = None
    others: Mapping[str, Any] = field(default_factory=dict, repr=False)
