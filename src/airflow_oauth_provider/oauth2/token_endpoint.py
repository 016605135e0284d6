"""One POST to the token endpoint and what came of it (RFC 6749 section 3.2). Retries are not made here."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.answers import parse_token_answer
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.endpoints import token_endpoint
from airflow_oauth_provider.oauth2.forms import Parameters, encoded, post_form, secrets_of
from airflow_oauth_provider.oauth2.http import HttpAnswer, exchange
from airflow_oauth_provider.oauth2.introspection import introspect
from airflow_oauth_provider.oauth2.tokens import TokenAnswer

log = logging.getLogger(__name__)

#: Seconds that asking for a lifetime may take.
LONGEST_INTROSPECTION = 5.0


def request_token(client: Client, parameters: Parameters) -> TokenAnswer:
    """Ask for a token, once.

    :param client: who asks, and where.
    :param parameters: the grant's own parameters, without client authentication; empty values are left out, as
        the RFC reads them as omitted.
    :raises OAuth2ProtocolError: for everything but a token; see :mod:`airflow_oauth_provider.oauth2.errors`.
    """
    dialect = client.dialect
    fields = list(parameters)
    headers = {"Accept": "application/json", **dialect.headers}
    client_auth.METHODS[client.auth_method](client, fields, headers)
    secrets = secrets_of(client, fields)
    url = token_endpoint(client, refreshing=("grant_type", "refresh_token") in fields)
    answer = _send(client, url, dialect.spoken(fields), headers)
    token = parse_token_answer(answer, secrets, dialect)
    return _with_lifetime(client, token) if client.introspects and token.expires_in is None else token


def _with_lifetime(client: Client, token: TokenAnswer) -> TokenAnswer:
    """Ask for the lifetime that the answer left out. A token is in hand: no failure here may lose it."""
    # The time of a lease is meant for the request, so not much of it is spent on this.
    transport = replace(client.transport, timeout=min(client.transport.timeout, LONGEST_INTROSPECTION))
    try:
        known = introspect(replace(client, transport=transport), token.access_token)
    except errors.OAuth2ProtocolError as failure:
        log.warning("The lifetime of the new access token stays unknown: %s", failure)
        return token
    return replace(token, expires_in=known.expires_in, scope=token.scope or known.scope)


def _send(client: Client, url: str, fields: Parameters, headers: Mapping[str, str]) -> HttpAnswer:
    """Send ``fields`` in the format that the server takes; always by POST (RFC 6749 section 3.2)."""
    match client.dialect.request_format:
        case "json":
            body = json.dumps(_as_object(fields)).encode()
            return exchange(client.transport, "POST", url, {**headers, "Content-Type": "application/json"}, body)
        case "query":
            separator = "&" if urlsplit(url).query else "?"
            return exchange(client.transport, "POST", f"{url}{separator}{encoded(fields)}", headers, b"")
        case _:
            return post_form(client, url, fields, headers)


def _as_object(fields: Parameters) -> dict[str, str | list[str]]:
    """Return ``fields`` as JSON wants them: what stands more than once (``resource``) becomes a list."""
    members: dict[str, str | list[str]] = {}
    for name, value in fields:
        before = members.get(name)
        if before is None:
            members[name] = value
        else:
            members[name] = [*(before if isinstance(before, list) else [before]), value]
    return members
