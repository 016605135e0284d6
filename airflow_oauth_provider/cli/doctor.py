"""``doctor`` and ``revive``: find out what is wrong, and undo a vendor's mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from airflow_oauth_provider.cli.run import say
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.doctor.examination import examine
from airflow_oauth_provider.doctor.report import Finding


def doctor(arguments: Any) -> int:
    """Print what is right and wrong about a connection; 1 if anything does not work."""
    report = examine(arguments.conn_id)
    if arguments.json:
        say(json.dumps(report.as_json(), indent=2))
    else:
        for finding in report.findings:
            say(_line(finding))
    return int(report.failed)


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
