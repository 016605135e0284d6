"""All checks on one connection, in the order in which a person would look."""

from __future__ import annotations

from airflow_oauth_provider.doctor import connection, host, server, store, tokens
from airflow_oauth_provider.doctor.report import Finding, Report


def examine(conn_id: str) -> Report:
    """Return what is right and wrong about a connection; spends no token and changes no record.

    :param conn_id: the connection.
    """
    report = Report(conn_id)
    found = connection.look_up(report)
    if found is None:
        return report
    settings = connection.read_keys(report, found)
    if settings is None:
        return report
    snapshot = store.read(report, settings)
    configuration = snapshot.configuration if snapshot else store.configuration_without(report, settings)
    if configuration is not None:
        server.check(report, configuration)
        server.check_client(report, configuration, settings.test_client)
    host.check(report, settings, snapshot)
    if snapshot is None:
        if configuration is not None:
            tokens.check_entered(report, configuration)
        return report
    store.check_writable(report, snapshot)
    store.check_fallback(report, snapshot)
    tokens.check(report, snapshot)
    return report


def look_at(conn_id: str) -> list[Finding]:
    """Return what is wrong as far as connection and record tell: no server is asked, and nothing is written."""
    report = Report(conn_id)
    found = connection.look_up(report)
    settings = None if found is None else connection.read_keys(report, found)
    snapshot = None if settings is None else store.read(report, settings)
    if snapshot is not None:
        tokens.check(report, snapshot)
    return [finding for finding in report.findings if finding.level != "ok"]
