"""Ask the authorization server what a token is good for (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.bodies import read_members, say
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.endpoints import found
from airflow_oauth_provider.oauth2.form_encoding import post_form, secrets_of
from airflow_oauth_provider.oauth2.lifetimes import parse_date
from airflow_oauth_provider.oauth2.response_parser import parse_error_answer
from airflow_oauth_provider.oauth2.transport import server_time


@dataclass(frozen=True, slots=True)
class Introspection:
    """What the server says of a token (RFC 7662 section 2.2).

    :param active: whether it works. False says nothing more, and is an answer, not an error.
    :param expires_in: seconds that it still lives; None where the server does not say.
    :param scope: space-delimited; None where the server does not say.
    :param members: the whole answer.
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
    :raises OAuth2ProtocolError: when there is no answer to the question.
    """
    fields = [("token", token), ("token_type_hint", kind)]
    headers = {"Accept": "application/json"}
    client_auth.METHODS[client.auth_method](client, fields, headers)
    url = client.introspection_url or found(client, "introspection_endpoint")
    answer = post_form(client, url, fields, headers)
    if answer.status != 200:
        raise parse_error_answer(answer, secrets_of(client, fields))
    members = read_members(answer)
    active = members.get("active")
    if not isinstance(active, bool):
        raise errors.MalformedResponse(say(answer, "the answer does not say whether the token is active"), status=200)
    if not active:
        return Introspection(False)
    scope = members.get("scope")
    return Introspection(
        active,
        parse_date(members.get("exp"), server_now=server_time(answer)),
        scope if isinstance(scope, str) and scope else None,
        members,
    )
