"""One POST to the token endpoint and what came of it (RFC 6749 section 3.2). Retries are not made here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, urlsplit

from airflow_oauth_provider.oauth2 import client_auth
from airflow_oauth_provider.oauth2.answers import parse_token_answer
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.discovery import discover
from airflow_oauth_provider.oauth2.http import HttpAnswer, exchange
from airflow_oauth_provider.oauth2.tokens import TokenAnswer

Parameters = Sequence[tuple[str, str]]


def request_token(client: Client, parameters: Parameters) -> TokenAnswer:
    """Ask for a token, once.

    :param client: who asks, and where.
    :param parameters: the grant's own parameters, without client authentication; empty values are left out, as
        the RFC reads them as omitted.
    :raises OAuth2ProtocolError: for everything but a token; see :mod:`airflow_oauth_provider.oauth2.errors`.
    """
    dialect = client.dialect
    fields = [(name, value) for name, value in parameters if value]
    headers = {"Accept": "application/json", **dialect.headers}
    client_auth.METHODS[client.auth_method](client, fields, headers)
    secrets = _secrets_of(client, fields)
    answer = _send(client, _endpoint(client, parameters), dialect.spoken(fields), headers)
    return parse_token_answer(answer, secrets, dialect)


def post_form(client: Client, url: str, fields: Parameters, headers: Mapping[str, str]) -> HttpAnswer:
    """POST ``fields`` as a form in UTF-8.

    :param client: whose transport is used.
    :param url: an endpoint of the authorization server.
    :param fields: the form.
    :param headers: header fields beside ``Content-Type``.
    :raises NotConnected: the server has seen nothing of the request.
    :raises LostAnswer: it may have.
    """
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    return exchange(client.transport, "POST", url, form, _encoded(fields).encode("ascii"))


def _endpoint(client: Client, parameters: Parameters) -> str:
    if client.refresh_url and ("grant_type", "refresh_token") in parameters:
        return client.refresh_url
    return client.token_url or discover(client.issuer, client.transport).token_endpoint


def _send(client: Client, url: str, fields: Parameters, headers: Mapping[str, str]) -> HttpAnswer:
    """Send ``fields`` in the format that the server takes; always by POST (RFC 6749 section 3.2)."""
    match client.dialect.request_format:
        case "json":
            body = json.dumps(_as_object(fields)).encode()
            return exchange(client.transport, "POST", url, {**headers, "Content-Type": "application/json"}, body)
        case "query":
            separator = "&" if urlsplit(url).query else "?"
            return exchange(client.transport, "POST", f"{url}{separator}{_encoded(fields)}", headers, b"")
        case _:
            return post_form(client, url, fields, headers)


def _encoded(fields: Parameters) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields)


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


def _secrets_of(client: Client, fields: Iterable[tuple[str, str]]) -> list[str]:
    shown = {"grant_type", "scope", "client_id", "audience", "resource"}
    values = [value for name, value in fields if name not in shown]
    sent = [*client.dialect.parameters.values(), *client.dialect.headers.values()]
    return [
        *values,
        *(value for value in sent if len(value) >= 8),
        *([client.client_secret] if client.client_secret else []),
    ]
