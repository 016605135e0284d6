"""Find an authorization server's endpoints by its issuer (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client, Transport, is_secure
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.oauth2.response_body import decode_text, parse_json
from airflow_oauth_provider.oauth2.transport import HttpResponse, exchange

#: Seconds for which metadata is remembered in a process.
REMEMBER = 3600.0
#: How many documents are remembered at a time.
MAX_REMEMBERED = 64

# By all that decides whether the document can be trusted: metadata that came without a check of certificates, or by
# somebody's proxy, would lead the secrets of another connection elsewhere.
_Way = tuple[object, ...]
_known: dict[_Way, tuple[float, Metadata]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a client needs of an authorization server's metadata (RFC 8414 section 2).

    :param issuer: exactly the issuer that was asked for.
    :param token_endpoint: where tokens are to be had.
    :param members: the whole document.
    """

    issuer: str
    token_endpoint: str
    members: dict[str, Any]


def discover(issuer: str, transport: Transport) -> Metadata:
    """Return the metadata of ``issuer``.

    :param issuer: an https URL without query and fragment.
    :param transport: how the request travels.
    :raises NotConnected: no metadata was to be had, or what came is not the issuer's: nothing of it is used.
    """
    way = (issuer, *transport.trust)
    with _lock:
        until, known = _known.get(way, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
    metadata = _fetch(issuer, transport)
    with _lock:
        while len(_known) >= MAX_REMEMBERED and way not in _known:
            del _known[next(iter(_known))]
        _known[way] = time.monotonic() + REMEMBER, metadata
    return metadata


def well_known_urls(issuer: str) -> list[str]:
    """Return where the metadata may be: RFC 8414 puts the well-known part before the path, OpenID Connect after it."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    paths = (
        f"/.well-known/oauth-authorization-server{path}",
        f"{path}/.well-known/openid-configuration",
        f"/.well-known/openid-configuration{path}",
    )
    return list(dict.fromkeys(urlunsplit((parts.scheme, parts.netloc, found, "", "")) for found in paths))


def token_endpoint(client: Client, *, refreshing: bool = False) -> str:
    """Return the token endpoint.

    :param client: the client.
    :param refreshing: whether a refresh is to go there.
    :raises NotConnected: there is none to be found.
    """
    entered = (client.refresh_url if refreshing else "") or client.token_url
    return entered or find_endpoint(client, "token_endpoint")


def find_endpoint(client: Client, name: str) -> str:
    """Return an endpoint by its name in the metadata (RFC 8414 section 2).

    With a client certificate, the one of ``mtls_endpoint_aliases`` comes first, for each endpoint by itself
    (RFC 8705 section 5).

    :raises NotConnected: the server does not publish it.
    """
    if not client.issuer:
        what = f"the connection names neither the {name} nor an issuer by which to find it"
        raise errors.NotConnected(what, lasting=True)
    members = discover(client.issuer, client.transport).members
    aliases = members.get("mtls_endpoint_aliases") if client.transport.cert else None
    for places in (aliases, members):
        url = places.get(name) if isinstance(places, dict) else None
        if isinstance(url, str) and is_secure(url):
            return url
    raise errors.NotConnected(f"{show_url(client.issuer)} publishes no {name}", lasting=True)


def assertion_audience(client: Client) -> str:
    """Return whom an assertion is for (RFC 7523 section 3): the token endpoint, the issuer, or what was entered."""
    if client.assertion_audience == "issuer":
        return client.issuer
    return client.assertion_audience or client.token_url or discover(client.issuer, client.transport).token_endpoint


def _fetch(issuer: str, transport: Transport) -> Metadata:
    last: HttpResponse | None = None
    for url in well_known_urls(issuer):
        try:
            last = exchange(transport, "GET", url, {"Accept": "application/json"})
        except (errors.LostResponse, errors.UnexpectedResponse) as failure:
            # Nothing was spent by asking, so it does not matter whether the server has seen the request.
            raise errors.NotConnected(str(failure)) from None
        if last.status == 200:
            return _read_metadata(issuer, last)
        if last.status == 429 or last.status >= 500:
            raise errors.NotConnected(f"{last.endpoint} answered {last.status}: no metadata for now")
    status = last.status if last else 0
    raise errors.NotConnected(
        f"{show_url(issuer)} publishes no metadata (answer {status}): check the issuer, or enter the token endpoint",
        lasting=True,
    )


def _read_metadata(issuer: str, response: HttpResponse) -> Metadata:
    try:
        members = parse_json(decode_text(response))
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise errors.NotConnected(f"{response.endpoint} answered 200, but with no metadata", lasting=True)
    # RFC 8414 section 3.3: a document that names another issuer must not be used. Not normalised: exactly the same.
    if members.get("issuer") != issuer:
        named = show_url(str(members.get("issuer", "")))
        raise errors.NotConnected(
            f"{response.endpoint} names another issuer ({named}) than the connection ({show_url(issuer)}); enter it "
            "exactly as the server does, a slash at its end included",
            lasting=True,
        )
    endpoint = members.get("token_endpoint")
    if not isinstance(endpoint, str) or not is_secure(endpoint):
        raise errors.NotConnected(f"{response.endpoint} names no https token endpoint", lasting=True)
    return Metadata(issuer, endpoint, members)
