"""How much of an answer is kept beside its tokens: what a store would not take must not keep the tokens out of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from airflow_oauth_provider.oauth2.redaction import scrub

log = logging.getLogger(__name__)

#: Characters, as JSON, of all members together. The smallest place is a secret in Azure Key Vault, which takes 25,600
#: bytes; the tokens, and what else a record has, need the rest.
MAX_OTHERS = 16_384


def fitting(members: dict[str, Any], endpoint: str, tokens: Iterable[str | None]) -> dict[str, Any]:
    """Return ``members`` without the largest of them, where they are too much to be kept.

    What is named a token goes last. That something is gone is said in the log: by then the refresh token is spent, and
    an error would lose the new one.

    :param members: of an answer, without access and refresh token.
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
        names = scrub(", ".join(dropped), tokens, limit=200)
        log.warning("%s answered with more than can be kept beside the tokens. Not kept: %s", endpoint, names)
    return {name: value for name, value in members.items() if name not in dropped}
