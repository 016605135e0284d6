"""``SignInTrigger``: waits until a person has signed in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

#: Seconds between two looks at the grant.
INTERVAL = 3.0


class SignInTrigger(BaseTrigger):
    """Waits until nobody has to sign in for a grant any more. Neither its event nor its serialized form holds a token.

    :param oauth2_conn_id: connection of type ``oauth2``.
    :param until: seconds since the epoch at which it gives up.
    """

    def __init__(self, oauth2_conn_id: str, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.oauth2_conn_id = oauth2_conn_id
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and what to make it of again."""
        arguments = {"oauth2_conn_id": self.oauth2_conn_id, "until": self.until}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and tell the task whether somebody has signed in."""
        signed_in = False
        while not signed_in and time.time() < self.until:
            # Before the first look, too: the scheduler marks a task as failed that resumes before the scheduler has
            # noticed the end of the process that deferred it (seen on Airflow 3.3).
            await asyncio.sleep(INTERVAL)
            signed_in = not await asyncio.to_thread(needs_sign_in, self.oauth2_conn_id)
        yield TriggerEvent({"signed_in": signed_in})  # type: ignore[no-untyped-call]


def needs_sign_in(conn_id: str) -> bool:
    """Tell whether a person has to sign in before the grant works. Asks the store, and blocks meanwhile."""
    from airflow_oauth_provider.doctor.grants import read_grant
    from airflow_oauth_provider.tokens.grant_state import State

    # An unreadable store says nothing, so the trigger waits on.
    waiting = (State.SIGN_IN_AGAIN, State.NEVER_SIGNED_IN, State.STORE_UNREADABLE)
    return read_grant(conn_id).state.state in waiting
