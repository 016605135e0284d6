"""Tell the authorization server that a token is of no more use (RFC 7009)."""

from __future__ import annotations

from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.discovery import find_endpoint
from airflow_oauth_provider.oauth2.response_parser import parse_error_response


def revoke(client: Client, token: str, kind: str) -> None:
    """Revoke a token. A server answers 200 for one that it does not know, too: it is of no use either way.

    :param client: who asks.
    :param token: an access token or a refresh token; with the latter the whole grant ends, on most servers.
    :param kind: ``access_token`` or ``refresh_token``, sent as ``token_type_hint``.
    :raises ServerFailure: the token still exists (RFC 7009 section 2.2.1), and so does what came with it.
    :raises OAuth2ProtocolError: for everything else but success.
    """
    fields = [("token", token), ("token_type_hint", kind)]
    url = client.revocation_url or find_endpoint(client, "revocation_endpoint")
    response = client_auth.ask(client, url, fields)
    if not 200 <= response.status < 300:
        failure = parse_error_response(response, client_auth.request_secrets(client, fields))
        if isinstance(failure, errors.ErrorResponse) and failure.code == "unsupported_token_type":
            raise errors.ErrorResponse(
                f"{failure}: the server does not revoke a token of this kind", code=failure.code, status=failure.status
            ) from None
        raise failure
