"""Make the files in `constraints/` anew, and `hashes.txt`.

`make constraints`, or with Airflow versions to move to:

    .venvs/tools/bin/python -m scripts.update_constraints 3.3.3 3.2.2

Those of the cells that are named after a release take the lines of `requirements/official` as they stand there.

A constraint file holds `name==version` lines and nothing else. One file serves all Python versions: each is
resolved in turn with what was already found, and the union is written. What is pinned already stays as it is
unless it no longer fits; delete a line, or the file, to move on.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts import environments as env
from scripts import hashes
from scripts.setup_env import uv

# What an Airflow release allows but does not work with, seen by running it.
HELD_BACK = {
    # Its tasks send JSON to the API server without saying that it is JSON; newer FastAPI insists.
    # Its ObjectStoragePath takes no s3:// with universal-pathlib 0.3; Airflow 3.1 says so itself.
    "3.0": ["fastapi<0.130", "universal-pathlib<0.3"],
    # "Model 'TITerminalStatePayload' needs a discriminator field": the API server does not start.
    "3.2": ["cadwyn<8", "fastapi<0.137"],
}


def main(arguments: Sequence[str]) -> int:
    wanted = {env.minor_of(version): version for version in arguments}
    for name, cell in env.CELLS.items():
        files = [env.ROOT / "pyproject.toml", *(env.REQUIREMENTS / file for file in env.requirements_of(name))]
        if name == env.MAIN_AIRFLOW:
            files.append(env.REQUIREMENTS / "parity.txt")
        official = env.REQUIREMENTS / "official" / f"airflow-{name}.txt"
        if official.exists():
            fixed = official.read_text().split()
        else:
            fixed = [f"apache-airflow=={wanted.get(name) or env.airflow_version_of(name)}"]
        compile_to(
            env.CONSTRAINTS / f"airflow-{name}.txt",
            files,
            _pythons(cell.newest_python),
            [*fixed, *HELD_BACK.get(env.minor_of(name), [])],
        )
    for name in ("servers", "build", "tools", "docs", "mutation", "dlt", "audit"):
        files = [env.REQUIREMENTS / f"{name}.txt"]
        compile_to(env.CONSTRAINTS / f"{name}.txt", files, _pythons(env.NEWEST_PYTHON_OF_SERVERS), [])
    hashes.update(uv())
    return 0


def _pythons(newest: tuple[int, int]) -> list[str]:
    return [f"3.{minor}" for minor in range(env.OLDEST_PYTHON[1], newest[1] + 1)]


def compile_to(target: Path, files: Sequence[Path], pythons: Sequence[str], extra: Sequence[str]) -> None:
    """Resolve `files` and `extra` for each of `pythons` and write the union of the pins to `target`."""
    pins: dict[str, str] = {}
    if target.exists():
        pins = dict(line.split("==") for line in target.read_text().split())
    found: dict[str, str] = {}
    for requirement in extra:  # a version that was asked for replaces the one that was pinned
        if requirement != "==".join((name := re.split("[<=]", requirement)[0], pins.get(name, ""))):
            pins.pop(name, None)
    for python in pythons:
        result = _resolve(files, python, pins | found, extra)
        if clash := {name for name, version in result.items() if found.get(name, version) != version}:
            raise SystemExit(f"{target.name}: Python {python} needs other versions of {sorted(clash)}")
        found |= result
    target.write_text("".join(f"{name}=={version}\n" for name, version in sorted(found.items())))
    print(f"{target.name}: {len(found)} pins")


def _resolve(files: Sequence[Path], python: str, pins: dict[str, str], extra: Sequence[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        constraints, requirements = Path(folder, "constraints.txt"), Path(folder, "requirements.in")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        requirements.write_text("".join(f"{line}\n" for line in extra))
        command = [uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", python]
        command += ["--constraints", str(constraints), *map(str, files)]
        if extra:
            command.append(str(requirements))
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [line for line in done.stdout.splitlines() if "==" in line]
    return dict(line.split(" ")[0].split("==") for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
