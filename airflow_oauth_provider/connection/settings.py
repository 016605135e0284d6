"""An ``oauth2`` connection, read and checked."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_oauth_provider.compat import api_server, deployment
from airflow_oauth_provider.connection import credentials, presets
from airflow_oauth_provider.connection.address import Origin, is_template, origin_of, parse_allowed
from airflow_oauth_provider.connection.dialect import BearerUsage, read_bearer_usage, read_dialect
from airflow_oauth_provider.connection.extra import Extra
from airflow_oauth_provider.connection.fields import CONN_TYPE
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.client import Client, Transport, is_loopback, is_secure
from airflow_oauth_provider.oauth2.grants import GrantOptions
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.oauth2.times import parse_time
from airflow_oauth_provider.stores.allowed_places import CA_FOLDERS, OWN, check_file
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.sealed_record import ConnectionKeys
from airflow_oauth_provider.tokens import callbacks
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration, RefreshPolicy

log = logging.getLogger(__name__)

# The connections of whose unknown keys this process has spoken.
_warned: set[str] = set()
# HttpHook's options, by its names.
_HTTP_OPTIONS = ("stream", "allow_redirects", "max_redirects", "check_response", "srv_lookup")
# What can be shown as it was entered: it has no user and no query.
_HARMLESS = re.compile(r"[\w.:/-]+").fullmatch
# Of a proxy: a scheme that requests knows, perhaps name and password, a host, perhaps a port.
_PROXY = re.compile(
    r"(?:(?P<scheme>https?|socks4a?|socks5h?)://)?(?:[^/@\s]*@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/?",
    re.IGNORECASE,
).fullmatch


class ConnectionLike(Protocol):
    """What is read of an Airflow connection; Airflow 2 and 3 have classes of their own."""

    conn_type: Any
    host: Any
    schema: Any
    port: Any
    login: Any
    password: Any
    extra: Any


@dataclass(frozen=True, slots=True)
class SignIn:
    """Where a person signs in.

    :param authorize_url: the authorization endpoint; empty: found by the issuer.
    :param device_authorize_url: the device authorization endpoint; empty: found by the issuer.
    :param parameters: what else the server wants to be sent.
    :param refresh_scope: the scope that the vendor wants for a refresh token, space-delimited; empty: none is known.
    """

    authorize_url: str = ""
    device_authorize_url: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    refresh_scope: str = ""

    def complete_scope(self, scope: str) -> str:
        """Return ``scope`` with what the vendor wants for a refresh token (space-delimited, RFC 6749 section 3.3)."""
        names = scope.split()
        return " ".join([*names, *(name for name in self.refresh_scope.split() if name not in names)])


@dataclass(frozen=True, slots=True)
class Settings:
    """A connection as the rest of the package sees it.

    :param base_url: the API's base URL; empty where the connection has no host. It may have names of the token answer
        in braces, see :mod:`airflow_oauth_provider.connection.address`.
    :param allowed_origins: the origins that may see the access token.
    :param headers: sent with every API call.
    :param transport: timeout, TLS and proxies, for the API and the authorization server alike.
    :param http_options: HttpHook's further options, by its names.
    :param store_options: where rotated tokens are kept.
    :param bearer_usage: how the API takes the access token.
    """

    conn_id: str
    base_url: str
    allowed_origins: frozenset[Origin]
    headers: Mapping[str, str] = field(repr=False)
    transport: Transport
    http_options: Mapping[str, Any]
    store_options: StoreOptions
    bearer_usage: BearerUsage
    _extra: Extra = field(repr=False)
    _client_id: str | None = None
    _client_secret: str | None = field(default=None, repr=False)

    def grant_configuration(self, kept: Mapping[str, Any] | None = None, place: str = "") -> GrantConfiguration:
        """Return what a refresh needs.

        :param kept: what people keep beside the tokens in the store (Vault): ``client_id``, ``client_secret`` and
            ``refresh_token`` are taken from there where the connection has none.
        :param place: what that store is called, for messages; empty where it keeps tokens only.
        :raises ConfigurationError: when something is missing.
        """
        kept = kept or {}
        extra = self._extra
        hint = f" The place of this connection's tokens is {place}.{extra.hint}" if place else extra.hint
        client_id = self._client_id or _text(kept.get("client_id"))
        if not client_id:
            there = f", or under the key 'client_id' in {place}" if place else ""
            raise ConfigurationError(
                f"there is no client id. Enter it in the field 'login'{there}.{extra.hint}", conn_id=self.conn_id
            )
        secret = self._client_secret or _text(kept.get("client_secret"))
        method = credentials.read_auth_method(extra, secret, place)
        refresh_token = extra.get("refresh_token") or _text(kept.get("refresh_token"))
        return GrantConfiguration(
            conn_id=self.conn_id,
            hint=hint,
            sign_in_page=api_server.grant_url(self.conn_id) if api_server.base_url() else "",
            client=self._client(client_id, secret, method, kept),
            grant_type=extra.get("grant_type"),
            inputs=credentials.read_grant_inputs(extra),
            callback=self._callback(),
            options=GrantOptions(
                scope=extra.get("scope") or "",
                audience=extra.get("audience") or "",
                resources=tuple((extra.get("resource") or "").split()),
            ),
            entered=EnteredTokens(refresh_token, extra.get("access_token"), _expires_at(extra)),
            policy=RefreshPolicy(
                when=extra.get("refresh_when"),
                leeway=extra.get("leeway"),
                interval=_interval(extra),
                min_interval=extra.get("min_refresh_interval") or 0.0,
                resend_lost_response=extra.get("resend_lost_response"),
                refresh_lifetime=extra.get("refresh_expires_in"),
                idle_lifetime=_days(extra.get("refresh_idle_days")),
                warn_before=_days(extra.get("refresh_warning_days")) or 0.0,
            ),
        )

    @property
    def vendor(self) -> str:
        """The vendor's name for people: of the preset, else the host of the authorization server; empty: unknown."""
        name = self._extra.get("provider")
        if name:
            return presets.preset(name).title
        url = self._extra.get("issuer") or self._extra.get("oauth_url") or ""
        return urlsplit(url).hostname or ""

    @property
    def sign_in(self) -> SignIn:
        """What it takes for a person to sign in.

        :raises ConfigurationError: when an address is wrong.
        """
        return SignIn(
            self._endpoint("authorize_url"),
            self._endpoint("device_authorize_url"),
            self._extra.get("authorize_params") or {},
            self._extra.preset("sign_in_scope") or "",
        )

    @property
    def secrets(self) -> list[str]:
        """The secrets that the connection itself holds, for masking."""
        own = [self._client_secret] if self._client_secret else []
        return [*own, *credentials.find_secrets(self._extra)]

    @property
    def keys(self) -> ConnectionKeys:
        """What the connection itself has to seal its record with."""
        secrets = credentials.find_sealing_secrets(self._extra, self._client_secret)
        return ConnectionKeys(secrets, rotates=self._extra.get("grant_type") == "refresh_token")

    @property
    def allow_http(self) -> bool:
        """Whether the token may travel unencrypted beyond this machine."""
        return bool(self._extra.get("allow_http"))

    @property
    def refresh_when(self) -> str:
        """The connection's ``refresh_when``."""
        return str(self._extra.get("refresh_when"))

    @property
    def test_client(self) -> bool:
        """Whether a test may ask the server about the client with a made-up refresh token."""
        return bool(self._extra.get("test_client"))

    def _endpoint(self, key: str) -> str:
        url: str = self._extra.get(key) or ""
        if url and not is_secure(url):
            raise ConfigurationError(
                f"the key {key!r} of its extra is {show_url(url)!r}, but has to be an "
                "https URL (http is accepted on loopback only): the client's secret is sent there.",
                conn_id=self.conn_id,
            )
        return url

    def _callback(self) -> str:
        path: str = self._extra.get("callback") or ""
        if path:
            callbacks.check_allowed(self.conn_id, path, deployment.callback_prefixes())
        return path

    def _client(self, client_id: str, secret: str | None, method: str, kept: Mapping[str, Any]) -> Client:
        token_url, issuer = self._endpoint("oauth_url"), self._endpoint("issuer")
        if not token_url and not issuer and not self._extra.get("callback"):
            raise ConfigurationError(
                f"enter the token endpoint under the key 'oauth_url' of its extra, or the "
                f"server's issuer under 'issuer'.{self._extra.hint}",
                conn_id=self.conn_id,
            )
        return Client(
            client_id,
            token_url,
            secret,
            method,
            self.transport,
            issuer,
            refresh_url=self._endpoint("refresh_url"),
            dialect=read_dialect(self._extra),
            basic_encoding=self._extra.get("basic_encoding"),
            signing_key=credentials.read_signing_key(self._extra, kept, method),
            assertion_audience=credentials.read_assertion_audience(self._extra),
            revocation_url=self._endpoint("revocation_url"),
            introspection_url=self._endpoint("introspection_url"),
            introspects=self._extra.get("introspect"),
            dpop_key=credentials.read_dpop_key(self._extra, kept),
        )


def read_settings(conn_id: str, connection: ConnectionLike) -> Settings:
    """Read and check a connection.

    :raises ConfigurationError: names the key that is wrong, and what would be right.
    """
    if connection.conn_type != CONN_TYPE:
        raise ConfigurationError(
            f"its type is {connection.conn_type!r}, but has to be {CONN_TYPE!r} ('OAuth 2.0' in the form, which then "
            "has the fields for client and tokens).",
            conn_id=conn_id,
        )
    extra = Extra(conn_id, connection.extra, {"host": connection.host})
    extra.check()
    if extra.unknown and conn_id not in _warned:
        _warned.add(conn_id)
        log.warning("Connection %r:%s", conn_id, extra.hint)
    base_url = _base_url(conn_id, connection, extra)
    own = origin_of(base_url) if base_url and not is_template(base_url) else None
    return Settings(
        conn_id=conn_id,
        base_url=base_url,
        allowed_origins=frozenset({*_allowed_origins(extra), *([own] if own else [])}),
        headers={str(name): str(value) for name, value in (extra.get("headers") or {}).items()},
        transport=Transport(
            timeout=extra.get("timeout"),
            verify=_verify(extra),
            cert=_cert(extra),
            proxies=_proxies(extra),
            trust_env=extra.get("trust_env"),
        ),
        http_options={key: extra.get(key) for key in _HTTP_OPTIONS},
        store_options=_store_options(extra),
        bearer_usage=read_bearer_usage(extra),
        _extra=extra,
        _client_id=_text(connection.login),
        _client_secret=_text(connection.password),
    )


def _allowed_origins(extra: Extra) -> set[Origin]:
    """Return what ``allowed_hosts`` lists, by the same rules as the host."""
    origins = set()
    for entry in extra.get("allowed_hosts") or []:
        shown = show_url(entry) if "://" in entry else entry
        origin = parse_allowed(entry)
        if "*" in entry:
            raise extra.error("allowed_hosts", f"has {shown!r} in it, but takes no wildcards: list each host by name")
        if origin is None:
            raise extra.error("allowed_hosts", f"has {shown!r} in it, which is neither a host nor an http URL")
        if _is_unencrypted(origin, extra):
            raise extra.error(
                "allowed_hosts",
                f"has {shown!r} in it, where the access token would travel unencrypted (RFC 6750 section 5.3): use "
                "https, or set 'allow_http' to true, for a network that you trust",
            )
        origins.add(origin)
    return origins


def _is_unencrypted(origin: Origin, extra: Extra) -> bool:
    return origin[0] == "http" and not extra.get("allow_http") and not is_loopback(origin[1])


def _base_url(conn_id: str, connection: ConnectionLike, extra: Extra) -> str:
    """Return the API's base URL; a host without a scheme means https, unlike HttpHook's http: a token goes there."""
    host = (connection.host or "").strip() or extra.preset("host")
    if not host:
        return ""
    if is_template(host):
        return host
    scheme = connection.schema or "https"
    if "://" not in host and scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"its field 'schema' is {scheme!r}, but has to be http or https. A connection in "
            "the form of a URI has there what follows the host's slash: enter the whole base URL, with its path, in "
            "the field 'host', which the JSON form of connections takes as it is.",
            conn_id=conn_id,
        )
    url = host if "://" in host else f"{scheme}://{host}"
    if connection.port:
        scheme, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        url = f"{scheme}://{authority}:{connection.port}{slash}{path}"
    origin = origin_of(url)
    # A slash too few makes a host of the scheme.
    if origin is None or origin[1] in ("http", "https"):
        shown = host if _HARMLESS(host) else show_url(url)
        raise ConfigurationError(
            f"its field 'host' is {shown!r}, but has to be a base URL such as https://api.example.com.", conn_id=conn_id
        )
    if "?" in url or "#" in url:
        raise ConfigurationError(
            f"its field 'host' is {show_url(url)!r} with a query or a fragment, but a base URL "
            "has none: endpoints are added to its end. Give parameters with each call.",
            conn_id=conn_id,
        )
    if _is_unencrypted(origin, extra):
        raise ConfigurationError(
            f"its field 'host' is {show_url(url)!r}, where the access token would travel "
            "unencrypted (RFC 6750 section 5.3). Use https, or set the key 'allow_http' of its extra to true, for a "
            "network that you trust.",
            conn_id=conn_id,
        )
    return url


def _store_options(extra: Extra) -> StoreOptions:
    given = {option.name: extra.get(option.name) for option in fields(StoreOptions)}
    return StoreOptions(**{name: value for name, value in given.items() if value is not None})


def _days(days: float | None) -> float | None:
    return None if days is None else days * 86400.0


def _verify(extra: Extra) -> bool | str:
    value: str = extra.get("verify")
    known = {"true": True, "false": False}.get(value.lower())
    if known is None and os.path.isabs(value):
        # Certificates of authorities are no secrets: several connections may share them.
        shared = (folder.partition(OWN)[0] for folder in deployment.allowed_folders())
        check_file(extra.conn_id, "verify", value, (*shared, *CA_FOLDERS))
    if known is None and not (os.path.isabs(value) and os.access(value, os.R_OK)):
        raise extra.error("verify", "has to be true, false or the path of a file that exists here and can be read")
    return value if known is None else known


def _cert(extra: Extra) -> str | tuple[str, str] | None:
    paths = extra.get("cert")
    if not paths:
        return None
    if len(paths) > 2:
        raise extra.error("cert", "has to be one path (certificate and key), or two (certificate, key)")
    for path in paths:
        check_file(extra.conn_id, "cert", path, deployment.allowed_folders())
    if not all(os.access(path, os.R_OK) for path in paths):
        raise extra.error("cert", "has to be the path of a file that exists here and can be read, or two of them")
    return paths[0] if len(paths) == 1 else (paths[0], paths[1])


def _proxies(extra: Extra) -> dict[str, str]:
    """Return the proxies by scheme; a value without a scheme means http, as ``requests`` has it."""
    proxies: dict[str, Any] = extra.get("proxies") or {}
    for scheme, address in proxies.items():
        found = _PROXY(address.strip()) if isinstance(address, str) else None
        if found is None:
            raise extra.error(
                "proxies",
                f"has no usable address for {scheme!r}: it has to be a URL such as http://proxy.example.com:3128 "
                "(http, https, socks5 or socks5h)",
            )
        if (found["scheme"] or "").lower().startswith("socks") and find_spec("socks") is None:
            raise extra.error(
                "proxies",
                f"names a SOCKS proxy for {scheme!r}, which needs the package PySocks wherever tasks run: "
                "pip install 'requests[socks]'",
            )
    return {str(scheme): str(address).strip() for scheme, address in proxies.items()}


def _interval(extra: Extra) -> float:
    interval: float | None = extra.get("refresh_interval")
    if extra.get("refresh_when") == "interval" and not interval:
        raise extra.error("refresh_interval", "has to be set, in seconds, when refresh_when is 'interval'")
    return interval or 0.0


def _expires_at(extra: Extra) -> float | None:
    value: str | None = extra.get("expires_at")
    time = None if value is None else parse_time(value)
    if value is not None and time is None:
        raise extra.error("expires_at", "has to be a date such as 2030-01-31T12:00:00Z, or seconds since 1970")
    return time


def _text(value: object) -> str | None:
    """Return a text without the line's end that tools leave behind a value that comes from a file."""
    return (value.strip() or None) if isinstance(value, str) else None
