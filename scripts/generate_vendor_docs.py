"""Write `docs/vendors.md` from the presets: `python -m scripts.generate_vendor_docs`; `--check` only compares.

It reads the data files of the package, and imports nothing of Airflow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import airflow_oauth_provider
from scripts.environments import ROOT

PRESETS = Path(airflow_oauth_provider.__file__).parent / "connection" / "presets"
PAGE = ROOT / "docs" / "vendors.md"

INTRODUCTION = """\
# Vendors

<!-- Written by scripts/generate_vendor_docs.py from presets/vendors.json: change the data and run the script. -->

Choose a preset as `provider` in the connection, and it fills in what the vendor's authorization server wants:
endpoints, how the client authenticates, how the answer reads, how long a refresh token lives. A key that the
connection sets itself always wins. Scopes are never part of a preset: a scope sent with a refresh could only
narrow what was granted.

Under each entry stands what it was confirmed from: the vendor's own pages as far as they could be read, and
quotes of them and public clients for the rest. What could not be confirmed was left out, and then the ordinary
rules of OAuth 2.0 hold. No entry was tried against the vendor's server, which takes an account there. Vendors
change things: if an entry is out of date, set the key in the connection and tell us.
"""

LEGEND = """\
*Token endpoint* is the one that refreshes go to. *Client* is how the client authenticates there: **basic** sends
id and secret in the `Authorization` header, **post** among the parameters, **public** sends the id alone.
*Parameters* says where they go: a form body, a JSON body or the query. *Refresh token* says how long it lives:
since it was issued, or unused. *New one at refresh* says whether a refresh returns a new refresh token, and how
long the used one still works if the vendor says so. An empty cell was not confirmed, or is a setting of the
application.
"""

CLIENTS = {
    "client_secret_basic": "basic",
    "client_secret_post": "post",
    "none": "public",
}

DAY = 86400


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write docs/vendors.md from the presets.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args(arguments)
    page = render()
    if options.check:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != page:
            print("docs/vendors.md is out of date: run python -m scripts.generate_vendor_docs", file=sys.stderr)
        return int(current != page)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    return 0


def render() -> str:
    """Give the whole page."""
    vendors: dict[str, Any] = json.loads((PRESETS / "vendors.json").read_text(encoding="utf-8"))
    schema: dict[str, Any] = json.loads((PRESETS / "schema.json").read_text(encoding="utf-8"))
    parts = [
        INTRODUCTION,
        f"## All {len(vendors)} presets\n",
        _table(
            ("Preset", "Vendor", "Token endpoint", "Client", "Parameters", "Refresh token", "New one at refresh"),
            (_row(name, vendor) for name, vendor in vendors.items()),
        ),
        LEGEND,
        *(_section(name, vendor) for name, vendor in vendors.items()),
        "## Keys\n\nWhat a preset can set. The same keys stand in a connection's `extra`, where they win.\n",
        _table(
            ("Key", "Meaning"),
            ((f"`{key}`", rule["description"]) for key, rule in schema["$defs"]["defaults"]["properties"].items()),
        ),
    ]
    return "\n".join(parts)


def _row(name: str, vendor: Mapping[str, Any]) -> tuple[str, ...]:
    defaults = vendor["defaults"]
    return (
        f"[`{name}`](#{name})",
        vendor["title"],
        f"`{defaults.get('refresh_url', defaults['oauth_url'])}`",
        CLIENTS.get(defaults["auth_method"], f"`{defaults['auth_method']}`"),
        defaults.get("request_format", "form"),
        _life(defaults),
        _rotation(vendor["facts"]),
    )


def _life(defaults: Mapping[str, Any]) -> str:
    words = []
    if "refresh_expires_in" in defaults:
        words.append(_span(defaults["refresh_expires_in"]))
    if "refresh_idle_days" in defaults:
        words.append(f"{_span(defaults['refresh_idle_days'] * DAY)} unused")
    return ", ".join(words)


def _rotation(facts: Mapping[str, Any]) -> str:
    answer = {True: "yes", False: "no", None: ""}[facts.get("rotates")]
    grace = facts.get("grace_seconds")
    if not grace:
        return answer
    return f"{answer}, the used one works for {_span(grace)}".removeprefix(", ")


def _span(seconds: int) -> str:
    for size, word in ((DAY, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0 and (seconds >= 2 * size or seconds == size):
            number = seconds // size
            return f"{number} {word}" if number == 1 else f"{number} {word}s"
    return f"{seconds} seconds"


def _section(name: str, vendor: Mapping[str, Any]) -> str:
    lines = [f"## {name}", "", f"{vendor['title']}: [the vendor's page]({vendor['docs']})", ""]
    if vendor["parameters"]:
        lines += ["Parameters that the connection has to give:", ""]
        lines += [f"* `{parameter}`: {text}" for parameter, text in vendor["parameters"].items()]
        lines.append("")
    lines += ["```json", json.dumps(vendor["defaults"], indent=2, ensure_ascii=False), "```", ""]
    lines += [f"* {note}" for note in vendor["notes"]]
    lines += ["", f"Confirmed from: {vendor['confirmed']}", ""]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
