"""``doctor`` and ``revive``: find out what is wrong, and undo a vendor's mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from airflow_oauth_provider.cli.run import check_one_or_all, say
from airflow_oauth_provider.compat.database import list_connections
from airflow_oauth_provider.connection.fields import CONN_TYPE
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.doctor.examination import examine
from airflow_oauth_provider.doctor.report import Finding


def doctor(arguments: Any) -> int:
    """Print what is right and wrong about a connection, or about all; 1 if anything does not work."""
    check_one_or_all(arguments)
    names = [row.conn_id for row in list_connections(CONN_TYPE)] if arguments.all else [arguments.conn_id]
    reports = [examine(name) for name in names]
    if arguments.json:
        found = [report.as_json() for report in reports]
        say(json.dumps(found if arguments.all else found[0], indent=2))
    else:
        for report in reports:
            if arguments.all:
                say(f"{report.conn_id}: {'does not work' if report.failed else 'works'}")
            for finding in report.findings:
                if finding.level != "ok" or not arguments.all:
                    say(_line(finding))
    return int(any(report.failed for report in reports))


def _line(finding: Finding) -> str:
    change = f"\n{'':22}-> {finding.change}" if finding.change and finding.level != "ok" else ""
    return f"{finding.level:<5} {finding.check:<15} {finding.text}{change}"


def revive(arguments: Any) -> int:
    """Take the mark "dead" off a connection's record, so that the next task tries its refresh token again."""
    snapshot = ConnectionLoader(arguments.conn_id).load()
    record = snapshot.record
    if record is None or record.dead is None:
        say(f"The grant of the connection {arguments.conn_id!r} is not marked as dead; nothing was changed.")
        return 0
    snapshot.store.write(replace(record, dead=None), if_version=snapshot.version)
    say(f"The next task tries the refresh token of the connection {arguments.conn_id!r} again.")
    return 0
