"""One POST to the token endpoint and what came of it (RFC 6749 section 3.2). Retries are not made here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

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
    url = client.token_url or discover(client.issuer, client.transport).token_endpoint
    fields = [(name, value) for name, value in parameters if value]
    headers = {"Accept": "application/json"}
    client_auth.METHODS[client.auth_method](client, fields, headers)
    answer = post_form(client, url, fields, headers)
    return parse_token_answer(answer, _secrets_of(client, fields))


def post_form(client: Client, url: str, fields: Parameters, headers: Mapping[str, str]) -> HttpAnswer:
    """POST ``fields`` as a form in UTF-8.

    :param client: whose transport is used.
    :param url: an endpoint of the authorization server.
    :param fields: the form.
    :param headers: header fields beside ``Content-Type``.
    :raises NotConnected: the server has seen nothing of the request.
    :raises LostAnswer: it may have.
    """
    body = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields)
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    return exchange(client.transport, "POST", url, form, body.encode("ascii"))


def _secrets_of(client: Client, fields: Iterable[tuple[str, str]]) -> list[str]:
    shown = {"grant_type", "scope", "client_id", "audience", "resource"}
    values = [value for name, value in fields if name not in shown]
    return [*values, *([client.client_secret] if client.client_secret else [])]
