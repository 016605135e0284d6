"""Whether the authorization server knows the client, found out without spending anything."""

from __future__ import annotations

import secrets
from dataclasses import replace

from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.token_endpoint import request_token


def check_client(client: Client) -> bool:
    """Ask for a refresh with a refresh token that was made up, and see what the server dislikes about it.

    A server authenticates the client before it looks at the refresh token (RFC 6749 section 6). So ``invalid_grant``
    says that the client is right, and ``invalid_client`` that it is wrong (section 5.2).

    :param client: whom to check.
    :return: True: the server knows the client. False: it gave a token for a refresh token that it never issued, and
        that says nothing of the client.
    :raises OAuth2ProtocolError: every other answer; see :mod:`airflow_oauth_provider.oauth2.errors`.
    """
    made_up = secrets.token_urlsafe(32)
    try:
        request_token(replace(client, introspects=False), [("grant_type", "refresh_token"), ("refresh_token", made_up)])
    except errors.InvalidGrantResponse:
        return True
    return False
