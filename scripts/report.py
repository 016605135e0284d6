"""Tables for people: columns as wide as they need be, numbers to the right, nothing secret."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

ARROW = "->"
SHOWN = 8
"""How many hexadecimal digits of a fingerprint are shown: enough to tell tokens apart."""


def fingerprint(token: str) -> str:
    """Give a mark of a token that tells it from others and leads nobody back to it."""
    return hashlib.sha256(token.encode()).hexdigest()[:SHOWN]


def errors_in(log: str, lines: int = 30) -> str:
    """Give the errors in a task's log in plain words, or the end of the log where there are none."""
    found = [_in_words(entry) for line in log.splitlines() if (entry := _entry(line)).get("level") in _GRAVE]
    return "\n".join(found) or "\n".join(log.splitlines()[-lines:])


_GRAVE = ("error", "critical")


def _entry(line: str) -> dict[str, Any]:
    """One line of a log of Airflow 3, which is JSON; {} for any other."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _in_words(entry: dict[str, Any]) -> str:
    details = entry.get("error_detail") or []
    causes = [f"{detail.get('exc_type')}: {detail.get('exc_value')}" for detail in details]
    return "\n  ".join([str(entry.get("event")), *causes])


def change(before: object, after: object) -> str:
    """`before -> after`, or one of them when nothing changed."""
    return str(after) if before == after else f"{before} {ARROW} {after}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "  ") -> str:
    """`rows` below `head`. A column of numbers is set to the right; a cell that repeats in the first one is blank."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[n], int | float) for row in rows) for n in range(len(head))]

    def line(row: Sequence[str]) -> str:
        parts = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        return indent + "  ".join(parts).rstrip()

    lines = [line(head), indent + "  ".join("-" * width for width in widths)]
    previous = None
    for row in cells:
        lines.append(line(["" if row[0] == previous else row[0], *row[1:]]))
        previous = row[0]
    return "\n".join(lines)
