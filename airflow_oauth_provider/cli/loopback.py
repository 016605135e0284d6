"""The redirect address on this machine, to which the browser brings the code (RFC 8252 section 7.3)."""

from __future__ import annotations

import contextlib
import html
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.authorization_code import NotOurs
from airflow_oauth_provider.oauth2.client import is_loopback
from airflow_oauth_provider.oauth2.errors import OAuth2ProtocolError

_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    "<body style='font-family:sans-serif;margin:4em auto;max-width:36em'><h1>{title}</h1><p>{text}</p></body></html>"
)
#: Seconds that a connection may last. Browsers open connections in advance and leave them silent.
_PATIENCE_WITH_A_CONNECTION = 2.0


class _Server(HTTPServer):
    # So that a port can be used again at once, which the system blocks for a minute. Beyond POSIX this option would
    # share a port that is in use.
    allow_reuse_address = os.name == "posix"
    accept: Callable[[str], str]
    path: str
    code: str | None = None
    failure: OAuth2ProtocolError | None = None

    #: When the sign-in ends, by ``time.monotonic()``.
    ends: float = 0.0

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, and shut it when its time is up: a slow client would hold up the command."""
        left = min(_PATIENCE_WITH_A_CONNECTION, max(0.0, self.ends - time.monotonic()))
        timer = threading.Timer(left, _shut, [request])
        timer.daemon = True
        timer.start()
        try:
            super().finish_request(request, client_address)
        finally:
            timer.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about broken connections: the traceback would show the request line, which has the code."""


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has been closed already
        connection.shutdown(socket.SHUT_RDWR)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_WITH_A_CONNECTION
    server: _Server
    server_version = "airflow-oauth-provider"
    sys_version = ""

    def do_GET(self) -> None:
        if urlsplit(self.path).path != self.server.path:
            self._answer(404, "Not found", "There is nothing here.")
            return
        try:
            self.server.code = self.server.accept(self.path)
        except NotOurs as failure:
            # Another page of the browser, or a program that guesses: wait on.
            self._answer(400, "Not this sign-in", str(failure))
        except OAuth2ProtocolError as failure:
            self.server.failure = failure
            self._answer(400, "You are not signed in", str(failure))
        else:
            self._answer(200, "You are signed in", "You may close this window and return to the command line.")

    def _answer(self, status: int, title: str, text: str) -> None:
        body = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
        self.send_response(status)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "Connection": "close",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the request line has the code in it."""


class Loopback:
    """Listens on this machine only, from ``with`` on.

    :param port: 0 for any free one.
    :param redirect_uri: the address as registered at the vendor; None for ``http://127.0.0.1:<port>/callback``.
    :raises ConfigurationError: the address is not one of this machine, or its port is taken.
    """

    def __init__(self, port: int = 0, redirect_uri: str | None = None) -> None:
        parts = urlsplit(redirect_uri or "http://127.0.0.1/callback")
        host = parts.hostname or ""
        if parts.scheme != "http" or not is_loopback(host):
            raise ConfigurationError(
                f"{redirect_uri!r} does not lead to this machine. Give an address such as "
                "http://127.0.0.1:8765/callback, or use --paste."
            )
        port = parts.port or port or (80 if redirect_uri else 0)
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind((host if ":" in host else "127.0.0.1", port), _Handler)
        except OSError as error:
            raise ConfigurationError(f"Port {port} of this machine cannot be used: {error.strerror}.") from None
        self._server.path = parts.path or "/"
        self._server.timeout = 0.2
        #: What to send to the authorization server.
        self.redirect_uri = redirect_uri or f"http://127.0.0.1:{self._server.server_address[1]}{parts.path}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.server_close()

    def wait(self, accept: Callable[[str], str], timeout: float) -> str:
        """Return what ``accept`` makes of the address at which the browser arrives.

        :param accept: takes that address; raises :class:`NotOurs` for one that does not count.
        :param timeout: seconds to wait for it.
        :raises OAuth2ProtocolError: what ``accept`` raised, or nobody came in time.
        """
        server = self._server
        server.accept = accept
        server.ends = time.monotonic() + timeout
        while server.code is None and server.failure is None:
            if time.monotonic() > server.ends:
                raise OAuth2ProtocolError(f"Nobody signed in within {timeout:g} seconds.")
            server.handle_request()
        if server.failure is not None:
            raise server.failure
        return server.code or ""
