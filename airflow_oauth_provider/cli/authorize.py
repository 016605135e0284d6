"""``authorize``: a person signs in, and the connection has its first refresh token."""

from __future__ import annotations

import contextlib
import getpass
import html
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

from airflow_oauth_provider.cli.run import say
from airflow_oauth_provider.connection.sign_in import (
    Preparation,
    begin,
    begin_device,
    compare_scopes,
    keep,
    prepare,
    redeem,
)
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2 import authorization_code, device
from airflow_oauth_provider.oauth2.authorization_code import NotOurs
from airflow_oauth_provider.oauth2.client import is_loopback
from airflow_oauth_provider.oauth2.errors import OAuth2ProtocolError
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.record import Record, fingerprint

_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    "<body style='font-family:sans-serif;margin:4em auto;max-width:36em'><h1>{title}</h1><p>{text}</p></body></html>"
)
#: Seconds that a connection may last. Browsers open connections in advance and leave them silent.
_PATIENCE_WITH_A_CONNECTION = 2.0


def authorize(arguments: Any) -> int:
    """Sign in and keep the tokens; see :mod:`airflow_oauth_provider.cli.definition` for what ``arguments`` has."""
    conn_id: str = arguments.conn_id
    prepared = prepare(conn_id, arguments.scope or "")
    configuration = prepared.configuration
    if arguments.device:
        answer, sent_at = _on_another_device(prepared)
    else:
        answer, sent_at = _in_the_browser(prepared, arguments)
    record, store = keep(prepared, answer, sent_at, actor="airflow oauth2 authorize")
    _report(conn_id, configuration, record, store)
    return 0


def _in_the_browser(prepared: Preparation, arguments: Any) -> tuple[TokenResponse, float]:
    if arguments.paste:
        pending = begin(prepared, arguments.redirect_uri or f"http://127.0.0.1:{arguments.port or 8765}/callback")
        _show(pending.url)
        say("The browser will end up at an address that begins with " + pending.redirect_uri)
        say("and may say that it cannot be reached. Copy that address from the browser's address bar.")
        code = authorization_code.accept(pending, _read_secretly("Paste it here (it will not show): "))
    else:
        with Loopback(arguments.port, arguments.redirect_uri) as loopback:
            pending = begin(prepared, loopback.redirect_uri)
            _show(pending.url)
            if not arguments.no_browser and webbrowser.open(pending.url):
                say("A browser has been opened there.")
            say(f"Waiting for the browser to come back to {loopback.redirect_uri} ...")
            code = loopback.wait(lambda url: authorization_code.accept(pending, url), arguments.timeout)
    return redeem(prepared.configuration, pending, code)


def _on_another_device(prepared: Preparation) -> tuple[TokenResponse, float]:
    authorization = begin_device(prepared)
    say(f"Open {authorization.verification_uri} on any device, and enter the code {authorization.user_code}")
    if authorization.verification_uri_complete:
        say(f"or open {authorization.verification_uri_complete}")
    say(f"Waiting, for {min(authorization.expires_in, device.MAX_WAIT) / 60:.0f} minutes at the most ...")
    answer = device.wait(prepared.configuration.client, authorization)
    return answer, time.time()


def _show(url: str) -> None:
    say(f"Open this address in a browser and sign in:\n\n{url}\n")


def _read_secretly(prompt: str) -> str:
    return (getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()).strip()


def _report(conn_id: str, configuration: GrantConfiguration, record: Record, store: str) -> None:
    say(f"Signed in. The tokens of the connection {conn_id!r} are in the store {store!r}.")
    say(f"  refresh token   {fingerprint(record.refresh_token)} (a fingerprint, not the token)")
    until = record.expires_at
    say(f"  access token    works until {show_time(until)}" if until else "  access token    lifetime unknown")
    if record.refresh_expires_at:
        say(f"  sign in again   before {show_time(record.refresh_expires_at)}, unless it is refreshed before that")
    granted, missing = compare_scopes(configuration, record)
    if granted:
        say(f"  scope           {' '.join(granted)}")
    if missing:
        say(f"  not granted     {' '.join(missing)}")


class Loopback(HTTPServer):
    """The redirect address on this machine, to which the browser brings the code (RFC 8252 section 7.3).

    :param port: 0 for any free one.
    :param redirect_uri: the address as registered at the vendor; None for ``http://127.0.0.1:<port>/callback``.
    :raises ConfigurationError: the address is not one of this machine, or its port is taken.
    """

    # So that a port can be used again at once, which the system blocks for a minute. Beyond POSIX this option would
    # share a port that is in use.
    allow_reuse_address = os.name == "posix"
    #: Seconds after which it is seen whether the time for the sign-in is up.
    timeout = 0.2
    accept: Callable[[str], str]
    code: str | None = None
    failure: OAuth2ProtocolError | None = None
    #: When the sign-in ends, by ``time.monotonic()``.
    ends: float = 0.0

    def __init__(self, port: int = 0, redirect_uri: str | None = None) -> None:
        parts = urlsplit(redirect_uri or "http://127.0.0.1/callback")
        host = parts.hostname or ""
        if parts.scheme != "http" or not is_loopback(host):
            raise ConfigurationError(
                f"{redirect_uri!r} does not lead to this machine. Give an address such as "
                "http://127.0.0.1:8765/callback, or use --paste."
            )
        port = parts.port or port or (80 if redirect_uri else 0)
        self.path = parts.path or "/"
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host if ":" in host else "127.0.0.1", port), _Handler)
        except OSError as error:
            raise ConfigurationError(f"Port {port} of this machine cannot be used: {error.strerror}.") from None
        #: What to send to the authorization server.
        self.redirect_uri = redirect_uri or f"http://127.0.0.1:{self.server_address[1]}{parts.path}"

    def wait(self, accept: Callable[[str], str], timeout: float) -> str:
        """Return what ``accept`` makes of the address at which the browser arrives.

        :param accept: takes that address; raises :class:`NotOurs` for one that does not count.
        :param timeout: seconds to wait for it.
        :raises OAuth2ProtocolError: what ``accept`` raised, or nobody came in time.
        """
        self.accept = accept
        self.ends = time.monotonic() + timeout
        while self.code is None and self.failure is None:
            if time.monotonic() > self.ends:
                raise OAuth2ProtocolError(f"Nobody signed in within {timeout:g} seconds.")
            self.handle_request()
        if self.failure is not None:
            raise self.failure
        return self.code or ""

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


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_WITH_A_CONNECTION
    server: Loopback
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
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the request line has the code in it."""
