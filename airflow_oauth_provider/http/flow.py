"""Flows that exist once and run on threads and on an event loop alike.

A flow is a generator. It yields what it wants done (a request sent, a token refreshed, some seconds passed), takes what
came of it, and returns the outcome. :func:`drive` carries one out in a thread, :func:`drive_async` on an event loop.
``httpx`` writes its ``auth_flow`` so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import requests

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``request``, and answer with its response or raise why there is none.

    :param instead_of: the response to whose request this is sent again; None: it is new.
    """

    request: requests.PreparedRequest
    instead_of: requests.Response | None = None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """Answer with an access token that is not ``rejected``, which the API turned down."""

    rejected: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let some seconds pass."""

    seconds: float


Step = Send | RefreshToken | Sleep
Flow = Generator[Step, Any, Outcome]


async def drive_async(flow: Flow[Outcome], perform: Callable[[Step], Awaitable[Any]]) -> Outcome:
    """Carry out ``flow`` on the event loop, and return its outcome.

    :param perform: does one step; what it raises arises in the flow.
    """
    try:
        step = next(flow)
        while True:
            try:
                done = await perform(step)
            except Exception as error:  # noqa: BLE001 - the flow decides what it means
                step = flow.throw(error)
            else:
                step = flow.send(done)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def drive(flow: Flow[Outcome], perform: Callable[[Step], Any]) -> Outcome:
    """Carry out ``flow`` in this thread; see :func:`drive_async`."""

    async def perform_at_once(step: Step) -> Any:
        return perform(step)

    try:
        drive_async(flow, perform_at_once).send(None)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    raise AssertionError("nothing in there waits for an event loop")
