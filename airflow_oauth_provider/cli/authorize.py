"""``authorize``: a person signs in, and the connection has its first refresh token."""

from __future__ import annotations

import getpass
import sys
import time
import webbrowser
from typing import Any
from urllib.parse import urlsplit

from airflow_oauth_provider.cli.loopback import Loopback
from airflow_oauth_provider.cli.run import say
from airflow_oauth_provider.connection.presets import find_presets
from airflow_oauth_provider.connection.sign_in import (
    Endpoints,
    Preparation,
    begin,
    compare_scopes,
    keep,
    prepare,
    redeem,
)
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2 import authorization_code, device
from airflow_oauth_provider.oauth2.discovery import discover
from airflow_oauth_provider.oauth2.errors import OAuth2ProtocolError
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.record import Record, fingerprint


def authorize(arguments: Any) -> int:
    """Sign in and keep the tokens; see :mod:`airflow_oauth_provider.cli.definition` for what ``arguments`` has."""
    conn_id: str = arguments.conn_id
    prepared = prepare(conn_id, arguments.scope or "")
    configuration = prepared.configuration
    if arguments.device:
        answer, sent_at = _on_another_device(configuration, prepared.endpoints)
    else:
        answer, sent_at = _in_the_browser(prepared, arguments)
    record, store = keep(prepared, answer, sent_at, actor="airflow oauth2 authorize")
    _report(conn_id, configuration, record, store)
    return 0


def _in_the_browser(prepared: Preparation, arguments: Any) -> tuple[TokenResponse, float]:
    configuration = prepared.configuration
    if not prepared.endpoints.authorize_url:
        raise _unknown(configuration, "authorize_url")
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
    return redeem(configuration, pending, code)


def _on_another_device(configuration: GrantConfiguration, endpoints: Endpoints) -> tuple[TokenResponse, float]:
    if not endpoints.device_authorize_url:
        raise _unknown(configuration, "device_authorize_url")
    authorization = device.begin(configuration.client, endpoints.device_authorize_url, configuration.options)
    say(f"Open {authorization.verification_uri} on any device, and enter the code {authorization.user_code}")
    if authorization.verification_uri_complete:
        say(f"or open {authorization.verification_uri_complete}")
    say(f"Waiting, for {min(authorization.expires_in, device.MAX_WAIT) / 60:.0f} minutes at the most ...")
    answer = device.wait(configuration.client, authorization)
    return answer, time.time()


def _show(url: str) -> None:
    say("Open this address in a browser and sign in:")
    say()
    say(url)
    say()


def _read_secretly(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(prompt).strip()
    return sys.stdin.readline().strip()


def _unknown(configuration: GrantConfiguration, key: str) -> ConfigurationError:
    issuer = configuration.client.issuer
    why = f"its issuer {issuer} publishes none" if issuer else "it has no issuer to ask"
    other = " Or leave out --device." if key == "device_authorize_url" else " Or try --device."
    return ConfigurationError(
        f"there is no {key!r} in its extra, and {why}. "
        f"Enter the address from the vendor's documentation{_remedy(configuration)}.{other}",
        conn_id=configuration.conn_id,
    )


def _remedy(configuration: GrantConfiguration) -> str:
    """Name the provider or issuer that could replace the one address that the connection has."""
    client = configuration.client
    names = find_presets(client.token_url) if client.token_url else []
    if names:
        return f", or set its 'provider' to {' or '.join(map(repr, names))} and leave 'oauth_url' empty"
    issuer = "" if client.issuer or not client.token_url else _issuer_of(configuration)
    return f", or set its 'issuer' to {issuer!r}" if issuer else ""


def _issuer_of(configuration: GrantConfiguration) -> str:
    """Return the issuer at the token endpoint's origin if it publishes that endpoint; else an empty text."""
    url = urlsplit(configuration.client.token_url)
    origin = f"{url.scheme}://{url.netloc}"
    try:
        metadata = discover(origin, configuration.client.transport)
    except OAuth2ProtocolError:
        return ""
    return origin if metadata.token_endpoint == configuration.client.token_url else ""


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
