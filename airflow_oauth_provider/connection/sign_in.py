"""A person's sign-in, for the command and the page: where it happens, and how its tokens reach the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from airflow_oauth_provider.compat import connections, masking
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.connection.notices import handle_event
from airflow_oauth_provider.connection.presets import find_presets
from airflow_oauth_provider.connection.settings import SignIn, read_settings
from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2 import authorization_code, device, errors
from airflow_oauth_provider.oauth2.client import is_secure
from airflow_oauth_provider.oauth2.discovery import discover
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.oauth2.token_endpoint import request_token
from airflow_oauth_provider.oauth2.token_response import TokenResponse
from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.configuration import ConfigurationSource, GrantConfiguration
from airflow_oauth_provider.tokens.events import GrantEvent
from airflow_oauth_provider.tokens.record import Record

log = logging.getLogger(__name__)

#: How often the write is tried again while workers change the record, or the store is away.
ATTEMPTS = 8
#: Seconds before the next try.
PAUSE = 1.0
#: Asks for a refresh token. Microsoft and others never list it among the granted scopes.
_REFRESH_SCOPE = "offline_access"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the sign-in happens.

    :param authorize_url: the authorization endpoint; empty: not known.
    :param device_authorize_url: the device authorization endpoint; empty: not known.
    :param issuer_required: whether the server says that its answers name the issuer (RFC 9207 section 3).
    """

    authorize_url: str
    device_authorize_url: str
    issuer_required: bool = False


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is known before a person signs in.

    :param source: reads the connection.
    :param configuration: the connection, with the scope that the sign-in asks for.
    :param sign_in: what the connection says about signing in.
    :param endpoints: where it happens.
    """

    source: ConfigurationSource
    configuration: GrantConfiguration
    sign_in: SignIn
    endpoints: Endpoints


def prepare(conn_id: str, scope: str = "") -> Preparation:
    """Read the connection, and find out where its sign-in happens.

    :param scope: what to ask for; empty: the connection's scope, and what its vendor wants for a refresh token.
    :raises OAuth2Error: it cannot be read, is wrong, or nobody signs in for it.
    """
    found = connections.find_connection(conn_id)
    source = ConnectionLoader(conn_id, first=found)
    configuration = source.load().configuration  # also proves, before anybody signs in, that the store can be read
    check_grant(configuration)
    sign_in = read_settings(conn_id, found.connection).sign_in
    scope = scope or sign_in.complete_scope(configuration.options.scope)
    configuration = replace(configuration, options=replace(configuration.options, scope=scope))
    return Preparation(source, configuration, sign_in, find_endpoints(configuration, sign_in))


def begin(prepared: Preparation, redirect_uri: str) -> authorization_code.Pending:
    """Make the authorization request (RFC 6749 section 4.1.1).

    :param redirect_uri: where the browser is to come back to, as registered.
    :raises ConfigurationError: the server's authorization endpoint is not known.
    """
    if not prepared.endpoints.authorize_url:
        other = "Or sign in on another device (authorize --device)."
        raise _missing_endpoint(prepared.configuration, "authorize_url", other)
    return authorization_code.begin(
        prepared.configuration.client,
        prepared.endpoints.authorize_url,
        redirect_uri,
        prepared.configuration.options,
        prepared.sign_in.parameters,
        issuer_required=prepared.endpoints.issuer_required,
    )


def begin_device(prepared: Preparation) -> device.DeviceAuthorization:
    """Ask for the codes with which a person signs in on another device (RFC 8628 section 3.1).

    :raises ConfigurationError: the server's device authorization endpoint is not known.
    :raises OAuth2ProtocolError: the server gives no codes.
    """
    configuration, url = prepared.configuration, prepared.endpoints.device_authorize_url
    if not url:
        raise _missing_endpoint(configuration, "device_authorize_url", "Or sign in with a browser (without --device).")
    return device.begin(configuration.client, url, configuration.options)


def _missing_endpoint(configuration: GrantConfiguration, key: str, other: str) -> ConfigurationError:
    issuer = configuration.client.issuer
    why = f"its issuer {show_url(issuer)} publishes none" if issuer else "it has no issuer to ask"
    return ConfigurationError(
        f"there is no {key!r} in its extra, and {why}. Enter the address from the vendor's "
        f"documentation{_remedy(configuration)}. {other}",
        conn_id=configuration.conn_id,
    )


def _remedy(configuration: GrantConfiguration) -> str:
    """Name the provider or issuer that could replace the one address that the connection has."""
    client = configuration.client
    names = find_presets(client.token_url) if client.token_url else []
    if names:
        return f", or set its 'provider' to {' or '.join(map(repr, names))} and leave 'oauth_url' empty"
    if client.issuer or not client.token_url:
        return ""
    url = urlsplit(client.token_url)
    origin = f"{url.scheme}://{url.netloc}"
    try:
        is_issuer = discover(origin, client.transport).token_endpoint == client.token_url
    except errors.OAuth2ProtocolError:
        return ""
    return f", or set its 'issuer' to {origin!r}" if is_issuer else ""


def find_endpoints(configuration: GrantConfiguration, sign_in: SignIn) -> Endpoints:
    """Return where a person signs in: what the connection says, else what the issuer publishes (RFC 8414).

    :raises ConfigurationError: the issuer publishes nothing, or not what it should.
    """
    members: Mapping[str, Any] = {}
    if configuration.client.issuer:
        try:
            members = discover(configuration.client.issuer, configuration.client.transport).members
        except errors.NotConnected as failure:
            raise ConfigurationError(str(failure), conn_id=configuration.conn_id) from None

    def find_published(name: str) -> str:
        value = members.get(name)
        if not isinstance(value, str) or not value:
            return ""
        if not is_secure(value):
            raise ConfigurationError(
                f"the issuer {show_url(configuration.client.issuer)} publishes the {name} "
                f"{show_url(value)}, which is no https URL. Ask the vendor, or enter the right one in the connection.",
                conn_id=configuration.conn_id,
            )
        return value

    return Endpoints(
        sign_in.authorize_url or find_published("authorization_endpoint"),
        sign_in.device_authorize_url or find_published("device_authorization_endpoint"),
        members.get("authorization_response_iss_parameter_supported") is True,
    )


def check_grant(configuration: GrantConfiguration) -> None:
    """Refuse a connection whose tokens no person signs in for.

    :raises ConfigurationError: it is one.
    """
    if not configuration.rotates:
        raise ConfigurationError(
            f"its grant_type is {configuration.grant_type!r}, for which nobody signs in: its tokens are fetched at "
            "first use. To use a person's grant, set grant_type to 'refresh_token'.",
            conn_id=configuration.conn_id,
        )


def redeem(
    configuration: GrantConfiguration, pending: authorization_code.Pending, code: str
) -> tuple[TokenResponse, float]:
    """Redeem an authorization code (RFC 6749 section 4.1.3).

    :param pending: the sign-in that the code belongs to.
    :return: the tokens, and when they were asked for, in seconds since the epoch.
    :raises OAuth2ProtocolError: the server does not give them.
    """
    masking.mask_secret(code)
    sent_at = time.time()
    parameters = authorization_code.redeem(pending, code, configuration.options.resources)
    return request_token(configuration.client, parameters), sent_at


def keep(prepared: Preparation, answer: TokenResponse, sent_at: float, actor: str = "") -> tuple[Record, str]:
    """Write the tokens of a sign-in to the connection's store, in place of whatever it holds.

    :param prepared: of :func:`prepare`.
    :param sent_at: seconds since the epoch when they were asked for.
    :param actor: who signed in, for the grant's history.
    :return: the record, and the kind of store that has it.
    :raises ConfigurationError: there is no refresh token, or the store is not what everybody reads.
    :raises StoreUnavailable: the store did not take it.
    """
    source = prepared.source
    for secret in (answer.access_token, answer.refresh_token):
        masking.mask_secret(secret)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            snapshot = source.load()
            configuration = snapshot.configuration
            if not answer.refresh_token:
                raise _no_refresh_token(configuration.conn_id, prepared.sign_in.refresh_scope)
            old = precedence.current(configuration, snapshot.record)
            was_dead = precedence.is_dead(configuration, old)
            new = precedence.record_sign_in(old, answer, sent_at, actor)
            snapshot.store.write(new, if_version=snapshot.version)
            _check_in_use(source, new)
        except (StaleVersion, StoreUnavailable) as failure:
            log.info("The tokens are not written yet: %s", failure)
            last = failure
        else:
            for kind in ("signed_in", *(["works_again"] if was_dead else [])):
                handle_event(GrantEvent(kind, configuration.conn_id, time.time(), actor))
            return new, snapshot.store.name
    raise StoreUnavailable(f"The store did not take the new tokens ({last}). Mend it and sign in again.")


def compare_scopes(configuration: GrantConfiguration, record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the scopes that were granted, and those that were asked for and not granted.

    Both are empty where the server did not say what it granted (RFC 6749 section 5.1).
    """
    granted = set((record.scope or "").replace(",", " ").split())  # GitHub and Slack separate them by commas
    asked = set(configuration.options.scope.split())
    asked.discard(_REFRESH_SCOPE)
    missing = (scope for scope in asked if not any(_is_same_scope(scope, other) for other in granted))
    return tuple(sorted(granted)), tuple(sorted(missing)) if granted else ()


def _is_same_scope(asked: str, granted: str) -> bool:
    """Compare two scopes; vendors also write one as a URL: ``Mail.Read``, ``https://graph.microsoft.com/Mail.Read``."""
    short, long = sorted((asked, granted), key=len)
    name = long.rpartition("/")[2] if "://" in long else long
    # Google grants "https://www.googleapis.com/auth/userinfo.email" to who asks for "email" (OpenID Connect).
    return short in (long, name) or (name != long and name == f"userinfo.{short}")


def _check_in_use(source: ConfigurationSource, new: Record) -> None:
    """Read again what was written, as a worker would."""
    seen = source.load()
    current = precedence.current(seen.configuration, seen.record)
    if current.generation < new.generation:
        raise StoreNotWritable(
            "the tokens were written, but what is read is something else. "
            "Is there an environment variable or a secrets backend in front of the store?",
            conn_id=seen.configuration.conn_id,
        )


def _no_refresh_token(conn_id: str, refresh_scope: str) -> ConfigurationError:
    wanted = (
        f"This vendor wants the scope {refresh_scope!r} for it, which was asked for"
        if refresh_scope
        else "Many servers want the scope 'offline_access' for it"
    )
    return ConfigurationError(
        f"the server gave an access token but no refresh token, so nothing was kept. {wanted}; "
        "Google wants authorize_params 'access_type=offline, prompt=consent'; else allow the grant 'refresh_token' for "
        "this client at the server.",
        conn_id=conn_id,
    )
