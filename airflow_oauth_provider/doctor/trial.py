"""What "Test connection" tries: all that can be tried without spending a refresh token or writing anywhere.

Airflow tests a connection under a name of chance, in the API server or a worker: what is written under that name is
found by nobody, and a refresh token that is spent there is lost.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_oauth_provider.compat import masking
from airflow_oauth_provider.doctor import connection, host, server, store
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.configuration import GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.manager import TokenManager
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.result import TokenRequirements
from airflow_oauth_provider.tokens.store import StoredRecord

TOKEN = "token"  # noqa: S105 - the name of a check

#: Seconds that one request may take: a person is waiting.
PATIENCE = 4.0
#: Stores whose records go by the connection's name, which a test does not know.
_BY_NAME = frozenset({"connection", "variable"})


def try_connection(conn_id: str) -> tuple[bool, str]:
    """Try a connection.

    :param conn_id: its name, or the one under which Airflow has it tested.
    :return: whether it works as far as can be told, and what was found.
    """
    report = Report(conn_id)
    _try(report)
    shown = [finding for finding in report.findings if finding.level == ("fail" if report.failed else "ok")]
    # What has a connection of that name is no news to whoever tests it.
    texts = [f"{found.check}: {found.text}" for found in shown if report.failed or found.check != connection.CHECK]
    changes = [found.change for found in shown if found.change]
    warnings = [f"{found.check}: {found.text}" for found in report.findings if found.level == "warn"]
    warned = f" But: {'; '.join(warnings)}." if warnings and not report.failed else ""
    return not report.failed, " ".join([f"{'; '.join(text.rstrip('.') for text in texts)}.{warned}", *changes])


def _try(report: Report) -> None:
    found = connection.look_up(report)
    settings = None if found is None else connection.read_keys(report, found)
    if settings is None:
        return
    snapshot = store.read(report, settings)
    host.check(report, settings, patience=PATIENCE)
    if snapshot is None:
        return
    account = _hurried(snapshot.configuration)
    server.check(report, account)
    if report.failed:
        return
    if account.rotates:
        _look_for_refresh_token(report, snapshot)
    else:
        _ask_for_token(report, account)


def _look_for_refresh_token(report: Report, snapshot: Snapshot) -> None:
    record = precedence.current(snapshot.configuration, snapshot.record)
    if record.refresh_token:
        report.ok(
            TOKEN,
            "there is a refresh token; a test does not spend it, since that can be done only once: the first task will",
        )
    elif snapshot.store.name in _BY_NAME:
        report.warn(TOKEN, "no refresh token is entered, so there has to be one in the store")
    else:
        report.fail(TOKEN, messages.no_refresh_token(report.conn_id, snapshot.configuration.hint))


def _ask_for_token(report: Report, account: GrantConfiguration) -> None:
    """Ask for a token as a task would, and let go of it."""
    try:
        status = TokenManager(_Nowhere(account), mask=masking.mask_secret).obtain(TokenRequirements(force=True)).status
    except OAuth2Error as error:
        report.fail(TOKEN, str(error))
    else:
        report.ok(TOKEN, f"the authorization server granted one (expires: {status.expires_at or 'unknown'})")


def _hurried(account: GrantConfiguration) -> GrantConfiguration:
    transport = account.client.transport
    transport = replace(transport, timeout=min(transport.timeout, PATIENCE))
    return replace(account, client=replace(account.client, transport=transport))


class _Nowhere:
    """An account whose record is forgotten with this object."""

    name = "nowhere"

    def __init__(self, account: GrantConfiguration) -> None:
        self._account = account
        self._held = StoredRecord(None, None)
        self._writes = 0

    def load(self) -> Snapshot:
        return Snapshot(self._account, self, self._held.record, self._held.version)

    def read(self) -> StoredRecord:
        return self._held

    def write(self, record: Record, *, if_version: str | None) -> str:  # noqa: ARG002 - nobody else writes here
        self._writes += 1
        self._held = StoredRecord(record, str(self._writes))
        return str(self._writes)
