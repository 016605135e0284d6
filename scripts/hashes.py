"""The hashes of what is installed: `requirements/hashes.txt`, one line a release, with all of its files.

The constraint files name versions; what an index delivers under such a name is held against this list, so that nobody
can put another file in its place. All files of a release stand in it, for every machine and every Python. `make hashes`
makes it anew.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts import environments as env

FILE = env.REQUIREMENTS / "hashes.txt"


class UnknownReleaseError(RuntimeError):
    """A release has no hashes here; the message says what to do."""


def write_hashed(target: Path, pins: Iterable[str]) -> Path:
    """Write `pins` with their hashes to `target`, as a requirements file.

    :param pins: `name==version`, each one line of a constraint file.
    :raises UnknownReleaseError: one of them has no hashes.
    """
    known = {line.split(" ")[0]: line for line in FILE.read_text().splitlines()}
    if missing := [pin for pin in pins if pin not in known]:
        raise UnknownReleaseError(f"requirements/hashes.txt lacks {', '.join(missing)}: run `make hashes`")
    target.write_text("".join(f"{known[pin]}\n" for pin in pins))
    return target


def update(uv: str) -> None:
    """Make the file anew, for all releases that the constraint files name.

    :param uv: the program; it asks the index that it is set up for.
    """
    pins = {pin for path in env.CONSTRAINTS.glob("*.txt") for pin in path.read_text().split()}
    lines = [line for group in _split_by_name(sorted(pins)) for line in _ask(uv, group)]
    FILE.write_text("".join(f"{line}\n" for line in sorted(lines)))
    print(f"{FILE.name}: {len(lines)} releases")


def _split_by_name(pins: Iterable[str]) -> list[list[str]]:
    """Return the pins in groups none of which has two versions of one name."""
    groups: list[dict[str, str]] = []
    for pin in pins:
        name = pin.partition("==")[0]
        fitting = next((group for group in groups if name not in group), None)
        if fitting is None:
            groups.append(fitting := {})
        fitting[name] = pin
    return [list(group.values()) for group in groups]


def _ask(uv: str, pins: list[str]) -> Iterator[str]:
    newest = ".".join(map(str, env.NEWEST_PYTHON_OF_ALL))
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-deps", "--generate-hashes"]
    done = subprocess.run(
        [*command, "--python-version", newest, "-"], input="\n".join(pins), capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    for entry in done.stdout.replace(" \\\n", " ").splitlines():
        yield " ".join(entry.split())


if __name__ == "__main__":
    update(str(env.environment("tools") / "bin" / "uv"))
