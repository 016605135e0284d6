"""The examinations of a connection: all checks, those that ask no server, and those of "Test connection".

"Test connection" tries all that can be tried without spending a refresh token or writing anywhere. Airflow tests a
connection under a random name, in the API server or in a worker. Nobody would find what is written under that name, so
a refresh token that is spent there is lost.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from airflow_oauth_provider.compat import masking
from airflow_oauth_provider.compat.extra_json import get_member
from airflow_oauth_provider.connection.address import Origin, is_template, origin_of
from airflow_oauth_provider.connection.settings import Settings
from airflow_oauth_provider.doctor import connection, servers
from airflow_oauth_provider.doctor.report import RUN_THE_DOCTOR, Finding, Report
from airflow_oauth_provider.exceptions import ConfigurationError, OAuth2Error, name_connection
from airflow_oauth_provider.oauth2 import deadline
from airflow_oauth_provider.oauth2.discovery import discover
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.stores import azure_keyvault
from airflow_oauth_provider.stores.allowed_places import AnothersPlace
from airflow_oauth_provider.stores.backend import IN_AIRFLOW
from airflow_oauth_provider.stores.factory import find_permit
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.configuration import GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.decision import TokenRequirements
from airflow_oauth_provider.tokens.manager import TokenManager
from airflow_oauth_provider.tokens.record import Record, StoredRecord

TOKEN = "token"  # noqa: S105 - the name of a check

#: Seconds that one request of a test may take: a person is waiting.
PATIENCE = 4.0


def examine(conn_id: str) -> Report:
    """Return what is right and wrong about a connection; spends no token and changes no record."""
    report = Report(conn_id)
    settings = connection.read_keys(report, connection.look_up(report))
    if settings is None:
        return report
    snapshot = connection.read_store(report, settings)
    configuration = snapshot.configuration if snapshot else connection.configuration_without_store(report, settings)
    if configuration is not None:
        servers.check_server(report, configuration)
        servers.check_client(report, configuration, settings.test_client)
    servers.check_host(report, settings, snapshot)
    if snapshot is None:
        if configuration is not None:
            connection.check_entered_token(report, configuration)
        return report
    connection.check_writable(report, snapshot)
    connection.check_fallback(report, snapshot)
    connection.check_tokens(report, snapshot)
    return report


def look_at(conn_id: str) -> list[Finding]:
    """Return what is wrong as far as connection and record tell: no server is asked, and nothing is written."""
    report = Report(conn_id)
    settings = connection.read_keys(report, connection.look_up(report))
    snapshot = connection.read_store(report, settings) if settings else None
    if snapshot is not None:
        connection.check_tokens(report, snapshot)
    return [finding for finding in report.findings if finding.level != "ok"]


def try_connection(conn_id: str) -> tuple[bool, str]:
    """Try a connection.

    :param conn_id: its name, or the random one under which Airflow has it tested.
    :return: whether it works as far as a test can tell, and the verdict with what to do.
    """
    report = Report(conn_id, knows_id=False)
    with deadline.look_up_once():
        _try(report)
    # A test has a random name, which nobody would recognize.
    verdict = _verdict(report).replace(name_connection(conn_id, ""), "").replace(repr(conn_id), "this connection")
    return not report.failed, verdict


def _verdict(report: Report) -> str:
    """Say in a few sentences what was found: first whether it works, then what to do."""
    by_level = {level: [found for found in report.findings if found.level == level] for level in ("ok", "warn", "fail")}
    if report.failed:
        return " ".join(["Does not work.", *_sentences(by_level["fail"])])
    # The person who tests the connection knows where it comes from.
    checked = [found.text.rstrip(".") for found in by_level["ok"] if found.check != connection.CONNECTION]
    doubts = ["Not certain:", *_sentences(by_level["warn"])] if by_level["warn"] else []
    works = f"Works, as far as a test can tell: {'; '.join(checked)}." if checked else "A test cannot tell much."
    return " ".join([works, *doubts])


def _sentences(findings: list[Finding]) -> list[str]:
    return [text for found in findings for text in (f"{found.check}: {found.text.rstrip('.')}.", found.change) if text]


def _try(report: Report) -> None:
    found = connection.look_up(report)
    settings = connection.read_keys(report, found)
    if settings is None:
        return
    proxies = [url if "//" in url else f"//{url}" for url in settings.transport.proxies.values()]
    if any(map(servers.has_private_address, proxies)):
        text = "its proxy has an address that is not public, so a test does not use it, and tries nothing"
        report.warn(connection.KEYS, text, RUN_THE_DOCTOR)
        return
    known = _read_grant(report, settings, found)
    if known is None:
        _check_host(report, settings, None)
        return
    configuration, record = _shorten_timeout(known[0]), precedence.current(known[0], known[1])
    answering = _check_server(report, configuration)
    _check_host(report, settings, answering)
    if report.failed:
        return
    servers.check_client(report, configuration, settings.test_client)
    if report.has_doubts(connection.STORE):
        return  # what is kept there is not known
    if configuration.rotates:
        _look_for_grant(report, configuration, record)
    else:
        _ask_for_token(report, configuration)


def _check_server(report: Report, configuration: GrantConfiguration) -> Origin | None:
    """Check the authorization server; at an address that is not public, everything but a token endpoint looks the same.

    :return: the origin at which a token endpoint answered as one; None where none did.
    """
    client, began, before = configuration.client, time.monotonic(), len(report.findings)
    with deadline.within(PATIENCE):
        servers.check_server(report, configuration)
    endpoint = client.token_url
    if client.issuer and not endpoint and not report.has_failed(servers.DISCOVERY):
        endpoint = discover(client.issuer, client.transport).token_endpoint
    if any(found.level == "ok" and found.check == servers.ENDPOINT for found in report.findings[before:]):
        return origin_of(endpoint)
    if any(servers.has_private_address(url) for url in (client.issuer, endpoint) if url):
        # Neither the text nor the time tells a closed port from one at which something else answers.
        del report.findings[before:]
        time.sleep(max(0.0, began + PATIENCE - time.monotonic()))
        named = show_url(client.token_url or client.issuer)
        text = f"no token endpoint answers at {named}. A test says no more of an address that is not public"
        report.fail(servers.ENDPOINT, text, RUN_THE_DOCTOR)
    return None


def _check_host(report: Report, settings: Settings, answering: Origin | None) -> None:
    """Check the API's host, unless that would tell which ports of this network are open."""
    url = settings.base_url
    if url and not is_template(url) and servers.has_private_address(url) and origin_of(url) != answering:
        report.ok(servers.HOST, "the API's host has an address that is not public, so a test does not try it")
    else:
        servers.check_host(report, settings, patience=PATIENCE)


def _read_grant(report: Report, settings: Settings, found: Any) -> tuple[GrantConfiguration, Record | None] | None:
    """Return the connection's configuration and record; None where that fails.

    A store that goes by the connection's name, which a test does not know, is not asked. But Airflow puts what a form
    shows as ``***`` back in, so the record of the row that is tested comes along in ``extra``.
    """
    if settings.store_options.store not in IN_AIRFLOW:
        snapshot = connection.read_store(report, settings) if _may_open(report, settings) else None
        if snapshot is not None:
            return snapshot.configuration, snapshot.record
        if report.failed:
            return None
        try:
            return settings.grant_configuration(), None
        except ConfigurationError:
            return None  # the rest may be in the store
    try:
        text = get_member(found.extra)
        return settings.grant_configuration(), Record.from_json(text) if text else None
    except ConfigurationError as failure:
        report.fail(connection.KEYS, str(failure))
    except ValueError as failure:
        report.fail(connection.STORE, f"the stored tokens cannot be read: {failure}", "Sign in again.")
    return None


def _may_open(report: Report, settings: Settings) -> bool:
    """Tell whether the store's place is open to all connections; a connection's own places depend on its unknown id."""
    options = settings.store_options
    is_made_of_id = options.store == azure_keyvault.KeyVaultBackend.name and any(
        name not in options.keyvault_names for name in azure_keyvault.NAMES
    )
    refusal = AnothersPlace() if is_made_of_id else find_permit(report.conn_id, options).refusal
    if refusal is not None:
        report.refuse(connection.STORE, refusal)
    return refusal is None


def _look_for_grant(report: Report, configuration: GrantConfiguration, record: Record) -> None:
    if not record.refresh_token:
        report.fail(TOKEN, messages.no_refresh_token(configuration))
    elif record.dead is not None and precedence.is_dead(configuration, record):
        report.fail(TOKEN, messages.dead_grant(configuration, record.dead))
    else:
        report.ok(TOKEN, "there is a refresh token (a test does not spend it, since that can be done only once)")


def _ask_for_token(report: Report, configuration: GrantConfiguration) -> None:
    """Ask for a token as a task would, and discard it."""
    manager = TokenManager(_Nowhere(configuration), mask=masking.mask_secret)
    try:
        status = manager.obtain(TokenRequirements(force=True)).status
    except OAuth2Error as error:
        report.fail(TOKEN, str(error))
    else:
        report.ok(TOKEN, f"the authorization server granted one (expires: {status.expires_at or 'unknown'})")


def _shorten_timeout(configuration: GrantConfiguration) -> GrantConfiguration:
    client = configuration.client
    transport = replace(client.transport, timeout=min(client.transport.timeout, PATIENCE))
    dialect = replace(client.dialect, error_mark=None)  # only tasks search responses for the connection's patterns
    return replace(configuration, client=replace(client, transport=transport, dialect=dialect))


class _Nowhere:
    """A source and a store in one, whose record lasts as long as this object."""

    name = "nowhere"
    sealed_with: tuple[str, ...] = ()

    def __init__(self, configuration: GrantConfiguration) -> None:
        self._configuration = configuration
        self._held = StoredRecord(None, None)
        self._writes = 0

    def load(self) -> Snapshot:
        return Snapshot(self._configuration, self, self._held.record, self._held.version, settle_time=0.0)

    def read(self) -> StoredRecord:
        return self._held

    def write(self, record: Record, *, if_version: str | None) -> str:  # noqa: ARG002 - nobody else writes here
        self._writes += 1
        self._held = StoredRecord(record, str(self._writes))
        return str(self._writes)
