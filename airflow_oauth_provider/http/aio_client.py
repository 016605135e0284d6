"""An ``oauth2`` connection for code that runs on an event loop: the triggerer's.

Requests are prepared by ``requests`` and sent by ``aiohttp``, so that they are the same as a task's: the same URL,
headers and body, the same TLS settings and proxies, the same flows. Whatever may wait (reading the connection,
refreshing, loading certificates, asking DNS) runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import requests
from requests.cookies import RequestsCookieJar, cookiejar_from_dict, merge_cookies

from airflow_oauth_provider.connection.address import normalize_prepared
from airflow_oauth_provider.exceptions import ApiError, name_connection
from airflow_oauth_provider.http.access import ApiAccess, join_query, join_url
from airflow_oauth_provider.http.aio_transport import Connections
from airflow_oauth_provider.http.auth import OAuth2Auth
from airflow_oauth_provider.http.errors import check_status, failure_text, never_connected
from airflow_oauth_provider.http.flow import RefreshToken, Send, Sleep, Step, drive_async
from airflow_oauth_provider.http.page import PageRequest
from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy, attempt_flow
from airflow_oauth_provider.http.session import OAuth2Session

log = logging.getLogger(__name__)

#: Seconds for which a connection that was read serves those who come after.
_FRESH = 30.0

#: The clients in use, by event loop and connection, each with the moment at which it was made.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AsyncClient]] = WeakKeyDictionary()


class _Preparer(OAuth2Session):
    """Makes requests ready, those that follow a redirect too, and sends none; tokens are put on them elsewhere."""

    def __init__(self, access: ApiAccess) -> None:
        settings = access.settings
        super().__init__(settings.transport.timeout, allow_http=settings.allow_http)
        self._access = access
        # With an auth of its own it does not look into .netrc.
        self.auth = lambda request: request
        self.headers.update(settings.headers)

    @property
    def guard(self) -> OAuth2Auth:
        return self._access.auth

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        self.guard.prepare_redirect(prepared_request, response.url)


class AsyncClient:
    """Sends requests with a fresh token, for all triggers of an event loop that use the same connection."""

    def __init__(self, conn_id: str) -> None:
        self.users = 0
        self.made = time.monotonic()
        self._conn_id = conn_id
        self._ready = asyncio.Lock()
        self._refreshing = asyncio.Lock()
        self._parts: tuple[ApiAccess, _Preparer] | None = None
        self.connections = Connections(conn_id)

    async def _prepare(self) -> tuple[ApiAccess, _Preparer]:
        if self._parts is None:
            async with self._ready:
                if self._parts is None:
                    self._parts = await asyncio.to_thread(self._read)
        return self._parts

    def _read(self) -> tuple[ApiAccess, _Preparer]:
        access = ApiAccess(self._conn_id)
        _ = access.base_url  # reads the connection, and complains if it is wrong
        return access, _Preparer(access)

    async def close(self) -> None:
        """Close the connections."""
        await self.connections.close()

    async def checks(self, extra_options: Mapping[str, Any]) -> bool:
        """Tell whether error statuses are errors, as options and connection have it."""
        access, _ = await self._prepare()
        return bool(access.merge_options(extra_options)["check_response"])

    async def send(
        self, request: PageRequest, policy: RetryPolicy, throttle: RateLimit, cookies: RequestsCookieJar | None = None
    ) -> requests.Response:
        """Send a request, again where ``policy`` says so, and return its answer.

        :param cookies: those that earlier answers have set, which are sent and added to.
        :raises ApiError: when there is no answer, or one with an error status and ``check_response`` is not false.
        :raises OAuth2Error: when there is no token.
        """
        access, session = await self._prepare()
        options = access.merge_options(request.extra_options)
        exchange = _Exchange(self, access, session, options, RequestsCookieJar() if cookies is None else cookies)
        response = await exchange.send(request, policy, throttle)
        access.auth.hide_token(response)
        if options["check_response"]:
            check_status(response, self._conn_id)
        return response

    async def token(self, access: ApiAccess, rejected: str | None = None) -> str:
        """Return a token that is not ``rejected``; one thread waits for it, however many triggers want it."""
        held = access.tokens.cached_token()
        if held is not None and held != rejected:
            return held
        async with self._refreshing:
            held = access.tokens.cached_token()
            if held is not None and held != rejected:
                return held
            return await asyncio.to_thread(access.tokens.access_token, rejected=rejected)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request and what follows from it: redirects, a refreshed token, the next attempt."""

    client: AsyncClient
    access: ApiAccess
    session: _Preparer
    options: dict[str, Any]
    cookies: RequestsCookieJar

    async def send(self, request: PageRequest, policy: RetryPolicy, throttle: RateLimit) -> requests.Response:
        """Send to the first server that can be reached."""
        access, conn_id = self.access, self.access.conn_id
        is_found = access.settings.http_options["srv_lookup"]
        servers = await asyncio.to_thread(access.find_servers) if is_found else [access.base_url]
        for number, server in enumerate(servers, start=1):
            prepared = self._prepare(join_url(server, request.endpoint), request)
            try:
                return await drive_async(attempt_flow(prepared, conn_id, policy, throttle), self._perform)
            except requests.RequestException as error:
                text = failure_text(prepared.method, prepared.url, error, conn_id)
                if number == len(servers) or not never_connected(error):
                    raise ApiError(text) from None
                log.warning("%s; going on to the next host that DNS names", text)
        raise ApiError(name_connection(conn_id, "DNS names no host for the API"))

    def _prepare(self, url: str, request: PageRequest) -> requests.PreparedRequest:
        """Return the request as ``HttpHook.run`` makes it: ``data`` is the query of a GET, and the body of others."""
        method = request.method.upper()
        place = {"GET": "params", "HEAD": None}.get(method, "data")
        data, given = request.data, dict(request.request_kwargs)
        if place == "params":
            data = join_query(self.access.conn_id, data, given.pop(place, None))
        arguments = {place: data} if place else {}
        made = requests.Request(method, url, headers=dict(request.headers), **arguments, **given)
        if self.cookies:  # of this run only: the session is for all who use the connection
            own = cookiejar_from_dict(made.cookies or {})  # type: ignore[no-untyped-call]
            made.cookies = merge_cookies(self.cookies.copy(), own)  # type: ignore[no-untyped-call]
        try:
            prepared = self.session.prepare_request(made)
            prepared.url = normalize_prepared(prepared.url or "")
        except requests.RequestException as error:
            raise ApiError(failure_text(method, url, error, self.access.conn_id)) from None
        self.access.auth.check_origin(prepared.url)
        return prepared

    async def _perform(self, step: Step) -> Any:
        """Carry out a step of :func:`~airflow_oauth_provider.http.retry.attempt_flow`."""
        match step:
            case Send(request):
                return await self._follow_redirects(request)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
        raise AssertionError(step)

    async def _follow_redirects(self, request: requests.PreparedRequest) -> requests.Response:
        request = request.copy()
        history: list[requests.Response] = []
        while True:
            response = await self._answer(request)
            response.history = [*history, *response.history]
            if not self.options["allow_redirects"] or not self.session.get_redirect_target(response):
                return response
            if len(history) >= self.options["max_redirects"]:
                raise requests.TooManyRedirects(response=response, request=request)
            history.append(response)
            self.session.trust_env = self.options["trust_env"]
            # What requests makes of it: address, method, body, header fields.
            proxies = dict(self.options["proxies"])
            request = next(self.session.resolve_redirects(response, request, yield_requests=True, proxies=proxies))

    async def _answer(self, request: requests.PreparedRequest) -> requests.Response:
        """Send with a token where that may go, and go on as its answer says."""
        auth = self.access.auth

        async def perform(step: Step) -> Any:
            match step:
                case RefreshToken(rejected):
                    return await self.client.token(self.access, rejected)
                case Send(again):
                    return await self._once(again)
            raise AssertionError(step)

        auth.authorize(request, await self.client.token(self.access))
        return await drive_async(auth.answer_flow(await self._once(request)), perform)

    async def _once(self, request: requests.PreparedRequest) -> requests.Response:
        options = self.options
        self.session.trust_env = options["trust_env"]
        merged = self.session.merge_environment_settings(
            request.url, dict(options["proxies"]), False, options["verify"], options["cert"]
        )
        name = self.access.certified_name(request.url or "")
        return await self.client.connections.exchange(request, merged, options["timeout"], self.cookies, name)


@contextlib.asynccontextmanager
async def client_of(conn_id: str) -> AsyncIterator[AsyncClient]:
    """Lend the event loop's client of a connection; the last one who gives it back closes it.

    A client serves newcomers for half a minute; then the connection is read anew, in case somebody has changed it.
    """
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    client = clients.get(conn_id)
    if client is None or time.monotonic() - client.made > _FRESH:
        client = clients[conn_id] = AsyncClient(conn_id)
    client.users += 1
    try:
        yield client
    finally:
        client.users -= 1
        if client.users == 0:
            if clients.get(conn_id) is client:
                del clients[conn_id]
            await client.close()
