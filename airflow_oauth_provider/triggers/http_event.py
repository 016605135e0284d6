"""``OAuth2HttpEventTrigger``: watches an API for an asset, with a token that stays fresh (Airflow 3.0 and later)."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_oauth_provider.compat.sdk import BaseEventTrigger
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.triggers.http import OAuth2HttpTrigger

if TYPE_CHECKING:
    from requests import Response


@dataclass(init=False, eq=False, repr=False, kw_only=True)
class OAuth2HttpEventTrigger(OAuth2HttpTrigger, BaseEventTrigger):
    """Asks an API again and again, and fires when a function recognizes the answer as the event.

    Takes what ``HttpEventTrigger`` takes, and its event holds the answer in the same form.

    :param response_check_path: dotted path of an asynchronous function, which gets the ``requests.Response`` and
        returns whether it is the event.
    :param poll_interval: seconds between two requests.
    :param max_consecutive_failures: failures in a row after which the trigger fails.
    :param method: HTTP method.
    :param http_conn_id: another name of ``oauth2_conn_id``.
    :param arguments: of :class:`~airflow_oauth_provider.triggers.http.OAuth2HttpTrigger`, for one page.
    """

    response_check_path: str
    poll_interval: float
    max_consecutive_failures: int

    def __init__(
        self,
        response_check_path: str,
        *,
        poll_interval: float = 60.0,
        max_consecutive_failures: int = 10,
        method: str = "GET",
        http_conn_id: str | None = None,
        **arguments: Any,
    ) -> None:
        if http_conn_id is not None:
            arguments.setdefault("oauth2_conn_id", http_conn_id)
        super().__init__(method=method, **arguments)
        if max_consecutive_failures < 1:
            raise ValueError(f"max_consecutive_failures is {max_consecutive_failures}, but has to be 1 at least")
        self.response_check_path = response_check_path
        self.poll_interval = poll_interval
        self.max_consecutive_failures = max_consecutive_failures

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the answer is the event."""
        from airflow_oauth_provider.triggers.events import is_safe, pack_page, trail_of

        failures = 0
        while True:
            try:
                response = await self._ask()
                if await (await self._load_check())(response):
                    yield TriggerEvent({"status": "success", "response": pack_page(response)})  # type: ignore[no-untyped-call]
                    return
                failures = 0
            except Exception as error:
                failures += 1
                if failures >= self.max_consecutive_failures:
                    raise
                self.log.warning(
                    "Failure %d in a row, trying again: %s", failures, error if is_safe(error) else trail_of(error)
                )
            await asyncio.sleep(self.poll_interval)

    async def _ask(self) -> Response:
        from airflow_oauth_provider.http.aio_client import client_of

        async with client_of(self.oauth2_conn_id) as client:
            response: Response = await self._sender(client)(self._request())
            return response

    async def _load_check(self) -> Callable[[Response], Awaitable[bool]]:
        """Import the function, anew each time: its module may have changed while the triggerer runs."""
        path = self.response_check_path
        module, _, name = path.rpartition(".")
        loaded = sys.modules.get(module)
        if loaded is not None:
            loaded = await asyncio.to_thread(importlib.reload, loaded)
        else:
            loaded = await asyncio.to_thread(importlib.import_module, module)
        check: Callable[[Response], Awaitable[bool]] = getattr(loaded, name)
        if not inspect.iscoroutinefunction(check):
            raise ConfigurationError(f"response_check_path: {path} has to be an asynchronous function (async def).")
        return check
