"""The tokens: whether they work, how long, and how the last refresh ended."""

from __future__ import annotations

import time

from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.tokens import messages, precedence
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.configuration import GrantConfiguration, Snapshot
from airflow_oauth_provider.tokens.record import Record, fingerprint

GRANT = "grant"
ACCESS = "access token"
REFRESH = "refresh"

#: Days before its end from which on a refresh token is warned about.
SOON = 7


def check(report: Report, snapshot: Snapshot) -> None:
    """Look at the record as the next worker will."""
    configuration = snapshot.configuration
    record = precedence.current(configuration, snapshot.record)
    if configuration.rotates and not _check_grant(report, configuration, record, snapshot.record):
        return
    _check_access_token(report, configuration, record)
    _check_refresh(report, record)


def check_entered(report: Report, configuration: GrantConfiguration) -> None:
    """Say what is known of the grant while the store cannot be read."""
    if not configuration.rotates:
        return
    entered = configuration.entered.refresh_token
    there = f"the refresh token {fingerprint(entered)} is" if entered else "no refresh token is"
    report.warn(
        GRANT,
        f"{there} entered in the connection; whether the store has a newer one is not known",
        "Mend the store, and look again. Sign in again only if the store has none either.",
    )


def _check_grant(report: Report, configuration: GrantConfiguration, record: Record, stored: Record | None) -> bool:
    """Tell whether there is a refresh token that may work."""
    if not record.refresh_token:
        report.fail(
            GRANT,
            "there is no refresh token, neither in the connection nor in its store",
            f"Sign in: {_where(configuration)}",
        )
        return False
    dead = record.dead
    if dead is not None and precedence.is_dead(configuration, record):
        report.fail(
            GRANT,
            f"dead since {show_time(dead.at)}: the server answered {dead.error}. {dead.hint}".strip(),
            f"Sign in again: {_where(configuration)}. If the refusal was the vendor's mistake, and it is mended: "
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


def _where(configuration: GrantConfiguration) -> str:
    """Say where a person signs in."""
    page = f"{configuration.sign_in_page}, or " if configuration.sign_in_page else ""
    return f"{page}python -m airflow_oauth_provider authorize {configuration.conn_id}"


def _check_end(report: Report, configuration: GrantConfiguration, record: Record) -> None:
    ends = record.refresh_expires_at
    if ends is None:
        return
    days = (ends - time.time()) / 86400
    change = f"Sign in again: {_where(configuration)}"
    if days < 0:
        report.fail(GRANT, f"the refresh token ran out at {show_time(ends)}", change)
    elif days < SOON:
        report.warn(GRANT, f"the refresh token runs out at {show_time(ends)}", f"{change}, unless a refresh renews it.")
    else:
        report.ok(GRANT, f"the refresh token lasts until {show_time(ends)}")


def _check_access_token(report: Report, configuration: GrantConfiguration, record: Record) -> None:
    if record.access_token is None:
        if configuration.policy.when == "never":
            report.fail(
                ACCESS,
                "there is none, and refresh_when is 'never'",
                messages.never_refreshed(configuration.conn_id, False),
            )
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
            report.warn(
                REFRESH,
                f"a worker began at {show_time(lease.taken_at)} and never came back",
                "Nothing: the next task takes over. If it then says invalid_grant, sign in again.",
            )
    if record.interrupted:
        report.warn(REFRESH, record.interrupted, "If the next refresh is refused, sign in again.")
    if record.not_before is not None and record.not_before > time.time():
        report.warn(REFRESH, f"the server asked not to be called before {show_time(record.not_before)}")
