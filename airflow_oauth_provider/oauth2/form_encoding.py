"""Requests to an authorization server as forms in UTF-8 (RFC 6749 appendix B)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.transport import HttpResponse, exchange

Parameters = Sequence[tuple[str, str]]


def post_form(client: Client, url: str, fields: Parameters, headers: Mapping[str, str]) -> HttpResponse:
    """POST ``fields`` as a form in UTF-8.

    :param client: whose transport is used.
    :param url: an endpoint of the authorization server.
    :param fields: the form.
    :param headers: header fields beside ``Content-Type``.
    :raises NotConnected: the server has seen nothing of the request.
    :raises LostResponse: it may have.
    """
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    return exchange(client.transport, "POST", url, form, encoded(fields).encode("ascii"))


def encoded(fields: Parameters) -> str:
    """Return ``fields`` percent-encoded, with nothing safe but letters, digits and ``_.-~``."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields)


def secrets_of(client: Client, fields: Iterable[tuple[str, str]]) -> list[str]:
    """Return what a request holds that must not come back in an error text."""
    shown = {"grant_type", "scope", "client_id", "audience", "resource", "token_type_hint", "client_assertion_type"}
    values = [value for name, value in fields if name not in shown]
    sent = [*client.dialect.parameters.values(), *client.dialect.headers.values()]
    return [
        *values,
        *(value for value in sent if len(value) >= 8),
        *([client.client_secret] if client.client_secret else []),
    ]
