"""How the client proves who it is to the token endpoint: exactly one method a request (RFC 6749 section 2.3)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from airflow_oauth_provider.oauth2 import assertions, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.endpoints import audience

#: RFC 7523 section 2.2.
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

#: Changes the parameters and the headers of a token request that is about to be sent.
ClientAuthentication = Callable[[Client, list[tuple[str, str]], dict[str, str]], None]


_ENCODINGS: dict[str, Callable[[str], str]] = {
    "percent": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "raw": str,
}


def client_secret_basic(client: Client, _: list[tuple[str, str]], headers: dict[str, str]) -> None:
    """HTTP Basic; id and secret are percent-encoded first (RFC 6749 section 2.3.1).

    The RFC asks for form encoding, whose ``+`` for a space some servers do not decode; every server that decodes
    anything decodes ``%20``, so nothing is left unescaped but letters, digits and ``_.-~``. For servers that decode
    nothing, or only forms, a connection can say so.
    """
    encode = _ENCODINGS[client.basic_encoding]
    pair = f"{encode(client.client_id)}:{encode(client.client_secret or '')}"
    headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode('ascii')}"


def client_secret_post(client: Client, parameters: list[tuple[str, str]], _: dict[str, str]) -> None:
    """Id and secret in the body (RFC 6749 section 2.3.1)."""
    parameters.append(("client_id", client.client_id))
    if client.client_secret:
        parameters.append(("client_secret", client.client_secret))


def public_client(client: Client, parameters: list[tuple[str, str]], _: dict[str, str]) -> None:
    """Only the id, for a client that has no secret (RFC 6749 section 3.2.1)."""
    parameters.append(("client_id", client.client_id))


def private_key_jwt(client: Client, parameters: list[tuple[str, str]], _: dict[str, str]) -> None:
    """Send a JWT signed by the client's key (RFC 7523 section 2.2), made anew for each attempt."""
    if client.signing_key is None:
        raise errors.NotConnected("auth_method 'private_key_jwt' has no private key", lasting=True)
    try:
        _assert(client, parameters, assertions.sign(_claims(client), client.signing_key))
    except assertions.BadKeyError as error:
        raise errors.NotConnected(f"the private key {error}", lasting=True) from None


def client_secret_jwt(client: Client, parameters: list[tuple[str, str]], _: dict[str, str]) -> None:
    """Send a JWT with a MAC by the client's secret (OpenID Connect Core section 9), made anew for each attempt."""
    _assert(client, parameters, assertions.sign_by_secret(_claims(client), client.client_secret or ""))


def _claims(client: Client) -> dict[str, object]:
    return assertions.claims(client.client_id, client.client_id, audience(client))


def _assert(client: Client, parameters: list[tuple[str, str]], assertion: str) -> None:
    parameters += [
        ("client_id", client.client_id),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ]


METHODS: dict[str, ClientAuthentication] = {
    "client_secret_basic": client_secret_basic,
    "client_secret_post": client_secret_post,
    "private_key_jwt": private_key_jwt,
    "client_secret_jwt": client_secret_jwt,
    # The certificate speaks for the client; the id says for which one (RFC 8705 section 2).
    "tls_client_auth": public_client,
    "self_signed_tls_client_auth": public_client,
    "none": public_client,
}
