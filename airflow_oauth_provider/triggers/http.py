"""``OAuth2HttpTrigger`` and its kinds: send requests from the triggerer."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_oauth_provider.compat.sdk import AIRFLOW_V_3_0_PLUS
from airflow_oauth_provider.exceptions import ConfigurationError

if TYPE_CHECKING or AIRFLOW_V_3_0_PLUS:
    from airflow_oauth_provider.compat.sdk import BaseEventTrigger
else:
    BaseEventTrigger = BaseTrigger  # 3.0 brought assets that a trigger watches

if TYPE_CHECKING:
    from requests import Response

    from airflow_oauth_provider.http.aio_client import AsyncClient
    from airflow_oauth_provider.http.page import Page, PageRequest

#: Bytes of an event from which on a log line recommends ``output``.
_LARGE_EVENT = 4 << 20


@dataclass(eq=False, repr=False)
class OAuth2HttpTrigger(BaseTrigger):
    """Fetches one page, or with a ready paginator all pages, with a token that stays fresh.

    Its event holds the pages, or what was written to ``output``. Its serialized form names the connection and holds no
    token: the triggerer looks the token up.

    :param oauth2_conn_id: connection of type ``oauth2``.
    :param method: HTTP method.
    :param endpoint: added to the connection's base URL; or a whole URL.
    :param headers: headers of each request.
    :param data: parameters of a GET, the body of other methods.
    :param extra_options: HttpHook's options.
    :param request_kwargs: passed on to ``requests.Request``; plain values.
    :param pagination: the paginator as :meth:`~airflow_oauth_provider.http.pagination.Paginator.to_dict` returns it.
    :param output: the destination as :meth:`~airflow_oauth_provider.http.output.OutputSpec.to_dict` returns it.
    :param records_path: see :class:`~airflow_oauth_provider.operators.http.OAuth2HttpOperator`, also for the others.
    """

    oauth2_conn_id: str = "oauth2_default"
    method: str = "POST"
    endpoint: str | None = None
    headers: dict[str, Any] | None = None
    data: dict[str, Any] | str | None = None
    extra_options: dict[str, Any] | None = None
    request_kwargs: dict[str, Any] | None = None
    pagination: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    records_path: str | None = None
    requests_per_second: float | None = None
    max_attempts: int = 5
    max_retry_after: float = 300.0
    retry_non_idempotent: bool = False
    concurrent_pages: int = 1

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make an equal trigger."""
        arguments = {argument.name: getattr(self, argument.name) for argument in fields(self)}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fetch, and tell the task."""
        yield TriggerEvent(await self._outcome())  # type: ignore[no-untyped-call]

    async def _outcome(self) -> dict[str, Any]:
        # In a thread: the first import of these modules takes a moment.
        await asyncio.to_thread(_import_parts)
        from airflow_oauth_provider.http.aio_client import client_of
        from airflow_oauth_provider.triggers.events import error_event, is_safe, trail_of

        try:
            async with client_of(self.oauth2_conn_id) as client:
                return await self._work(client)
        except Exception as error:  # noqa: BLE001 - whatever it is, the task has to hear of it
            if is_safe(error):
                self.log.warning("Failed: %s", error)
            else:
                self.log.warning("Failed, without the error's own text, which may hold secrets:\n%s", trail_of(error))
            return error_event(error, self.oauth2_conn_id)

    async def _work(self, client: AsyncClient) -> dict[str, Any]:
        return await (self._fetch(client) if self.output is None else self._write(client))

    async def _fetch(self, client: AsyncClient) -> dict[str, Any]:
        from airflow_oauth_provider.http.page_loop import apart
        from airflow_oauth_provider.http.walk import Progress
        from airflow_oauth_provider.triggers.events import pack_pages

        progress = Progress(self.log)
        pages: list[dict[str, Any]] = []
        size = 0
        async for page in self._pages(client):
            packed = await apart(page.size, pack_pages, [page.response])
            pages += packed
            size += len(packed[0]["content"])
            progress.page(page.response, page.size)
        progress.done()
        if size > _LARGE_EVENT:
            self.log.warning("%.1f MB go to the task by way of the database: consider output", size / 1e6)
        return {"status": "success", "responses": pages}

    async def _write(self, client: AsyncClient) -> dict[str, Any]:
        from airflow_oauth_provider.http.output import OutputFile, OutputSpec
        from airflow_oauth_provider.http.walk import Progress

        progress = Progress(self.log)
        writer = await asyncio.to_thread(OutputFile, OutputSpec(**(self.output or {})), self.records_path)
        try:
            await asyncio.to_thread(writer.open)
            async for page in self._pages(client):
                progress.page(page.response, page.size, await asyncio.to_thread(writer.add, page))
            written = await asyncio.to_thread(writer.commit)
        finally:
            await asyncio.to_thread(writer.discard)
        progress.done()
        return {"status": "success", "output": written}

    def _pages(self, client: AsyncClient) -> AsyncIterator[Page]:
        from airflow_oauth_provider.http.page_loop import page_loop, run_pages_async
        from airflow_oauth_provider.http.pagination import FunctionPaginator, paginator_from_dict
        from airflow_oauth_provider.http.walk import Walk

        single = FunctionPaginator(following_page=lambda _: None)
        paginator = single if self.pagination is None else paginator_from_dict(self.pagination)
        walk = Walk(paginator, self._request(), self.records_path)
        width = self.concurrent_pages
        return run_pages_async(page_loop(walk, width), self._sender(client), width)

    def _request(self) -> PageRequest:
        from airflow_oauth_provider.http.page import PageRequest

        headers, options, more = self.headers or {}, self.extra_options or {}, self.request_kwargs or {}
        return PageRequest(self.endpoint, self.data, headers, options, more, self.method)

    def _sender(
        self, client: AsyncClient, accepted: Sequence[str] = ()
    ) -> Callable[[PageRequest], Awaitable[Response]]:
        """Return what sends a request; statuses with an ``accepted`` beginning are answers, not failures."""
        from requests.cookies import RequestsCookieJar

        from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy

        beginnings = tuple(status.rstrip(":") for status in accepted)
        policy = RetryPolicy(self.max_attempts, self.max_retry_after, self.retry_non_idempotent, accepted=beginnings)
        throttle = RateLimit(self.requests_per_second, max_retry_after=self.max_retry_after)
        return partial(client.send, policy=policy, throttle=throttle, cookies=RequestsCookieJar())


@dataclass(eq=False, repr=False, kw_only=True)
class OAuth2HttpSensorTrigger(OAuth2HttpTrigger):
    """Asks again until an answer has a good status; its event holds that answer.

    Takes the arguments of :class:`OAuth2HttpTrigger`, too.

    :param poke_interval: seconds between two requests.
    :param wait_on: statuses, or beginnings of statuses, that mean "not yet".
    :param first_pause: seconds to wait before the first request.
    """

    poke_interval: float = 60.0
    wait_on: Sequence[str] = ("404",)
    first_pause: float = 0.0

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the answer is there, and tell the task."""
        await asyncio.sleep(self.first_pause)
        while "not_yet" in (outcome := await self._outcome()):
            await asyncio.sleep(max(self.poke_interval, outcome["wait"]))
        yield TriggerEvent(outcome)  # type: ignore[no-untyped-call]

    async def _work(self, client: AsyncClient) -> dict[str, Any]:
        from airflow_oauth_provider.http.errors import check_status
        from airflow_oauth_provider.http.page_loop import apart
        from airflow_oauth_provider.oauth2.times import read_wait
        from airflow_oauth_provider.triggers.events import pack_pages

        request = self._request()
        unchecked = replace(request, extra_options={**request.extra_options, "check_response": False})
        response = await self._sender(client, self.wait_on)(unchecked)
        if await client.checks(request.extra_options):
            if is_listed(response, self.wait_on):
                wait = read_wait(response.status_code, response.headers) or 0.0
                return {"not_yet": response.status_code, "wait": min(wait, self.max_retry_after)}
            check_status(response, self.oauth2_conn_id)
        return {"status": "success", "responses": await apart(len(response.content), pack_pages, [response])}


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
    :param arguments: of :class:`OAuth2HttpTrigger`, for one page.
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
            return await self._sender(client)(self._request())

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


def is_listed(response: Response, statuses: Sequence[str]) -> bool:
    """Tell whether the text of HttpSensor's error for ``response`` begins with one of ``statuses``."""
    return f"{response.status_code}:{response.reason or ''}".startswith(tuple(statuses))


def _import_parts() -> None:
    import airflow_oauth_provider.http.aio_client
    import airflow_oauth_provider.http.output
    import airflow_oauth_provider.http.page_loop
    import airflow_oauth_provider.triggers.events  # noqa: F401
