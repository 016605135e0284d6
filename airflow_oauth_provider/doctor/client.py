"""The client: whether the authorization server accepts its ID and its secret."""

from __future__ import annotations

import secrets
from dataclasses import replace

from airflow_oauth_provider.doctor import server
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.dialect import STANDARD_CODES
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.tokens import messages
from airflow_oauth_provider.tokens.configuration import GrantConfiguration

CHECK = "client"


def check(report: Report, configuration: GrantConfiguration, allowed: bool) -> None:
    """Ask the server about the client with a made-up refresh token; it refuses that, and nothing is spent.

    :param report: what was found so far.
    :param configuration: the connection; one that fetches its tokens by a callback or another grant is passed by.
    :param allowed: the connection's ``test_client``.
    """
    unreachable = report.has_failed(server.DISCOVERY, server.ENDPOINT)
    if configuration.callback or not configuration.rotates or unreachable:
        return
    if not allowed:
        report.warn(CHECK, "client ID and client secret are not checked: 'test_client' is false", "")
        return
    try:
        known = check_client(configuration.client)
    except errors.InvalidRequestResponse as refusal:
        report.warn(CHECK, f"whether the server accepts the client is not known: {refusal}")
    except errors.ErrorResponse as refusal:
        change = "" if refusal.code in STANDARD_CODES else "Is that the address of a token endpoint?"
        report.fail(CHECK, str(messages.configuration_error(configuration, refusal)), change)
    except errors.UnexpectedResponse as failure:
        report.fail(
            CHECK,
            f"{failure}: a token endpoint refuses a made-up refresh token with an OAuth error",
            "Check the address of the token endpoint in the vendor's documentation.",
        )
    except errors.NotConnected as failure:
        report.fail(CHECK, str(failure), "Check the address, the network, the proxy and the certificates.")
    except errors.OAuth2ProtocolError as failure:
        report.warn(CHECK, f"whether the server accepts the client is not known now: {failure}", "Try again later.")
    else:
        if known:
            report.ok(CHECK, "the server accepts the client (it refused a made-up refresh token, nothing was spent)")
        else:
            report.warn(CHECK, "the server gives tokens for made-up refresh tokens, so it does not check the client")


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
