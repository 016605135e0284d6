"""Where a client's requests go: as the connection says, else as the issuer's metadata says."""

from __future__ import annotations

from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client, is_secure
from airflow_oauth_provider.oauth2.discovery import discover
from airflow_oauth_provider.oauth2.redaction import show_url


def token_endpoint(client: Client, *, refreshing: bool = False) -> str:
    """Return the token endpoint.

    :param client: the client.
    :param refreshing: whether a refresh is to go there.
    :raises NotConnected: there is none to be found.
    """
    entered = (client.refresh_url if refreshing else "") or client.token_url
    return entered or found(client, "token_endpoint")


def found(client: Client, name: str) -> str:
    """Return an endpoint by its name in the metadata (RFC 8414 section 2).

    With a client certificate, the one of ``mtls_endpoint_aliases`` comes first, for each endpoint by itself
    (RFC 8705 section 5).

    :raises NotConnected: the server does not publish it.
    """
    if client.issuer:
        members = discover(client.issuer, client.transport).members
        aliases = members.get("mtls_endpoint_aliases")
        if client.transport.cert and isinstance(aliases, dict) and _is_usable(aliases.get(name)):
            return str(aliases[name])
        if _is_usable(members.get(name)):
            return str(members[name])
        raise errors.NotConnected(f"{show_url(client.issuer)} publishes no {name}", lasting=True)
    raise errors.NotConnected(
        f"the connection names neither the {name} nor an issuer by which to find it", lasting=True
    )


def audience(client: Client) -> str:
    """Return whom an assertion is for (RFC 7523 section 3): the token endpoint, the issuer, or what was entered."""
    if client.assertion_audience == "issuer":
        return client.issuer
    return client.assertion_audience or client.token_url or discover(client.issuer, client.transport).token_endpoint


def _is_usable(url: object) -> bool:
    return isinstance(url, str) and is_secure(url)
