"""Client authentication: exactly one method a request (RFC 6749 section 2.3), and the forms that it goes with."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from airflow_oauth_provider.oauth2 import assertions, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.discovery import assertion_audience
from airflow_oauth_provider.oauth2.redaction import is_public_parameter
from airflow_oauth_provider.oauth2.transport import HttpResponse, encode_form, exchange

Parameters = Sequence[tuple[str, str]]

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
    _assert(client, parameters, sign(client, _claims(client), "auth_method 'private_key_jwt'"))


def client_secret_jwt(client: Client, parameters: list[tuple[str, str]], _: dict[str, str]) -> None:
    """Send a JWT with a MAC by the client's secret (OpenID Connect Core section 9), made anew for each attempt."""
    _assert(client, parameters, assertions.sign_with_secret(_claims(client), client.client_secret or ""))


def sign(client: Client, claims: Mapping[str, Any], purpose: str) -> str:
    """Return ``claims`` as a JWT signed by the client's key.

    :param purpose: the setting that wants it, for the error.
    :raises NotConnected: there is no key, or one that cannot sign.
    """
    if client.signing_key is None:
        raise errors.NotConnected(f"{purpose} has no private key", lasting=True)
    try:
        return assertions.sign(claims, client.signing_key)
    except assertions.BadKeyError as error:
        raise errors.NotConnected(f"the private key {error}", lasting=True) from None


def _claims(client: Client) -> dict[str, object]:
    return assertions.make_claims(client.client_id, client.client_id, assertion_audience(client))


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


def authenticate(client: Client, fields: list[tuple[str, str]], headers: dict[str, str]) -> None:
    """Add the client's authentication to a request that is about to be sent.

    :param client: who asks.
    :param fields: the parameters of the request; changed in place.
    :param headers: its header fields; changed in place.
    :raises NotConnected: the client has no key for its method, or no endpoint to name as audience.
    """
    METHODS[client.auth_method](client, fields, headers)


def ask(client: Client, url: str, fields: list[tuple[str, str]]) -> HttpResponse:
    """POST ``fields`` and the client's authentication to one of the endpoints beside the token endpoint.

    :param client: who asks.
    :param url: the endpoint.
    :param fields: the parameters of the request; the client's authentication is added in place.
    :raises NotConnected: the server has seen nothing of the request.
    :raises LostResponse: it may have.
    """
    headers = {"Accept": "application/json"}
    authenticate(client, fields, headers)
    return post_form(client, url, fields, headers)


def post_form(client: Client, url: str, fields: Parameters, headers: Mapping[str, str]) -> HttpResponse:
    """POST ``fields`` as a form in UTF-8 (RFC 6749 appendix B).

    :param client: whose transport is used.
    :param url: an endpoint of the authorization server.
    :param fields: the form.
    :param headers: header fields beside ``Content-Type``.
    :raises NotConnected: the server has seen nothing of the request.
    :raises LostResponse: it may have.
    """
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    return exchange(client.transport, "POST", url, form, encode_form(fields).encode("ascii"))


def request_secrets(client: Client, fields: Iterable[tuple[str, str]]) -> list[str]:
    """Return what a request holds that must not come back in an error text."""
    values = [value for name, value in fields if not is_public_parameter(name)]
    sent = [*client.dialect.parameters.values(), *client.dialect.headers.values()]
    secret = [client.client_secret] if client.client_secret else []
    return [*values, *(value for value in sent if len(value) >= 8), *secret]
