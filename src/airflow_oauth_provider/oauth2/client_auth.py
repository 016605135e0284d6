"""How the client proves who it is to the token endpoint: exactly one method a request (RFC 6749 section 2.3)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from airflow_oauth_provider.oauth2.client import Client

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


METHODS: dict[str, ClientAuthentication] = {
    "client_secret_basic": client_secret_basic,
    "client_secret_post": client_secret_post,
    "none": public_client,
}
