"""``aiohttp``, given and giving what ``requests`` has."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import Mapping
from http.client import HTTPMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import requests
from certifi import where
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, select_proxy
from yarl import URL

from airflow_oauth_provider.connection.address import Origin, origin_of
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.http.body import BodyReader, BoundedAdapter, settle_charset
from airflow_oauth_provider.http.errors import mark_unsent
from airflow_oauth_provider.http.retry import IDEMPOTENT
from airflow_oauth_provider.http.srv import CertifiedAdapter

#: What ``http.client`` allows, and so a worker: bytes of a line of the head, and how many header fields.
MAX_LINE, MAX_FIELDS = 65536, 100

_OURS_TO_SET = frozenset({"content-length", "transfer-encoding", "connection", "accept-encoding"})


class Connections:
    """Open connections to the API of the Airflow connection ``conn_id``, and the TLS settings to open more."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Any, ssl.SSLContext] = {}
        self._loading = asyncio.Lock()
        #: What sends in threads, by the name that the server's certificate has to bear.
        self._adapters: dict[str | None, BoundedAdapter] = {}
        #: Whose answers ``aiohttp`` refuses to read.
        self._lax_servers: set[Origin | None] = set()

    async def close(self) -> None:
        """Close them."""
        for adapter in self._adapters.values():
            adapter.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def exchange(
        self,
        request: requests.PreparedRequest,
        settings: Mapping[str, Any],
        timeout: Any,
        cookies: RequestsCookieJar,
        certified_name: str | None = None,
    ) -> requests.Response:
        """Send ``request``, read the response to its end, and return it in the form that functions of DAGs know.

        :param settings: of ``requests.Session.merge_environment_settings``.
        :param timeout: seconds, for connecting and between pieces of the response, or a pair of both.
        :param cookies: takes those that the answer sets.
        :param certified_name: the name that the server's certificate has to bear; None: its host's.
        :raises requests.RequestException: when no response came, in the class that ``requests`` would raise.
        """
        url, origin = self._checked_url(request), origin_of(request.url or "")
        # Characters that aiohttp would send in UTF-8, and http.client sends in Latin-1.
        if origin in self._lax_servers or not all(value.isascii() for value in request.headers.values()):
            return await self._exchange_in_thread(request, settings, timeout, cookies, certified_name)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS_TO_SET}
        # What is decoded within bounds.
        headers["Accept-Encoding"] = "gzip, deflate"
        context = await self._context(settings) if url.scheme == "https" else True
        connect, read = timeout if isinstance(timeout, list | tuple) else (timeout, timeout)
        options: dict[str, Any] = {} if certified_name is None else {"server_hostname": certified_name}
        try:
            async with await self._open_session().request(
                request.method or "",
                url,
                headers=headers,
                # Neither adds what requests would not send.
                skip_auto_headers=("Content-Type", "User-Agent", "Accept"),
                data=request.body.encode() if isinstance(request.body, str) else request.body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read),
                ssl=context,
                proxy=_proxy(self._conn_id, request.url or "", settings["proxies"]),
                **options,
            ) as answer:
                return await _read(answer, request, self._conn_id, cookies)
        except (TimeoutError, aiohttp.ClientError) as error:
            failure = _error_of_requests(error, request)
            is_of_proxy = isinstance(error, aiohttp.ClientHttpProxyError)
            is_refused = isinstance(error, aiohttp.ClientResponseError) and not is_of_proxy
        if is_refused:
            self._lax_servers.add(origin)
            if (request.method or "") in IDEMPOTENT:
                return await self._exchange_in_thread(request, settings, timeout, cookies, certified_name)
        raise failure  # without the error of aiohttp as its context, whose text quotes the URL

    async def _exchange_in_thread(
        self,
        request: requests.PreparedRequest,
        settings: Mapping[str, Any],
        timeout: Any,
        cookies: RequestsCookieJar,
        certified_name: str | None,
    ) -> requests.Response:
        """Do as a worker does: ``http.client`` reads what ``aiohttp`` refuses, such as two lengths of one body."""
        options = {"timeout": timeout, **{name: settings[name] for name in ("verify", "cert", "proxies")}}
        if (adapter := self._adapters.get(certified_name)) is None:
            inner = HTTPAdapter() if certified_name is None else CertifiedAdapter(certified_name)
            adapter = self._adapters[certified_name] = BoundedAdapter(inner, self._conn_id)

        def exchange() -> requests.Response:
            response = adapter.send(request.copy(), **options)
            _ = response.content
            settle_charset(response)
            return response

        response = await asyncio.to_thread(exchange)
        extract_cookies_to_jar(cookies, request, response.raw)  # type: ignore[no-untyped-call]
        return response

    def _checked_url(self, request: requests.PreparedRequest) -> URL:
        """Return the URL in the form of ``aiohttp``, which must mean the host that was checked."""
        url = URL(request.url or "", encoded=True)
        meant: Origin = (url.scheme, (url.raw_host or "").rstrip(".").lower(), url.port or 0)
        if meant != origin_of(request.url or "") or url.user or url.password:
            raise requests.exceptions.InvalidURL("the address can be read in two ways", request=request)
        return url

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_connection_limit())
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=MAX_LINE,
                max_field_size=MAX_LINE,
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


async def _read(
    answer: aiohttp.ClientResponse, request: requests.PreparedRequest, conn_id: str, cookies: RequestsCookieJar
) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    # aiohttp reads the head as UTF-8; it is Latin-1 for http.client, and so for whoever reads it in a worker.
    response.reason = (answer.reason or "").encode("utf-8", "surrogateescape").decode("latin-1")
    response.url = request.url or ""
    response.request = request
    if len(answer.raw_headers) > MAX_FIELDS:
        raise requests.ConnectionError(f"got more than {MAX_FIELDS} header fields", request=request)
    fields: dict[str, tuple[str, str]] = {}
    for raw_name, raw_value in answer.raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        known = fields.get(name.lower())
        fields[name.lower()] = (name, value if known is None else f"{known[1]}, {value}")
    response.headers = CaseInsensitiveDict(fields.values())
    response.encoding = get_encoding_from_headers(response.headers)
    if "set-cookie" in fields:
        head = HTTPMessage()  # what requests reads cookies from
        for raw_name, raw_value in answer.raw_headers:
            head[raw_name.decode("latin-1")] = raw_value.decode("latin-1")
        response.raw = SimpleNamespace(_original_response=SimpleNamespace(msg=head))
        for jar in (response.cookies, cookies):
            extract_cookies_to_jar(jar, request, response.raw)  # type: ignore[no-untyped-call]
    reader, content = BodyReader(response, conn_id), bytearray()
    async for data in answer.content.iter_any():
        for piece in reader.feed(data):
            content += piece
    reader.finish()
    response._content = bytes(content)
    response._content_consumed = True  # type: ignore[attr-defined]
    settle_charset(response)
    return response


_KINDS: tuple[tuple[type[BaseException], type[requests.RequestException]], ...] = (
    (aiohttp.ClientSSLError, requests.exceptions.SSLError),
    (aiohttp.ClientHttpProxyError, requests.exceptions.ProxyError),
    (aiohttp.ClientProxyConnectionError, requests.exceptions.ProxyError),
    (aiohttp.ConnectionTimeoutError, requests.ConnectTimeout),
    (aiohttp.ClientConnectorError, requests.ConnectionError),
    (TimeoutError, requests.ReadTimeout),
    (aiohttp.InvalidURL, requests.exceptions.InvalidURL),
    (aiohttp.ClientPayloadError, requests.exceptions.ChunkedEncodingError),
)


def _error_of_requests(error: BaseException, request: requests.PreparedRequest) -> requests.RequestException:
    """Return what ``requests`` would have raised, so that one text and one policy hold for both."""
    kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), requests.ConnectionError)
    reason = ""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        reason = f"Proxy answered {error.status} {error.message}"
    elif isinstance(error, aiohttp.ClientResponseError):
        reason = error.message
    elif isinstance(error, aiohttp.ServerDisconnectedError):  # its text may be the head, as far as that came
        reason = "the server closed the connection before the head of its answer was whole"
    elif not isinstance(error, TimeoutError | aiohttp.InvalidURL):  # whose texts quote the URL
        reason = str(error)
    failure = kind(aiohttp.ClientError(reason), request=request)
    return mark_unsent(failure) if isinstance(error, aiohttp.ClientConnectorError) else failure


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
            f"the certificates in 'verify' ({verify}) or 'cert' cannot be loaded: "
            f"{error.strerror or type(error).__name__}.",
            conn_id=conn_id,
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
            "the triggerer can use http and https proxies only: run this task without deferrable.", conn_id=conn_id
        )
    return proxy


def _connection_limit() -> int:
    """Return how many connections may be open at once: half of the files that this process may have open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if files == resource.RLIM_INFINITY else max(16, files // 2)
