"""The connection itself: where it comes from, and what it says."""

from __future__ import annotations

from typing import Any

from airflow_oauth_provider.compat import connections, sdk
from airflow_oauth_provider.compat.extra_json import GUARD_MEMBER, NotAnObjectError, is_guarded
from airflow_oauth_provider.connection.extra import Extra, nearest_key
from airflow_oauth_provider.connection.fields import CONN_TYPE, FIELDS
from airflow_oauth_provider.connection.settings import Settings, read_settings
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import ConfigurationError, StoreUnavailable

CHECK = "connection"
KEYS = "keys"


def look_up(report: Report) -> Any | None:
    """Find the connection and say where it comes from; None where it cannot be read."""
    conn_id = report.conn_id
    try:
        found = connections.find_connection(conn_id)
    except sdk.AirflowNotFoundException:
        report.fail(
            CHECK,
            f"{conn_id!r} is not defined here",
            "Define it. Tasks may have other environment variables and secrets backends than this command: run it "
            "where they run.",
        )
        return None
    except ConfigurationError as failure:
        report.fail(CHECK, str(failure))
        return None
    except StoreUnavailable as failure:
        report.fail(CHECK, str(failure), "Mend that place, or take it out of Airflow's configuration.")
        return None
    report.ok(CHECK, f"{conn_id!r} comes from {found.place or 'the metadata database'}")
    connection = found.connection
    _check_guard(report, connection.extra)
    if connection.conn_type != CONN_TYPE:
        report.fail(
            CHECK, f"it is of type {connection.conn_type!r}", f"Set its type to {CONN_TYPE!r}: the form has its fields."
        )
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
            CHECK,
            "its extra does not begin with a guard, so HttpSensor, HttpOperator(deferrable=True) and other stock "
            "classes that are given this connection send its keys, secrets among them, to the API as headers",
            f'Write "{GUARD_MEMBER}": {{}} as the first member of extra; the API server does that in each row when it '
            "starts with this package, or when the connection is saved.",
        )


def read_keys(report: Report, connection: Any) -> Settings | None:
    """Check each key of ``extra`` by itself; return the settings, None where they cannot be used."""
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
        report.warn(
            KEYS,
            f"the key {key!r} of its extra means nothing here",
            f"Did you mean {near!r}?" if near else "Take it out. An API header belongs into the key 'headers'.",
        )
    if wrong:
        return None
    try:
        settings = read_settings(conn_id, connection)
    except ConfigurationError as error:
        report.refuse(KEYS, error)
        return None
    if settings.transport.verify is False:
        report.warn(
            KEYS,
            "verify is false: anybody on the way can read and change what is sent, tokens included",
            "Set verify to true, or to the path of your CA's certificates.",
        )
    if not settings.base_url:
        report.warn(KEYS, "there is no host: operators need the whole URL of each call", "Enter the API's base URL.")
    return settings


def say_keys_are_right(report: Report) -> None:
    """Note that the keys also fit together: a configuration was made of them."""
    report.ok(KEYS, "every key of its extra has a value that can be used")
