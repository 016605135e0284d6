"""The authorization-code grant for a client on a person's machine: PKCE, state and issuer (RFC 6749 section 4.1).

Two pure steps around what the person does in the browser: :func:`begin` gives the address to open, and
:func:`accept` takes the code out of the address that the browser was sent back to. Nothing is sent from here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from airflow_oauth_provider.oauth2 import dpop, errors
from airflow_oauth_provider.oauth2.assertions import encode_base64url
from airflow_oauth_provider.oauth2.client import Client, is_secure
from airflow_oauth_provider.oauth2.grants import GrantOptions
from airflow_oauth_provider.oauth2.redaction import redact, show_url
from airflow_oauth_provider.oauth2.transport import add_query


class NotOurs(errors.OAuth2ProtocolError):
    """What came to the redirect URI does not belong to this sign-in: its ``state`` is another (RFC 6749 10.12)."""


class WrongIssuer(errors.OAuth2ProtocolError):
    """The response comes from another authorization server than was asked (RFC 9207 section 2.4)."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign-in that waits for the person.

    :param url: the address to open in a browser.
    :param redirect_uri: where the browser is sent back to.
    :param state: what the response has to carry (RFC 6749 section 4.1.1).
    :param verifier: what proves to the token endpoint that the code is redeemed by whoever asked for it (RFC 7636).
    :param issuer: the authorization server, where it is known.
    :param issuer_required: whether the server says that its answers name it (RFC 9207 section 3).
    """

    url: str
    redirect_uri: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    issuer: str = ""
    issuer_required: bool = False


def begin(
    client: Client,
    authorize_url: str,
    redirect_uri: str,
    options: GrantOptions,
    parameters: Mapping[str, str] | None = None,
    *,
    issuer_required: bool = False,
) -> Pending:
    """Make an authorization request (RFC 6749 section 4.1.1) with PKCE by SHA-256 (RFC 7636 section 4).

    Where tokens are to be bound to a key, it names the key (RFC 9449 section 10).

    :param client: who asks. Its issuer, where set, is what the response's ``iss`` is held against.
    :param authorize_url: the authorization endpoint.
    :param redirect_uri: where the browser is to come back to, as registered.
    :param options: scope, audience and resources.
    :param parameters: what else the server wants, such as Google's ``access_type=offline``.
    :param issuer_required: the server's ``authorization_response_iss_parameter_supported``.
    :raises NotConnected: the endpoint is no https URL: a browser would carry out ``javascript:``, or open a file.
    """
    if not is_secure(authorize_url) or urlsplit(authorize_url).fragment:
        raise errors.NotConnected(
            f"the authorization endpoint {show_url(authorize_url)} is no https URL, so no browser is sent there",
            lasting=True,
        )
    verifier = secrets.token_urlsafe(48)
    state = secrets.token_urlsafe(24)
    own = [
        ("response_type", "code"),
        ("client_id", client.client_id),
        ("redirect_uri", redirect_uri),
        ("state", state),
        ("code_challenge", encode_base64url(hashlib.sha256(verifier.encode()).digest())),
        ("code_challenge_method", "S256"),
        # RFC 9449 section 10: then the code is good only for whoever has the key.
        ("dpop_jkt", dpop.get_prover(client.dpop_key).thumbprint if client.dpop_key else ""),
    ]
    ours = {"request", *dict(own)}
    fields = [*own, *options.parameters(), *(pair for pair in (parameters or {}).items() if pair[0] not in ours)]
    url = add_query(authorize_url, [(name, value) for name, value in fields if value])
    return Pending(url, redirect_uri, state, verifier, client.issuer, issuer_required)


def accept(pending: Pending, url: str) -> str:
    """Return the authorization code out of the address that the browser was sent back to (RFC 6749 section 4.1.2).

    :param pending: the sign-in.
    :param url: that address, or its query alone.
    :raises NotOurs: the response belongs to another sign-in.
    :raises WrongIssuer: it comes from another server.
    :raises ErrorResponse: the server, or the person, refused.
    :raises UnexpectedResponse: it is no response at all.
    """
    query = urlsplit(url).query if "?" in url else url
    pairs = parse_qsl(query, keep_blank_values=True)
    response = dict(pairs)
    # First of all: nothing of a response that is not ours means anything.
    if not hmac.compare_digest(response.get("state", "").encode(), pending.state.encode()):
        raise NotOurs("The response does not belong to this sign-in: its state is another.")
    if len(response) != len(pairs):
        raise errors.UnexpectedResponse("The response has a parameter twice (RFC 6749 section 3.1).", status=0)
    issuer = response.get("iss")
    if pending.issuer and issuer != pending.issuer and (issuer is not None or pending.issuer_required):
        named = f"names the issuer {show_url(issuer)}" if issuer else "names no issuer"
        raise WrongIssuer(f"The response {named}, where {show_url(pending.issuer)} was asked (RFC 9207).")
    if "error" in response:
        raise _refusal(response)
    if not response.get("code"):
        raise errors.UnexpectedResponse("The response has neither a code nor an error.", status=0)
    return response["code"]


def redeem(pending: Pending, code: str, resources: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the parameters of the token request (RFC 6749 section 4.1.3).

    :param pending: the sign-in.
    :param code: what :func:`accept` gave.
    :param resources: where the token is to be used (RFC 8707 section 2.2).
    """
    return [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", pending.redirect_uri),
        ("code_verifier", pending.verifier),
        *(("resource", resource) for resource in resources),
    ]


def _refusal(response: Mapping[str, str]) -> errors.OAuth2ProtocolError:
    code = redact(response["error"], limit=60)
    description = redact(response.get("error_description", ""))
    said = f"{code} ({description})" if description else code
    return errors.ErrorResponse(f"The sign-in was refused: {said}", code=code, description=description, status=0)
