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

_ENCODINGS: dict[str, Callable[[str], str]] = {
    "percent": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "raw": str,
}


def authenticate(client: Client, fields: list[tuple[str, str]], headers: dict[str, str]) -> None:
    """Add the client's authentication to a request that is about to be sent; assertions are new for each attempt.

    :param client: who asks.
    :param fields: the parameters of the request; changed in place.
    :param headers: its header fields; changed in place.
    :raises NotConnected: the client has no key for its method, or no endpoint to name as audience.
    """
    if client.auth_method == "client_secret_basic":
        headers["Authorization"] = _make_basic(client)
        return
    fields.append(("client_id", client.client_id))
    match client.auth_method:
        case "client_secret_post":  # RFC 6749 section 2.3.1
            fields += [("client_secret", client.client_secret)] if client.client_secret else []
        case "private_key_jwt" | "client_secret_jwt":
            fields += [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", _make_assertion(client))]
        case "none" | "tls_client_auth" | "self_signed_tls_client_auth":
            pass  # the certificate, if any, speaks for the client that the id names (RFC 8705 section 2)
        case unknown:
            raise ValueError(f"There is no client authentication {unknown!r}")


def _make_basic(client: Client) -> str:
    """Return HTTP Basic; id and secret are percent-encoded first (RFC 6749 section 2.3.1).

    The RFC asks for form encoding, whose ``+`` for a space some servers do not decode; every server that decodes
    anything decodes ``%20``, so nothing is left unescaped but letters, digits and ``_.-~``. For servers that decode
    nothing, or only forms, a connection can say so.
    """
    encode = _ENCODINGS[client.basic_encoding]
    pair = f"{encode(client.client_id)}:{encode(client.client_secret or '')}"
    return f"Basic {b64encode(pair.encode()).decode('ascii')}"


def _make_assertion(client: Client) -> str:
    """Return a JWT signed with the client's key (RFC 7523 section 2.2) or secret (OpenID Connect Core section 9)."""
    claims = assertions.make_claims(client.client_id, client.client_id, assertion_audience(client))
    if client.auth_method == "private_key_jwt":
        return sign(client, claims, "auth_method 'private_key_jwt'")
    return assertions.sign_with_secret(claims, client.client_secret or "")


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
