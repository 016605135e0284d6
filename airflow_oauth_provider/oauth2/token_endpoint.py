"""A request to the token endpoint and what came of it (RFC 6749 section 3.2), with its lifetime (RFC 7662).

Retries are not made here, but for one: a response that only says what nonce a proof needs is the first half of an
exchange whose second half follows at once (RFC 9449 section 8).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_oauth_provider.oauth2 import client_auth, deadline, dpop, errors
from airflow_oauth_provider.oauth2.assertions import BadKeyError
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.client_auth import Parameters, post_form, request_secrets
from airflow_oauth_provider.oauth2.discovery import find_endpoint, token_endpoint
from airflow_oauth_provider.oauth2.response_body import make_error, read_members
from airflow_oauth_provider.oauth2.times import parse_date, read_server_time
from airflow_oauth_provider.oauth2.token_response import TokenResponse, parse_error_response, parse_token_response
from airflow_oauth_provider.oauth2.transport import HttpResponse, add_query, exchange

log = logging.getLogger(__name__)

#: How long finding the endpoint, asking for a token, and asking again with a nonce may take, in timeouts: with the
#: write after it, that has to fit into a lease.
LONGEST_REQUEST = 1.5
#: Seconds that asking for a lifetime may take.
LONGEST_INTROSPECTION = 5.0


@dataclass(frozen=True, slots=True)
class Introspection:
    """What the server says of a token (RFC 7662 section 2.2).

    :param active: whether it works. False says nothing more, and is a response, not an error.
    :param expires_in: seconds that it still lives; None where the server does not say.
    :param scope: space-delimited; None where the server does not say.
    :param members: the whole response.
    """

    active: bool
    expires_in: float | None = None
    scope: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict, repr=False)


def introspect(client: Client, token: str) -> Introspection:
    """Ask what an access token is good for (RFC 7662).

    :param client: who asks.
    :param token: the token.
    :raises OAuth2ProtocolError: when there is no response to the question.
    """
    fields = [("token", token), ("token_type_hint", "access_token")]
    url = client.introspection_url or find_endpoint(client, "introspection_endpoint")
    response = client_auth.ask(client, url, fields)
    if response.status != 200:
        raise parse_error_response(response, request_secrets(client, fields))
    members = read_members(response)
    active = members.get("active")
    if not isinstance(active, bool):
        raise make_error(response, "the response does not say whether the token is active")
    if not active:
        return Introspection(False)
    scope = members.get("scope")
    return Introspection(
        active,
        parse_date(members.get("exp"), server_now=read_server_time(response.headers)),
        scope if isinstance(scope, str) and scope else None,
        members,
    )


def request_token(client: Client, parameters: Parameters) -> TokenResponse:
    """Ask for a token, once.

    :param client: who asks, and where.
    :param parameters: the grant's own parameters, without client authentication; empty values are left out, as
        the RFC reads them as omitted.
    :raises OAuth2ProtocolError: for everything but a token; see :mod:`airflow_oauth_provider.oauth2.errors`.
    """
    with deadline.within(client.transport.timeout * LONGEST_REQUEST):
        token = _token(client, parameters)
    return _with_lifetime(client, token) if client.introspects and token.expires_in is None else token


def _token(client: Client, parameters: Parameters) -> TokenResponse:
    prover = _prover(client)
    dialect = client.dialect if prover is None else replace(client.dialect, accepted_types=(dpop.TOKEN_TYPE,))
    began = time.monotonic()
    response, secrets, again = _ask(client, parameters, prover)
    if again:
        _check_repeatable(response, parameters)
        # The time of a lease is meant for one request, so the second half of this one gets what the first has left.
        timeout = client.transport.timeout
        left = max(timeout - (time.monotonic() - began), timeout / 2)
        hurried = replace(client, transport=replace(client.transport, timeout=left))
        response, secrets, again = _ask(hurried, parameters, prover)
        if again:
            raise errors.NonceRequired(f"{response.endpoint} wants another nonce in each proof that it is sent")
    return parse_token_response(response, secrets, dialect)


def _ask(client: Client, parameters: Parameters, prover: dpop.Prover | None) -> tuple[HttpResponse, list[str], bool]:
    """Send one request, with an assertion and a proof of its own.

    :return: the response, what must not show, and whether the response only says what nonce the proof needs.
    """
    dialect = client.dialect
    fields = list(parameters)
    headers = {"Accept": "application/json", **dialect.headers}
    client_auth.authenticate(client, fields, headers)
    url = token_endpoint(client, refreshing=("grant_type", "refresh_token") in fields)
    if prover is not None:
        headers[dpop.HEADER] = prover.proof("POST", url)
    response = _send(client, url, dialect.translate(fields), headers)
    has_nonce = prover is not None and prover.take_nonce(url, response.headers, api=False)
    return response, request_secrets(client, fields), has_nonce and _wants_nonce(response)


def _prover(client: Client) -> dpop.Prover | None:
    try:
        return None if client.dpop_key is None else dpop.get_prover(client.dpop_key)
    except BadKeyError as error:
        raise errors.NotConnected(f"the key of the proofs {error}", lasting=True) from None


def _wants_nonce(response: HttpResponse) -> bool:
    """Tell whether the server refuses the proof for want of its nonce (RFC 9449 section 8)."""
    try:
        return 400 <= response.status < 500 and read_members(response).get("error") == dpop.USE_NONCE
    except errors.UnexpectedResponse:
        return False


def _check_repeatable(response: HttpResponse, parameters: Parameters) -> None:
    """Leave it to the caller to make an assertion anew: a server may take one only once (RFC 7523 section 3)."""
    if any(name == "assertion" for name, _ in parameters):
        raise errors.NonceRequired(f"{response.endpoint} wants its nonce in the proof")


def _with_lifetime(client: Client, token: TokenResponse) -> TokenResponse:
    """Ask for the lifetime that the response left out. The token is there by then: no failure here may lose it."""
    # The time of a lease is meant for the request, so not much of it is spent on this.
    transport = replace(client.transport, timeout=min(client.transport.timeout, LONGEST_INTROSPECTION))
    try:
        known = introspect(replace(client, transport=transport), token.access_token)
    except Exception as failure:  # noqa: BLE001 - whatever goes wrong, the token has been paid for
        reason = failure if isinstance(failure, errors.OAuth2ProtocolError) else type(failure).__name__
        log.warning("The lifetime of the new access token stays unknown: %s", reason)
        return token
    return replace(token, expires_in=known.expires_in, scope=token.scope or known.scope)


def _send(client: Client, url: str, fields: Parameters, headers: Mapping[str, str]) -> HttpResponse:
    """Send ``fields`` in the format that the server takes; always by POST (RFC 6749 section 3.2)."""
    match client.dialect.request_format:
        case "json":
            body = json.dumps(_as_object(fields)).encode()
            return exchange(client.transport, "POST", url, {**headers, "Content-Type": "application/json"}, body)
        case "query":
            return exchange(client.transport, "POST", add_query(url, fields), headers, b"")
        case _:
            return post_form(client, url, fields, headers)


def _as_object(fields: Parameters) -> dict[str, str | list[str]]:
    """Return ``fields`` as JSON wants them: what stands more than once (``resource``) becomes a list."""
    members: dict[str, list[str]] = {}
    for name, value in fields:
        members.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in members.items()}
