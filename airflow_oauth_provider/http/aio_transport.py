"""``aiohttp``, given and giving what ``requests`` has."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import requests
from certifi import where
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, select_proxy
from yarl import URL

from airflow_oauth_provider.exceptions import ConfigurationError

_OURS_TO_SET = frozenset({"content-length", "transfer-encoding", "connection", "accept-encoding", "cookie"})


class Cookies:
    """The cookies of one run; each run has its own, since triggers of different tasks share the connections."""

    def __init__(self) -> None:
        # Also for hosts that are addresses, as requests does.
        self._jar: aiohttp.CookieJar | None = None

    def header(self, request: requests.PreparedRequest, url: URL) -> str | None:
        """Return the header field for ``request``."""
        own = request.headers.get("Cookie")
        kept = self._jar.filter_cookies(url).values() if self._jar is not None else ()
        return "; ".join([*([own] if own else []), *(f"{cookie.key}={cookie.value}" for cookie in kept)]) or None

    def take(self, answer: aiohttp.ClientResponse) -> None:
        """Keep what ``answer`` sets."""
        if answer.cookies:
            if self._jar is None:
                self._jar = aiohttp.CookieJar(unsafe=True)
            self._jar.update_cookies(answer.cookies, answer.url)


class Connections:
    """Open connections, and the TLS settings to open more.

    :param conn_id: the Airflow connection, for messages.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Any, ssl.SSLContext] = {}
        self._loading = asyncio.Lock()

    async def close(self) -> None:
        """Close them."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def open(
        self,
        request: requests.PreparedRequest,
        settings: Mapping[str, Any],
        timeout: aiohttp.ClientTimeout,
        cookies: Cookies,
    ) -> aiohttp.ClientResponse:
        """Send ``request``, and return its answer as soon as it begins.

        :param settings: of ``requests.Session.merge_environment_settings``.
        """
        url = URL(request.url or "", encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS_TO_SET}
        # What both libraries can always decode.
        headers["Accept-Encoding"] = "gzip, deflate"
        if (cookie := cookies.header(request, url)) is not None:
            headers["Cookie"] = cookie
        return await self._open_session().request(
            request.method or "",
            url,
            headers=headers,
            # Neither adds what requests would not send.
            skip_auto_headers=("Content-Type", "User-Agent", "Accept"),
            data=request.body.encode() if isinstance(request.body, str) else request.body,
            allow_redirects=False,
            timeout=timeout,
            ssl=await self._context(settings) if url.scheme == "https" else True,
            proxy=_proxy(self._conn_id, request.url or "", settings["proxies"]),
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_connection_limit())
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
            )
        return self._session

    async def _context(self, settings: Mapping[str, Any]) -> ssl.SSLContext:
        verify, cert = settings["verify"], settings["cert"]
        key = (verify, tuple(cert) if isinstance(cert, list) else cert)
        if key not in self._contexts:
            async with self._loading:
                if key not in self._contexts:
                    self._contexts[key] = await asyncio.to_thread(_load_context, self._conn_id, *key)
        return self._contexts[key]


def timeouts(timeout: Any) -> aiohttp.ClientTimeout:
    """Return the timeouts that ``requests`` means: for the connection to come about, and between pieces of the answer.

    :param timeout: seconds, for both or as a pair.
    """
    connect, read = timeout if isinstance(timeout, list | tuple) else (timeout, timeout)
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


async def as_response(
    answer: aiohttp.ClientResponse, request: requests.PreparedRequest, cookies: Cookies
) -> requests.Response:
    """Read ``answer`` to its end and return it in the form that functions of DAGs know."""
    cookies.take(answer)
    response = requests.Response()
    response._content = await answer.read()
    response.status_code = answer.status
    response.reason = answer.reason or ""
    response.url = request.url or ""
    response.request = request.copy()
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    for name, value in answer.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    response.headers = headers
    response.encoding = get_encoding_from_headers(headers)
    jar = RequestsCookieJar()
    for name, morsel in answer.cookies.items():
        jar.set(name, morsel.value)
    response.cookies = jar
    return response


def _load_context(conn_id: str, verify: bool | str, cert: Any) -> ssl.SSLContext:
    """Do as ``requests`` does: its own CA bundle, unless there is another one."""
    try:
        if verify is False:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            bundle = Path(where() if verify is True else verify)
            context = ssl.create_default_context(
                cafile=None if bundle.is_dir() else str(bundle), capath=str(bundle) if bundle.is_dir() else None
            )
        if cert:
            context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    except OSError as error:
        raise ConfigurationError(
            f"Connection {conn_id!r}: the certificates in 'verify' ({verify}) or 'cert' cannot be loaded: "
            f"{error.strerror or type(error).__name__}."
        ) from None
    return context


def _proxy(conn_id: str, url: str, proxies: Mapping[str, str] | None) -> str | None:
    proxy = select_proxy(url, dict(proxies or {}))
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not proxy.lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            f"Connection {conn_id!r}: the triggerer can use http and https proxies only: run this task without "
            "deferrable."
        )
    return proxy


def _connection_limit() -> int:
    """Return how many connections may be open at once: half of the files that this process may have open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if files == resource.RLIM_INFINITY else max(16, files // 2)
