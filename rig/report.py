"""Tables for people: columns as wide as they need be, numbers to the right, nothing secret."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

ARROW = "->"
SHOWN = 8
"""How many hexadecimal digits of a fingerprint are shown: enough to tell tokens apart."""


def fingerprint(token: str) -> str:
    """Give a mark of a token that tells it from others and leads nobody back to it."""
    return hashlib.sha256(token.encode()).hexdigest()[:SHOWN]


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
