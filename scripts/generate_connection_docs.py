"""Write the page on the connection's keys from the one table of fields."""

from __future__ import annotations

import argparse
import re
from itertools import groupby
from pathlib import Path

from airflow_oauth_provider.connection.fields import ALIASES, FIELDS, STANDARD_FIELDS, Field

PAGE = Path(__file__).resolve().parents[1] / "docs" / "connection.md"

_UNIT = re.compile(r"\((\w+)\)$")

HEAD = """\
# The connection

Connection type: `oauth2`, in the UI "OAuth 2.0". Airflow's own fields:

| Field | Meaning |
|---|---|
{standard}

Everything else is a key of `extra`. A key that is empty, `null` or `***` counts as not set. Keys that are not in the
form are set in the JSON of `extra`. A list has commas between its items, and so do pairs: `name=value, other=value`.

Secrets are hidden in logs, and with them the values of `headers` (but for public ones such as `Accept` or a version)
and the passwords in `proxies`. The UI and Airflow's API hide the fields for secrets; the members of `headers`,
`proxies` and the like they show in clear, unless a member's own name is one that Airflow redacts, such as `api_key` or
`authorization`.

This page is made from `fields.py`, as the form in the UI is.
"""


def render() -> str:
    """Return the page."""
    standard = "\n".join(f"| `{field.name}` | {field.title} |" for field in STANDARD_FIELDS if field.title)
    parts = [HEAD.format(standard=standard)]
    shown = [field for field in FIELDS if not field.kept]
    order = list(dict.fromkeys(field.section for field in shown))
    for section, fields in groupby(sorted(shown, key=lambda field: order.index(field.section)), lambda f: f.section):
        rows = "\n".join(_row(field) for field in fields)
        parts.append(
            f"## {section}\n\n| Key | In the form | Meaning | Values | If not set |\n|---|---|---|---|---|\n{rows}\n"
        )
    aliases = ", ".join(f"`{alias}` for `{key}`" for alias, key in ALIASES.items())
    parts.append(f"## Other names\n\nRead, but never shown: {aliases}.\n")
    return "\n".join(parts)


def _row(field: Field) -> str:
    cells = (
        f"`{field.key}`",
        field.title if field.in_form else "no",
        field.help,
        _values(field),
        f"`{field.default_text}`" if field.default_text else field.unset or "none",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(field: Field) -> str:
    """Say which values there are; a number's unit stands in the title, which keys outside the form do not show."""
    if field.choices:
        return ", ".join(f"`{choice}`" for choice in field.choices)
    unit = _UNIT.search(field.title)
    parts = [f"{field.kind} ({unit[1]})" if unit else str(field.kind)]
    if field.minimum is not None:
        parts.append(f"at least {field.minimum:g}")
    if field.maximum is not None:
        parts.append(f"at most {field.maximum:g}")
    return ", ".join(parts)


def main() -> None:
    """Write the page, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(render())
    elif PAGE.read_text() != render():
        raise SystemExit(f"{PAGE.name} is out of date: run python -m scripts.generate_connection_docs")


if __name__ == "__main__":
    main()
