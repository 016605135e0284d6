"""Who asks: the client as it is registered with the authorization server (RFC 6749 section 2), and how to talk to that.

A server may depart from RFC 6749 in what it takes and in what it answers: its dialect. The defaults are the RFC's own
rules. Everything else is stated by a connection or by a preset, never guessed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow_oauth_provider.oauth2.assertions import SigningKey

#: What a ``response_map`` can place.
PLACEABLE = (
    "access_token", "refresh_token", "expires_in", "expires_at", "token_type", "scope", "refresh_expires_in",
    "error", "error_description",
)  # fmt: skip
#: The codes of RFC 6749 (sections 4.1.2.1 and 5.2) and RFC 8707 to which a vendor's code can amount.
STANDARD_CODES = (
    "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "unauthorized_client",
    "unsupported_grant_type", "server_error", "temporarily_unavailable",
)  # fmt: skip
#: Token types of RFC 6750, and its misspelling by a widespread gateway; compared without regard to case.
BEARER_TYPES = ("bearer", "bearertoken")


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
class ErrorMark:
    """What tells an error from a token where the status does not.

    :param path: JSONPath of a value; ``$`` is the body's text.
    :param pattern: regular expression that the value, written as in JSON but without quotes, matches.
    """

    path: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """One server's way.

    :param request_format: where parameters go: ``form``, ``json`` or ``query``. The last one puts secrets into a URL,
        against RFC 6749 section 2.3.1; it is for servers that take nothing else.
    :param parameters: added to each token request; they win over the grant's own of the same name, and an empty
        value leaves that one out.
    :param parameter_names: the server's names for parameters, by their standard names.
    :param headers: added to each token request.
    :param paths: JSONPaths by the names in :data:`PLACEABLE`.
    :param milliseconds: whether lifetimes are in milliseconds.
    :param default_expires_in: seconds that an access token lives where the response does not say.
    :param accepted_types: values of ``token_type`` with which a token is used; empty: any, for a connection that says
        itself how the token is to be sent.
    :param error_codes: codes of RFC 6749 by the vendor's own.
    :param error_mark: tells an error inside a success.
    :param scope_separator: what stands between scopes.
    """

    request_format: str = "form"
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    parameter_names: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    paths: Mapping[str, str] = field(default_factory=dict)
    milliseconds: bool = False
    default_expires_in: float | None = None
    accepted_types: tuple[str, ...] = BEARER_TYPES
    error_codes: Mapping[str, str] = field(default_factory=dict)
    error_mark: ErrorMark | None = None
    scope_separator: str = " "

    def translate(self, fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return ``fields`` as the server wants them; what is empty is left out (RFC 6749 section 3.2).

        :param fields: parameters by their standard names, client authentication included.
        """
        given = dict(self.parameters)
        fields = [*((name, value) for name, value in fields if name not in given), *given.items()]
        return [
            (self.parameter_names.get(name, name), self._scope(value) if name == "scope" else value)
            for name, value in fields
            if value
        ]

    def accepts(self, token_type: str) -> bool:
        """Tell whether a token of this type may be used (RFC 6749 section 7.1); case does not matter."""
        return not self.accepted_types or token_type.lower() in {kind.lower() for kind in self.accepted_types}

    def read_scope(self, scope: str) -> str:
        """Return a scope as answered, space-delimited."""
        return scope if self.scope_separator == " " else " ".join(scope.replace(self.scope_separator, " ").split())

    def _scope(self, scope: str) -> str:
        return scope if self.scope_separator == " " else self.scope_separator.join(scope.split())


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
