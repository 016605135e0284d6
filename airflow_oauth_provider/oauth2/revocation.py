"""Tell the authorization server that a token is of no more use (RFC 7009)."""

from __future__ import annotations

from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.endpoints import found
from airflow_oauth_provider.oauth2.form_encoding import post_form, secrets_of
from airflow_oauth_provider.oauth2.response_parser import parse_error_answer


def revoke(client: Client, token: str, kind: str) -> None:
    """Revoke a token. A server answers 200 for one that it does not know, too: it is of no use either way.

    :param client: who asks.
    :param token: an access token or a refresh token; with the latter the whole grant ends, on most servers.
    :param kind: ``access_token`` or ``refresh_token``, sent as ``token_type_hint``.
    :raises ServerFailure: the token still exists (RFC 7009 section 2.2.1), and so does what came with it.
    :raises OAuth2ProtocolError: for everything else but success.
    """
    fields = [("token", token), ("token_type_hint", kind)]
    headers = {"Accept": "application/json"}
    client_auth.METHODS[client.auth_method](client, fields, headers)
    answer = post_form(client, client.revocation_url or found(client, "revocation_endpoint"), fields, headers)
    if not 200 <= answer.status < 300:
        failure = parse_error_answer(answer, secrets_of(client, fields))
        if isinstance(failure, errors.ErrorResponse) and failure.code == "unsupported_token_type":
            raise errors.ErrorResponse(
                f"{failure}: the server does not revoke a token of this kind", code=failure.code, status=failure.status
            ) from None
        raise failure
