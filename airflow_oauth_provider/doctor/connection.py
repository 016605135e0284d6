"""What is read: the connection, what it says, its store, and the tokens in it."""

from __future__ import annotations

import time
from typing import Any

from airflow_oauth_provider.compat import connections, deployment, sdk
from airflow_oauth_provider.compat.extra_json import GUARD_MEMBER, NotAnObjectError, is_guarded
from airflow_oauth_provider.connection.extra import Extra, nearest_key
from airflow_oauth_provider.connection.fields import CONN_TYPE, FIELDS
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.connection.settings import Settings, read_settings
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    StaleVersion,
    StoreError,
    StoreNotWritable,
    StoreUnavailable,
)
from airflow_oauth_provider.stores.connection import key_in_extra
from airflow_oauth_provider.stores.fallback import open_fallback
from airflow_oauth_provider.stores.record_route import RecordRoute
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.record import Record, TokenStore, fingerprint
from airflow_oauth_provider.tokens.sealing import fallback_key

# The names of the checks.
CONNECTION = "connection"
KEYS = "keys"
STORE = "store"
ROUTE = "API server"
FALLBACK = "fallback store"
GRANT = "grant"
ACCESS = "access token"
REFRESH = "refresh"

#: Days before its end from which on a refresh token is warned about.
SOON = 7
#: A version that no record has.
_NOBODYS = "0" * 64


def look_up(report: Report) -> Any | None:
    """Find the connection and say where it comes from; None where it cannot be read."""
    conn_id = report.conn_id
    try:
        found = connections.find_connection(conn_id)
    except sdk.AirflowNotFoundException:
        report.fail(
            CONNECTION,
            f"{conn_id!r} is not defined here",
            "Define it. Tasks may have other environment variables and secrets backends than this command: run it "
            "where they run.",
        )
        return None
    except (ConfigurationError, StoreUnavailable) as failure:
        is_away = isinstance(failure, StoreUnavailable)
        change = "Mend that place, or take it out of Airflow's configuration." if is_away else ""
        report.fail(CONNECTION, str(failure), change)
        return None
    report.ok(CONNECTION, f"{conn_id!r} comes from {found.place or 'the metadata database'}")
    connection = found.connection
    _check_guard(report, connection.extra)
    if connection.conn_type != CONN_TYPE:
        change = f"Set its type to {CONN_TYPE!r}: the form has its fields."
        report.fail(CONNECTION, f"it is of type {connection.conn_type!r}", change)
        return None
    return connection


def _check_guard(report: Report, extra: str | None) -> None:
    """Warn where stock hooks would send the keys of ``extra``, secrets among them, as headers."""
    try:
        guarded = not extra or is_guarded(extra)
    except NotAnObjectError:
        return  # said with the keys
    if not guarded:
        report.warn(
            CONNECTION,
            "its extra does not begin with a guard, so HttpSensor, HttpOperator(deferrable=True) and other stock "
            "classes that are given this connection send its keys, secrets among them, to the API as headers",
            f'Write "{GUARD_MEMBER}": {{}} as the first member of extra; the API server does that in each row when it '
            "starts with this package, or when the connection is saved.",
        )


def read_keys(report: Report, connection: Any | None) -> Settings | None:
    """Check each key of ``extra`` by itself; return the settings, None where they cannot be used.

    :param connection: what :func:`look_up` found; None: nothing is checked.
    """
    if connection is None:
        return None
    conn_id = report.conn_id
    try:
        extra = Extra(conn_id, connection.extra, {"host": connection.host})
    except ConfigurationError as error:
        report.fail(KEYS, str(error))
        return None
    wrong = False
    for row in FIELDS:
        try:
            extra.get(row.key)
        except ConfigurationError as error:
            wrong = True
            report.fail(KEYS, str(error), row.help)
    for key in extra.unknown:
        near = nearest_key(key)
        change = f"Did you mean {near!r}?" if near else "Take it out. An API header belongs into the key 'headers'."
        report.warn(KEYS, f"the key {key!r} of its extra means nothing here", change)
    if wrong:
        return None
    try:
        settings = read_settings(conn_id, connection)
    except ConfigurationError as error:
        report.refuse(KEYS, error)
        return None
    if settings.transport.verify is False:
        text = "verify is false: anybody on the way can read and change what is sent, tokens included"
        report.warn(KEYS, text, "Set verify to true, or to the path of your CA's certificates.")
    if not settings.base_url:
        report.warn(KEYS, "there is no host: operators need the whole URL of each call", "Enter the API's base URL.")
    return settings


def read_store(report: Report, settings: Settings) -> Snapshot | None:
    """Open and read the store; None where that fails."""
    try:
        snapshot = ConnectionLoader(report.conn_id).load()
    except (ConfigurationError, StoreError) as failure:
        report.refuse(STORE if isinstance(failure, StoreError | StoreNotWritable) else KEYS, failure)
        return None
    report.ok(KEYS, "every key of its extra has a value that can be used")
    name = snapshot.store.name
    chosen = " (that is what 'auto' stands for here)" if settings.store_options.store == "auto" else ""
    report.ok(STORE, f"the store {name!r}{chosen} can be read")
    if name == "variable" and sdk.AIRFLOW_V_3_0_PLUS:
        report.warn(
            STORE,
            "tasks of Airflow 3 cannot replace a variable only if it is unchanged",
            "Give all tasks that use the connection a pool with one slot; or define it in Airflow's metadata database, "
            "which keeps the tokens in its own row; or choose the store 'vault'.",
        )
        if not (settings.keys.secrets or deployment.fernet_keys()):
            report.warn(
                STORE,
                "Airflow 3 logs what tasks write into variables, and this connection has no secret to seal tokens with",
                "Set Airflow's Fernet key ([core] fernet_key), or choose another store.",
            )
    warn_of_one_key(report, snapshot.store)
    return snapshot


def configuration_without_store(report: Report, settings: Settings) -> GrantConfiguration | None:
    """Return what the connection alone says, since its store could not be read; None where that is not enough."""
    try:
        return settings.grant_configuration()
    except ConfigurationError as missing:
        if not report.has_failed(KEYS):
            change = "If that is in the store, nothing is wrong with the connection; mend the store first."
            report.warn(KEYS, f"without the store: {missing}", change)
        return None


def warn_of_one_key(report: Report, store: TokenStore) -> None:
    """Warn where only one secret opens the stored tokens, and a person may renew it."""
    names = store.sealed_with
    if names in (("client_secret",), ("private_key",)):
        report.warn(
            STORE,
            f"the {names[0]} of the connection is the only key to its stored tokens: a renewed one does not open them",
            "Give Airflow's Fernet key ([core] fernet_key) to all workers; or sign in again with the new one.",
        )


def check_writable(report: Report, snapshot: Snapshot) -> None:
    """Write the record back unchanged, or try a write that has to be refused."""
    if snapshot.store.name == "connection" and sdk.AIRFLOW_V_3_0_PLUS:
        _check_route(report)
    if snapshot.record is None or snapshot.version is None:
        report.ok(STORE, "it holds nothing yet, so writing was not tried")
        return
    try:
        snapshot.store.write(snapshot.record, if_version=snapshot.version)
    except StaleVersion:
        report.ok(STORE, "it is being written by a worker at this moment")
    except (ConfigurationError, StoreError) as failure:
        report.fail(STORE, str(failure), "Refreshes will fail before they spend anything.")
    else:
        report.ok(STORE, "it can be written")


def _check_route(report: Report) -> None:
    """Ask the plugin in the API server for a write that it refuses only after all other checks."""
    conn_id = report.conn_id
    try:
        route = RecordRoute()
        key = key_in_extra(connections.get_connection(conn_id).extra)
        if key is None:
            route.request_key(conn_id)
            key = key_in_extra(connections.get_connection(conn_id).extra)
        done = key is not None and route.put_record(conn_id, key, Record().to_json(), _NOBODYS)
    except (ConfigurationError, StoreError) as failure:
        report.fail(ROUTE, str(failure), "Without it, tasks cannot write tokens into the connection.")
        return
    server = route.address
    if key is None:
        missing = f"it has no row of the connection {conn_id!r}, so this has no record key"
        report.fail(ROUTE, missing, f"Is {server.url} the API server of this deployment?")
    elif done:
        report.fail(ROUTE, "its plugin does not compare versions", "Install the same version of the provider there.")
    else:
        where = f"{server.url} ({server.setting})"
        report.ok(ROUTE, f"{where} has this provider's plugin, and takes the record key of the connection")


def check_fallback(report: Report, snapshot: Snapshot) -> None:
    """Look for tokens that a worker could not write to the store."""
    record = precedence.current(snapshot.configuration, snapshot.record)
    following = record.generation + 1
    try:
        key = fallback_key(following, record.refresh_token or "")
        waiting = open_fallback().load(key)
    except StoreError as failure:
        report.warn(FALLBACK, str(failure), "Refreshes wait while it cannot be told whether tokens are kept there.")
        return
    if waiting is None:
        report.ok(FALLBACK, "no tokens wait there")
    else:
        text = f"tokens of generation {following} wait there, since the store could not be written"
        report.warn(FALLBACK, text, "The next refresh brings them back; do not enter an older refresh token meanwhile.")


def check_tokens(report: Report, snapshot: Snapshot) -> None:
    """Look at the record as the next worker will."""
    configuration, record = snapshot.configuration, precedence.current(snapshot.configuration, snapshot.record)
    if configuration.rotates and not _check_grant(report, configuration, record, snapshot.record):
        return
    _check_access_token(report, configuration, record)
    _check_refresh(report, record)


def check_entered_token(report: Report, configuration: GrantConfiguration) -> None:
    """Say what is known of the grant while the store cannot be read."""
    if not configuration.rotates:
        return
    entered = configuration.entered.refresh_token
    there = f"the refresh token {fingerprint(entered)} is" if entered else "no refresh token is"
    text = f"{there} entered in the connection; whether the store has a newer one is not known"
    report.warn(GRANT, text, "Mend the store, and look again. Sign in again only if the store has none either.")


def _check_grant(report: Report, configuration: GrantConfiguration, record: Record, stored: Record | None) -> bool:
    """Tell whether there is a refresh token that may work."""
    if not record.refresh_token:
        missing = "there is no refresh token, neither in the connection nor in its store"
        report.fail(GRANT, missing, f"Sign in: {_sign_in(configuration)}")
        return False
    dead = record.dead
    if dead is not None and precedence.is_dead(configuration, record):
        report.fail(
            GRANT,
            f"dead since {show_time(dead.at)}: the server answered {dead.error}. {dead.hint}".strip(),
            f"Sign in again: {_sign_in(configuration)}. If the refusal was the vendor's mistake, and it is mended: "
            f"python -m airflow_oauth_provider revive {configuration.conn_id}",
        )
        return False
    mark = fingerprint(record.refresh_token)
    if record.generation == 0:
        report.ok(GRANT, f"the refresh token as entered ({mark}) has not been used yet")
    elif record is not stored:
        report.ok(GRANT, f"a refresh token was entered anew ({mark}); the next refresh begins with it")
    else:
        report.ok(GRANT, f"generation {record.generation}, refresh token {mark}")
    _check_end(report, configuration, record)
    return True


def _sign_in(configuration: GrantConfiguration) -> str:
    """Say where a person signs in."""
    page = f"{configuration.sign_in_page}, or " if configuration.sign_in_page else ""
    return f"{page}python -m airflow_oauth_provider authorize {configuration.conn_id}"


def _check_end(report: Report, configuration: GrantConfiguration, record: Record) -> None:
    ends = record.refresh_expires_at
    if ends is None:
        return
    days = (ends - time.time()) / 86400
    change = f"Sign in again: {_sign_in(configuration)}"
    if days < 0:
        report.fail(GRANT, f"the refresh token ran out at {show_time(ends)}", change)
    elif days < SOON:
        report.warn(GRANT, f"the refresh token runs out at {show_time(ends)}", f"{change}, unless a refresh renews it.")
    else:
        report.ok(GRANT, f"the refresh token lasts until {show_time(ends)}")


def _check_access_token(report: Report, configuration: GrantConfiguration, record: Record) -> None:
    if record.access_token is None:
        if configuration.policy.when == "never":
            change = messages.never_refreshed(configuration.conn_id, False)
            report.fail(ACCESS, "there is none, and refresh_when is 'never'", change)
        else:
            report.ok(ACCESS, "there is none; the first task fetches one")
        return
    until = record.expires_at
    if until is None:
        report.ok(ACCESS, "there is one; how long it works is not known")
    elif until > time.time():
        report.ok(ACCESS, f"works until {show_time(until)}")
    elif configuration.policy.when == "never":
        report.fail(ACCESS, f"ended at {show_time(until)}, and refresh_when is 'never'", "Enter another one.")
    else:
        report.ok(ACCESS, f"ended at {show_time(until)}; the next task refreshes it")


def _check_refresh(report: Report, record: Record) -> None:
    lease = record.lease
    if lease is not None:
        held = time.time() - lease.taken_at
        if held <= lease.seconds:
            report.ok(REFRESH, f"a worker has been refreshing for {held:.0f} seconds")
        else:
            text = f"a worker began at {show_time(lease.taken_at)} and never came back"
            change = "Nothing: the next task takes over. If it then says invalid_grant, sign in again."
            report.warn(REFRESH, text, change)
    if record.interrupted:
        report.warn(REFRESH, record.interrupted, "If the next refresh is refused, sign in again.")
    if record.not_before is not None and record.not_before > time.time():
        report.warn(REFRESH, f"the server asked not to be called before {show_time(record.not_before)}")
