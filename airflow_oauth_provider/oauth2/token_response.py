"""A token response as a value (RFC 6749 section 5.1), and how much of one is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.oauth2.redaction import redact

log = logging.getLogger(__name__)

#: Characters, as JSON, of all members together. The smallest place is a secret in Azure Key Vault, which takes 25,600
#: bytes; the tokens, and what else a record has, need the rest.
MAX_OTHERS = 16_384


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful response of a token endpoint.

    :param access_token: the access token, opaque.
    :param token_type: as answered; ``Bearer`` where the response has none.
    :param expires_in: lifetime of the access token in seconds; None where the response does not say.
    :param refresh_token: the refresh token that replaces the one spent; None means: keep the old one (section 6).
    :param scope: as answered; None means: as requested (section 5.1).
    :param refresh_expires_in: lifetime of the refresh token in seconds; None where the response does not say.
    :param others: every other member, kept as it came, as far as there is room.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    refresh_expires_in: float | None = None
    others: Mapping[str, Any] = field(default_factory=dict, repr=False)


def trim_members(members: dict[str, Any], endpoint: str, tokens: Iterable[str | None]) -> dict[str, Any]:
    """Return ``members`` without the largest of them, where they are too much to be kept.

    What is named a token goes last. That something is gone is said in the log: by then the refresh token is spent, and
    an error would lose the new one.

    :param members: of a response, without access and refresh token.
    :param endpoint: who answered.
    :param tokens: what must not show in the log.
    """
    sizes = {name: len(json.dumps({name: value})) for name, value in members.items()}
    excess = sum(sizes.values()) - MAX_OTHERS
    dropped: list[str] = []
    for name in sorted(sizes, key=lambda name: ("token" in name.lower(), -sizes[name])):
        if excess <= 0:
            break
        dropped.append(name)
        excess -= sizes[name]
    if dropped:
        names = redact(", ".join(dropped), tokens, limit=200)
        log.warning("%s answered with more than can be kept beside the tokens. Not kept: %s", endpoint, names)
    return {name: value for name, value in members.items() if name not in dropped}
