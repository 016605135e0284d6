"""Ask the authorization server what a token is good for (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.discovery import find_endpoint
from airflow_oauth_provider.oauth2.response_body import read_members, say
from airflow_oauth_provider.oauth2.times import parse_date, read_server_time
from airflow_oauth_provider.oauth2.token_response import parse_error_response


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


def introspect(client: Client, token: str, kind: str = "access_token") -> Introspection:
    """Ask about a token.

    :param client: who asks.
    :param token: the token.
    :param kind: ``access_token`` or ``refresh_token``, sent as ``token_type_hint``.
    :raises OAuth2ProtocolError: when there is no response to the question.
    """
    fields = [("token", token), ("token_type_hint", kind)]
    url = client.introspection_url or find_endpoint(client, "introspection_endpoint")
    response = client_auth.ask(client, url, fields)
    if response.status != 200:
        raise parse_error_response(response, client_auth.request_secrets(client, fields))
    members = read_members(response)
    active = members.get("active")
    if not isinstance(active, bool):
        raise errors.UnexpectedResponse(
            say(response, "the response does not say whether the token is active"), status=200
        )
    if not active:
        return Introspection(False)
    scope = members.get("scope")
    return Introspection(
        active,
        parse_date(members.get("exp"), server_now=read_server_time(response.headers)),
        scope if isinstance(scope, str) and scope else None,
        members,
    )
