"""Ask for known vulnerabilities of the pinned versions: `make audit`. Needs a network that reaches such a database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts import environments as env
from scripts.setup_env import set_up_pinned


def main() -> int:
    set_up_pinned("audit", "pip-audit")
    known, unknown = [], 0
    for path in sorted(env.CONSTRAINTS.glob("*.txt")):
        releases = ask(path)
        if releases is None:
            print("audit: no database of vulnerabilities can be reached from here: nothing is known.", file=sys.stderr)
            return 2
        known += [f"{path.name}: {line}" for release in releases for line in describe(release)]
        unknown += sum("skip_reason" in release for release in releases)
        print(f"{path.name}: {len(releases)} releases", flush=True)
    print("\n".join(known) or "audit: no known vulnerability.")
    if unknown:
        print(f"audit: the database knows nothing of {unknown} releases.", file=sys.stderr)
    return 1 if known or unknown else 0


def ask(pins: Path) -> list[dict[str, Any]] | None:
    """Return what is known of the releases in `pins`; None where that cannot be had."""
    command = [str(env.environment("audit") / "bin" / "pip-audit"), "--disable-pip", "--no-deps", "--format", "json"]
    done = subprocess.run(
        [*command, "--progress-spinner", "off", "--requirement", str(pins)], capture_output=True, text=True
    )
    try:
        releases: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):  # it ends with a traceback where it reaches nothing
        return None
    return None if all("skip_reason" in release for release in releases) else releases


def describe(release: dict[str, Any]) -> list[str]:
    found = release.get("vulns", [])
    return [f"{release['name']} {release['version']}: {one['id']}, mended in {one['fix_versions']}" for one in found]


if __name__ == "__main__":
    sys.exit(main())
