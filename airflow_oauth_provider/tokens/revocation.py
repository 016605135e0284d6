"""End a grant, or an access token alone, at the authorization server (RFC 7009)."""

from __future__ import annotations

import logging
from dataclasses import replace

from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    MalformedResponse,
    OAuth2Error,
    StaleVersion,
    StoreUnavailable,
    TokenRequestError,
    name_connection,
)
from airflow_oauth_provider.oauth2 import client_auth, errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.discovery import find_endpoint
from airflow_oauth_provider.oauth2.token_response import parse_error_response
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.clock import Backoff, Clock, SystemClock
from airflow_oauth_provider.tokens.configuration import ConfigurationSource, GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.lease import LeaseWatch
from airflow_oauth_provider.tokens.record import DeadGrant, Record, fingerprint

log = logging.getLogger(__name__)

#: What can be revoked.
KINDS = ("refresh_token", "access_token")
#: How many times a grant is revoked anew because another worker has rotated its refresh token meanwhile.
MAX_ATTEMPTS = 5


def revoke(source: ConfigurationSource, kind: str, clock: Clock | None = None, actor: str = "") -> bool:
    """Revoke the current token of a connection.

    A server says yes to a refresh token that was rotated away, too, and does nothing (RFC 7009 section 2.2). So nothing
    is revoked while another worker refreshes, and what it has brought by then is revoked as well.

    :param kind: ``refresh_token``, which ends the grant, or ``access_token``.
    :param clock: waits, and tells when the grant ended.
    :param actor: who revokes, for the history.
    :return: False where there was no such token.
    :raises ConfigurationError: when the server refuses, or offers no revocation.
    :raises TokenRequestError: when it could not be asked for now: the token still exists.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"revoke() takes one of {', '.join(KINDS)}, not {kind!r}.")
    clock = clock or SystemClock()
    for _ in range(MAX_ATTEMPTS):
        snapshot, record = _at_rest(source, clock)
        if not _revoke(snapshot.configuration, record, kind):
            return False
        if kind == "access_token" or _record_end(snapshot, record, clock.now(), actor):
            return True
    raise TokenRequestError(
        "other workers kept refreshing, and the newest refresh token "
        "may still work. Pause the DAGs that use it, and try again.",
        conn_id=snapshot.configuration.conn_id,
    )


def _at_rest(source: ConfigurationSource, clock: Clock) -> tuple[Snapshot, Record]:
    """Return connection and record as they are when nobody refreshes."""
    watch, pauses = LeaseWatch(clock), Backoff(clock, first=0.1)
    while True:
        snapshot = source.load()
        record = precedence.current(snapshot.configuration, snapshot.record)
        if record.lease is None or watch.is_over(record.lease):
            return snapshot, record
        pauses.wait()


def _revoke(configuration: GrantConfiguration, record: Record, kind: str) -> bool:
    token = record.refresh_token if kind == "refresh_token" else record.access_token
    if not token:
        log.info("Connection %r has no %s to revoke", configuration.conn_id, kind.replace("_", " "))
        return False
    try:
        request_revocation(configuration.client, token, kind)
    except errors.ErrorResponse as refusal:
        raise messages.configuration_error(configuration, refusal) from None
    except errors.OAuth2ProtocolError as failure:
        raise _explain(configuration.conn_id, failure) from None
    log.info("Connection %r: revoked its %s", configuration.conn_id, kind.replace("_", " "))
    return True


def _explain(conn_id: str, failure: errors.OAuth2ProtocolError) -> OAuth2Error:
    message = name_connection(conn_id, str(failure))
    if isinstance(failure, errors.NotConnected) and failure.lasting:
        return ConfigurationError(f"{message}. Enter the server's revocation endpoint under 'revocation_url'.")
    if isinstance(failure, errors.UnexpectedResponse):
        return MalformedResponse(message)
    wait = failure.retry_after if isinstance(failure, errors.ServerFailure) else None
    asked = "" if wait is None else f" after {wait:.0f} s, as the server asks"
    return TokenRequestError(f"{message}. The token still exists; a retry may succeed{asked}.")


def _record_end(snapshot: Snapshot, record: Record, now: float, actor: str) -> bool:
    """Write down that the grant has ended, so that no worker asks for a token in vain.

    :return: False where another worker has written since: perhaps a token that still works.
    """
    dead = DeadGrant(fingerprint(record.refresh_token) or "", "revoked", now, "It was revoked on purpose.")
    ended = replace(record, access_token=None, dead=dead, lease=None).with_event(now, "revoked", actor)
    try:
        snapshot.store.write(ended, if_version=snapshot.version)
    except StaleVersion:
        return False
    except StoreUnavailable as failure:
        log.warning(
            "Connection %r: could not write down that its grant has ended: %s", snapshot.configuration.conn_id, failure
        )
    return True


def request_revocation(client: Client, token: str, kind: str) -> None:
    """Revoke a token. A server answers 200 for one that it does not know, too: it is of no use either way.

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
