"""Who asks: the client as it is registered with the authorization server (RFC 6749 section 2)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow_oauth_provider.oauth2.assertions import SigningKey
from airflow_oauth_provider.oauth2.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Transport:
    """How requests travel.

    :param timeout: seconds for a connection to come about, and between two pieces of a response.
    :param verify: False: certificates are not checked; a path: the CA bundle to check against.
    :param cert: path of a client certificate (with its key), or certificate and key.
    :param proxies: proxy URL for each scheme.
    :param trust_env: whether proxies and CA bundle of the environment count where nothing else is said.
    """

    timeout: float = 30.0
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    trust_env: bool = True

    @property
    def trust(self) -> tuple[object, ...]:
        """What decides who can read and forge a response: two transports that differ in it share nothing."""
        return self.verify, self.cert, tuple(sorted(self.proxies.items())), self.trust_env


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client.

    :param client_id: the client identifier (RFC 6749 section 2.2).
    :param client_secret: None for a public client.
    :param auth_method: the client authentication method, by its name in the IANA registry.
    :param token_url: the token endpoint; empty: found by the issuer.
    :param issuer: the authorization server, where its token endpoint is to be found by discovery.
    :param transport: how requests to the authorization server travel.
    :param refresh_url: where refreshes go; empty: to the token endpoint.
    :param dialect: how the server departs from the RFC.
    :param basic_encoding: how id and secret are encoded for HTTP Basic: ``percent``, ``form`` or ``raw``.
    :param signing_key: what signs assertions; None: nothing does.
    :param assertion_audience: whom assertions are for: empty for the token endpoint, ``issuer``, or any other value.
    :param revocation_url: the revocation endpoint; empty: found by the issuer.
    :param introspection_url: the introspection endpoint; empty: found by the issuer.
    :param introspects: whether the server is asked for the lifetime of a token that comes without one.
    :param dpop_key: what tokens are bound to (RFC 9449); None: they are bearer tokens.
    """

    client_id: str
    token_url: str
    client_secret: str | None = field(default=None, repr=False)
    auth_method: str = "client_secret_basic"
    transport: Transport = field(default_factory=Transport)
    issuer: str = ""
    refresh_url: str = ""
    dialect: Dialect = field(default_factory=Dialect)
    basic_encoding: str = "percent"
    signing_key: SigningKey | None = None
    assertion_audience: str = ""
    revocation_url: str = ""
    introspection_url: str = ""
    introspects: bool = False
    dpop_key: SigningKey | None = None


# Blanks, control characters, and what begins a path for some readers and not for others.
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f-\x9f\\]")


def is_secure(url: str) -> bool:
    """Tell whether secrets may be sent to ``url``: https, or http to this very machine.

    RFC 6749 section 3.2 asks for TLS; RFC 8252 section 8.3 knows the loopback exception. A URL with characters that it
    may not have (RFC 3986 section 2) is none: a backslash ends the host for what connects, and not for what checks.
    """
    if _NOT_IN_URLS.search(url):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    return parts.scheme == "http" and is_loopback(host)


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` names this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
