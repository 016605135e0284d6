"""The device authorization grant: the person signs in on another device (RFC 8628)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.grants import GrantOptions
from airflow_oauth_provider.oauth2.redaction import make_printable
from airflow_oauth_provider.oauth2.response_body import make_error, read_members
from airflow_oauth_provider.oauth2.times import parse_lifetime
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.oauth2.token_response import TokenResponse, parse_error_response

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
#: Seconds between two polls where the server does not say (RFC 8628 section 3.2).
DEFAULT_INTERVAL = 5.0
#: Seconds by which the interval grows with each ``slow_down`` (RFC 8628 section 3.5).
SLOWER_BY = 5.0
#: The least and the most that is believed of an interval, in seconds.
MIN_INTERVAL, MAX_INTERVAL = 1.0, 300.0
#: The longest that is waited for the person, in seconds, whatever lifetime the server gives the code.
MAX_WAIT = 1800.0


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """What the server says about a sign-in on another device (RFC 8628 section 3.2).

    :param device_code: for the token endpoint only.
    :param user_code: what the person enters, fit for a terminal.
    :param verification_uri: where, a web address fit for a terminal.
    :param verification_uri_complete: the same with the code in it; empty where the server gives none.
    :param expires_in: seconds until the codes run out.
    :param interval: seconds between two polls.
    """

    device_code: str = field(repr=False)
    user_code: str = ""
    verification_uri: str = ""
    verification_uri_complete: str = ""
    expires_in: float = 600.0
    interval: float = DEFAULT_INTERVAL


def begin(client: Client, url: str, options: GrantOptions) -> DeviceAuthorization:
    """Ask for a pair of codes (RFC 8628 section 3.1); the client authenticates as at the token endpoint.

    :param client: who asks.
    :param url: the device authorization endpoint.
    :param options: scope and resources.
    :raises OAuth2ProtocolError: for everything but a pair of codes.
    """
    fields = [(name, value) for name, value in options.parameters() if value]
    if client.auth_method == "client_secret_basic":
        fields.append(("client_id", client.client_id))  # section 3.1 wants it; with Basic some servers do, too
    response = client_auth.ask(client, url, fields)
    if not 200 <= response.status < 300:
        raise parse_error_response(response, client_auth.request_secrets(client, fields))
    members = read_members(response)
    uri = members.get("verification_uri") or members.get("verification_url")  # Google's spelling
    device_code, user_code = members.get("device_code"), members.get("user_code")
    if not (isinstance(device_code, str) and isinstance(user_code, str) and isinstance(uri, str)):
        what = "a device_code, a user_code or a verification_uri is missing"
        raise make_error(response, what)
    if not _is_web_address(uri):
        raise make_error(response, "the verification_uri is no web address")
    complete = members.get("verification_uri_complete")
    interval = _read_seconds(members.get("interval"), DEFAULT_INTERVAL)
    return DeviceAuthorization(
        device_code,
        make_printable(user_code, limit=64),
        make_printable(uri, limit=500),
        make_printable(complete, limit=500) if isinstance(complete, str) and _is_web_address(complete) else "",
        _read_seconds(members.get("expires_in"), 600.0),
        min(max(interval, MIN_INTERVAL), MAX_INTERVAL),
    )


def wait(
    client: Client,
    authorization: DeviceAuthorization,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> TokenResponse:
    """Poll the token endpoint until the person has signed in (RFC 8628 sections 3.4 and 3.5).

    :param client: who asks.
    :param authorization: what :func:`begin` gave.
    :param sleep: waits so many seconds.
    :param clock: tells elapsed seconds.
    :raises ErrorResponse: the person refused (``access_denied``), or was too slow (``expired_token``).
    :raises OAuth2ProtocolError: the token endpoint failed for good.
    """
    interval = authorization.interval
    ends = clock() + min(authorization.expires_in, MAX_WAIT)
    while clock() + interval <= ends:
        sleep(interval)
        answer = poll(client, authorization.device_code, interval)
        if not isinstance(answer, float):
            return answer
        interval = answer
    raise errors.ErrorResponse("Nobody signed in before the code ran out", code="expired_token")


def poll(client: Client, device_code: str, interval: float) -> TokenResponse | float:
    """Ask the token endpoint once (RFC 8628 sections 3.4 and 3.5).

    :param client: who asks.
    :param device_code: of :func:`begin`.
    :param interval: seconds since the last poll.
    :return: the tokens; or the seconds until the next poll, where the person has not signed in yet.
    :raises ErrorResponse: the person refused (``access_denied``), or was too slow (``expired_token``).
    :raises OAuth2ProtocolError: the token endpoint failed for good.
    """
    try:
        return request_token(client, [("grant_type", GRANT_TYPE), ("device_code", device_code)])
    except errors.NotConnected as failure:
        if failure.lasting:
            raise
        return interval * 2  # section 3.5: back off when the connection times out
    except (errors.LostResponse, errors.NonceRequired):
        return interval * 2
    except errors.ServerFailure as failure:
        return max(interval + SLOWER_BY, failure.retry_after or 0.0)  # slow_down among them
    except errors.ErrorResponse as refusal:
        if refusal.code != "authorization_pending":
            raise
        return interval


def _is_web_address(text: str) -> bool:
    """Tell whether a person may be sent there: what follows ``javascript:`` or ``file:`` is not the server's page."""
    return text[:8].lower().startswith(("https://", "http://"))


def _read_seconds(value: object, default: float) -> float:
    seconds = parse_lifetime(value)
    return default if seconds is None or seconds >= 86400 else seconds
