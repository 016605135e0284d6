"""An ``oauth2`` connection for code that runs on an event loop: the triggerer's.

Requests are prepared by ``requests`` and sent by ``aiohttp``, so that they are the same as a task's: the same URL,
headers and body, the same TLS settings and proxies, the same rules for redirects. Whatever may wait (reading the
connection, refreshing, loading certificates) runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
import requests

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook, merged_options
from airflow_oauth_provider.http.aio_transport import Connections, Cookies, as_response, timeouts
from airflow_oauth_provider.http.errors import api_error, failure_text, show_target
from airflow_oauth_provider.http.pagination import PageRequest
from airflow_oauth_provider.http.rate_limit import RateLimit
from airflow_oauth_provider.http.retry import RetryPolicy
from airflow_oauth_provider.http.session import OAuth2Session
from airflow_oauth_provider.oauth2.retry_after import read_exhaustion, read_wait

log = logging.getLogger(__name__)

#: Seconds for which a connection that was read serves those who come after.
_FRESH = 30.0

#: The clients in use, by event loop and connection, each with the moment at which it was made.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AsyncClient]] = WeakKeyDictionary()


class AsyncClient:
    """Sends requests with a fresh token, for all triggers of an event loop that use the same connection.

    Take it from :func:`client_of`.

    :param conn_id: the connection.
    """

    def __init__(self, conn_id: str) -> None:
        self.users = 0
        self.made = time.monotonic()
        self._conn_id = conn_id
        self._ready = asyncio.Lock()
        self._refreshing = asyncio.Lock()
        self._parts: tuple[OAuth2Hook, OAuth2Session] | None = None
        self._connections = Connections(conn_id)

    async def _prepare(self) -> tuple[OAuth2Hook, OAuth2Session]:
        async with self._ready:
            if self._parts is None:
                self._parts = await asyncio.to_thread(self._read)
            return self._parts

    def _read(self) -> tuple[OAuth2Hook, OAuth2Session]:
        hook = OAuth2Hook(self._conn_id)
        hook.url_from_endpoint("")  # reads the connection, and complains if it is wrong
        _ = hook.auth
        # Only prepares requests; with an auth of its own it does not look into .netrc.
        session = OAuth2Session(hook.settings.transport.timeout)
        session.auth = _leave_alone
        session.headers.update(hook.settings.headers)
        return hook, session

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def checks(self, extra_options: Mapping[str, Any]) -> bool:
        """Tell whether error statuses are errors, as options and connection have it."""
        hook, _ = await self._prepare()
        return bool(merged_options(hook.settings, extra_options)["check_response"])

    async def send(
        self,
        method: str,
        request: PageRequest,
        policy: RetryPolicy,
        throttle: RateLimit,
        cookies: Cookies | None = None,
    ) -> requests.Response:
        """Send a request, again where ``policy`` says so, and return its answer.

        :param cookies: those that earlier answers have set, which are sent and added to.
        :raises ApiError: when there is no answer, or one with an error status and ``check_response`` is not false.
        :raises OAuth2Error: when there is no token.
        """
        hook, session = await self._prepare()
        options = merged_options(hook.settings, request.extra_options)
        srv = hook.settings.http_options["srv_lookup"]
        resolve = hook.url_from_endpoint
        url = await asyncio.to_thread(resolve, request.endpoint) if srv else resolve(request.endpoint)
        hook.auth.check_origin(url)
        prepared = session.prepare_request(_request(method.upper(), url, request))
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(throttle.reserve())
            pause: float | None
            try:
                response = await self._authorized(hook, session, prepared, options, cookies or Cookies())
            except (TimeoutError, aiohttp.ClientError) as error:
                text = failure_text(prepared.method, prepared.url, error, self._conn_id)
                pause = _pause_after(policy, prepared, error, attempt)
                if pause is None:
                    raise ApiError(text) from None
            else:
                throttle.hold(read_wait(response.status_code, response.headers) or read_exhaustion(response.headers))
                pause = policy.after_status(prepared.method or "", response.status_code, response.headers, attempt)
                if pause is None:
                    break
                where = show_target(prepared.url or "")
                text = f"Connection {self._conn_id!r}: {prepared.method} {where} answered {response.status_code}"
            log.warning("%s; attempt %d, next one in %.1f s", text, attempt, pause)
            await asyncio.sleep(pause)
        hook.auth.hide_token(response)
        if options["check_response"] and response.status_code >= 400:
            raise api_error(response, self._conn_id)
        return response

    async def _authorized(
        self,
        hook: OAuth2Hook,
        session: OAuth2Session,
        request: requests.PreparedRequest,
        options: dict[str, Any],
        cookies: Cookies,
    ) -> requests.Response:
        """Send with a token; if it turns out to have expired, refresh it once and send again."""
        response = await self._followed(hook, session, request, await self._token(hook), options, cookies)
        expired = hook.auth.expired_token(response)
        if expired is None:
            return response
        log.info("Connection %r: the API answered %d; refreshing the access token", self._conn_id, response.status_code)
        fresh = await self._token(hook, rejected=expired)
        again = await self._followed(hook, session, request, fresh, options, cookies)
        hook.auth.replayed(again, fresh)
        again.history.insert(0, response)
        return again

    async def _token(self, hook: OAuth2Hook, rejected: str | None = None) -> str:
        held = hook.tokens.token_in_hand()
        if held is not None and held != rejected:
            return held
        async with self._refreshing:  # one thread waits, however many triggers want the token
            held = hook.tokens.token_in_hand()
            if held is not None and held != rejected:
                return held
            return await asyncio.to_thread(hook.tokens.access_token, rejected=rejected)

    async def _followed(
        self,
        hook: OAuth2Hook,
        session: OAuth2Session,
        first: requests.PreparedRequest,
        token: str,
        options: dict[str, Any],
        cookies: Cookies,
    ) -> requests.Response:
        """Send, and follow redirects; the token goes along where it may go, and stays behind elsewhere."""
        request = first.copy()
        history: list[requests.Response] = []
        while True:
            hook.auth.authorize(request, token)
            response = await self._once(session, request, options, cookies)
            asked: list[requests.Response] = []
            if hook.auth.wants_nonce(response):
                asked = [response]
                response = await self._once(session, request, options, cookies)
                hook.auth.wants_nonce(response)  # it may bring the next nonce
            response.history = [*history, *asked]
            if not options["allow_redirects"] or not session.get_redirect_target(response):
                return response
            if len(history) >= options["max_redirects"]:
                where = show_target(first.url or "")
                most = options["max_redirects"]
                raise ApiError(
                    f"Connection {self._conn_id!r}: {first.method} {where} was redirected more than {most} times"
                )
            history.append(response)
            session.redirect(request, response)

    async def _once(
        self, session: OAuth2Session, request: requests.PreparedRequest, options: dict[str, Any], cookies: Cookies
    ) -> requests.Response:
        session.trust_env = options["trust_env"]
        merged = session.merge_environment_settings(
            request.url, dict(options["proxies"]), False, options["verify"], options["cert"]
        )
        async with await self._connections.open(request, merged, timeouts(options["timeout"]), cookies) as answer:
            return await as_response(answer, request, cookies)


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


def _request(method: str, url: str, request: PageRequest) -> requests.Request:
    """Build the request as ``HttpHook.run`` does: ``data`` is the query of a GET and the body of other methods."""
    place = {"GET": "params", "HEAD": None}.get(method, "data")
    arguments = {place: request.data} if place else {}
    return requests.Request(method, url, headers=dict(request.headers), **arguments, **request.request_kwargs)


def _pause_after(
    policy: RetryPolicy, request: requests.PreparedRequest, error: BaseException, attempt: int
) -> float | None:
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL):
        return None  # neither gets better
    unsent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
    return policy.after_failure(request.method or "", attempt, was_sent=not isinstance(error, unsent))


def _leave_alone(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
