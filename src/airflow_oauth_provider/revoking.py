"""End a grant, or an access token alone, at the authorization server (RFC 7009)."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from airflow_oauth_provider import advice, lineage
from airflow_oauth_provider.account import AccountSource, Snapshot
from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    MalformedAnswer,
    OAuth2Error,
    StaleVersion,
    StoreUnavailable,
    TokenRequestError,
)
from airflow_oauth_provider.oauth2 import errors, revocation
from airflow_oauth_provider.stores.record import DeadGrant, Record, fingerprint

log = logging.getLogger(__name__)

#: What can be revoked.
KINDS = ("refresh_token", "access_token")


def revoke(source: AccountSource, kind: str) -> bool:
    """Revoke the current token of a connection.

    :param source: reads the connection.
    :param kind: ``refresh_token``, which ends the grant, or ``access_token``.
    :return: False where there was no such token.
    :raises ConfigurationError: when the server refuses, or offers no revocation.
    :raises TokenRequestError: when it could not be asked for now: the token still exists.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"revoke() takes one of {', '.join(KINDS)}, not {kind!r}.")
    snapshot = source.load()
    account = snapshot.account
    record = lineage.current(account, snapshot.record)
    token = record.refresh_token if kind == "refresh_token" else record.access_token
    if not token:
        log.info("Connection %r has no %s to revoke", account.conn_id, kind.replace("_", " "))
        return False
    try:
        revocation.revoke(account.client, token, kind)
    except errors.ErrorAnswer as refusal:
        raise advice.configuration_error(account, refusal) from None
    except errors.OAuth2ProtocolError as failure:
        raise _failed(account.conn_id, failure) from None
    log.info("Connection %r: revoked its %s", account.conn_id, kind.replace("_", " "))
    if kind == "refresh_token":
        _bury(snapshot, record)
    return True


def _failed(conn_id: str, failure: errors.OAuth2ProtocolError) -> OAuth2Error:
    message = f"Connection {conn_id!r}: {failure}"
    if isinstance(failure, errors.NotConnected) and failure.lasting:
        return ConfigurationError(f"{message}. Enter the server's revocation endpoint under 'revocation_url'.")
    if isinstance(failure, errors.MalformedAnswer):
        return MalformedAnswer(message)
    wait = failure.retry_after if isinstance(failure, errors.ServerFailure) else None
    asked = "" if wait is None else f" after {wait:.0f} s, as the server asks"
    return TokenRequestError(f"{message}. The token still exists; a retry may succeed{asked}.")


def _bury(snapshot: Snapshot, record: Record) -> None:
    """Write down that the grant has ended, so that no worker asks for a token in vain."""
    if record.lease is not None:
        return  # somebody is refreshing, and will be told by the server
    dead = DeadGrant(fingerprint(record.refresh_token) or "", "revoked", time.time(), "It was revoked on purpose.")
    try:
        snapshot.store.write(replace(record, access_token=None, dead=dead), if_version=snapshot.version)
    except (StaleVersion, StoreUnavailable) as failure:
        log.warning(
            "Connection %r: could not write down that its grant has ended: %s", snapshot.account.conn_id, failure
        )
