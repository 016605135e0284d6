"""Create the environments of this checkout: `python -m scripts.setup_env [3.3] [3.1.6] [2.11] [servers]`.

Standard library only, any Python from 3.11. A second run is instant: each environment holds a stamp with the
hash of everything that went into it. Two runs in one checkout wait for each other; in two checkouts they do
not meet.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts import environments as env
from scripts import hashes


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Create the environments of this checkout.")
    choices = [*env.CELLS, "fleet", "servers", "tools", "parity", "dlt"]
    parser.add_argument("names", nargs="*", help=f"of {', '.join(choices)}; by default {env.MAIN_AIRFLOW} and servers")
    names = parser.parse_args(arguments).names or [env.MAIN_AIRFLOW, "servers"]
    if unknown := [name for name in names if name not in choices]:
        parser.error(f"unknown: {', '.join(unknown)}. Known: {', '.join(choices)}")
    try:
        check_python(sys.version_info[:2])
        env.BUILD.mkdir(exist_ok=True)
        with open(env.BUILD / "setup.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            set_up_all(names)
    except (SetupError, hashes.UnknownReleaseError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def check_python(version: tuple[int, int]) -> None:
    if not env.OLDEST_PYTHON <= version <= env.NEWEST_PYTHON_OF_ALL:
        this = ".".join(map(str, version))
        raise SetupError(
            f"Python {this} at {sys.executable} does not do: this needs Python 3.11 to 3.14. "
            "Name one: make PYTHON=python3.12 ..."
        )


def set_up_all(names: Iterable[str]) -> None:
    """Set up `names` in order, with what they need first."""
    set_up_tools()
    for name in names:
        if name in env.CELLS:
            set_up_airflow(name)
        elif name == "fleet":
            set_up_fleet()
        elif name == "servers":
            set_up_servers()
            set_up_authorization_server()
        elif name == "parity":
            set_up_parity()
        elif name == "dlt":
            set_up_pinned(name, "dlt's REST client")


def set_up_tools() -> None:
    """A folder with `uv` in it, which installs everything else in seconds."""
    folder = env.environment("tools")
    pins = env.CONSTRAINTS / "tools.txt"
    stamp = Stamp(folder, [pins, Path(__file__)])
    if stamp.matches():
        return
    shutil.rmtree(folder, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
    if made.returncode:
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment. On Debian: apt-get install python3-venv.\n"
            f"{made.stdout}{made.stderr}"
        )
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    with tempfile.TemporaryDirectory() as lists:
        hashed = hashes.write_hashed(Path(lists, "tools.txt"), pins.read_text().split())
        run([*pip, "--require-hashes", "--no-deps", "-r", str(hashed)], "install uv")
    stamp.write()


def set_up_airflow(name: str) -> None:
    """The environment of one Airflow version: Airflow as pinned, this package (editable), the test tools."""
    folder = env.environment(name)
    constraints = env.CONSTRAINTS / f"airflow-{name}.txt"
    requirements = [env.REQUIREMENTS / file for file in env.requirements_of(name)]
    python = choose_python(env.CELLS[name])
    build = env.CONSTRAINTS / "build.txt"
    inputs = [constraints, build, *requirements, env.ROOT / "pyproject.toml", Path(__file__)]
    stamp = Stamp(folder, inputs, python)
    if stamp.matches():
        return
    with Progress(f"Airflow {env.airflow_version_of(name)} into {folder.relative_to(env.ROOT)}, Python {python}"):
        make_environment(folder, python)
        install_package(folder, [constraints], requirements)
    stamp.write()


def set_up_parity() -> None:
    """The main Airflow with the http provider's own tests, which its source distribution holds."""
    folder = env.environment("parity")
    constraints = env.CONSTRAINTS / f"airflow-{env.MAIN_AIRFLOW}.txt"
    requirements = [env.REQUIREMENTS / "test.txt", env.REQUIREMENTS / "parity.txt"]
    sources, build = env.REQUIREMENTS / "parity-sources.txt", env.CONSTRAINTS / "build.txt"
    stamp = Stamp(folder, [constraints, *requirements, sources, build, env.ROOT / "pyproject.toml", Path(__file__)])
    if stamp.matches():
        return
    with Progress(f"the http provider's tests into {folder.relative_to(env.ROOT)}"):
        make_environment(folder, choose_python(env.CELLS[env.MAIN_AIRFLOW]))
        install_package(folder, [constraints], requirements)
        unpack_sources(sources, folder / "sources")
    stamp.write()


def unpack_sources(requirements: Path, folder: Path) -> None:
    """Download source distributions, held against their hashes, and unpack them."""
    with tempfile.TemporaryDirectory() as downloads:
        pip = [str(env.environment("tools") / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        # pip builds the metadata of what it downloads: by this tool, whose hash is known as well.
        pins = [pin for pin in (env.CONSTRAINTS / "build.txt").read_text().split() if pin.startswith("flit-core==")]
        tool = hashes.write_hashed(Path(downloads, "tool.txt"), pins)
        run([*pip, "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(tool)], "install flit-core")
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", downloads]
        download = [*pip, "download", "--no-build-isolation", *options, "--requirement", str(requirements)]
        run(download, f"download {requirements.name}")
        for archive in Path(downloads).glob("*.tar.gz"):
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")


def set_up_fleet() -> None:
    """The main Airflow with Celery workers, and with users in a database."""
    folder, version = env.environment("fleet"), env.airflow_version_of(env.MAIN_AIRFLOW)
    constraints = [env.CONSTRAINTS / f"airflow-{env.MAIN_AIRFLOW}.txt", env.CONSTRAINTS / "fleet.txt"]
    requirements = [env.REQUIREMENTS / "test.txt", env.REQUIREMENTS / "fleet.txt"]
    stamp = Stamp(folder, [*constraints, *requirements, env.ROOT / "pyproject.toml", Path(__file__)])
    if stamp.matches():
        return
    with Progress(f"Airflow {version} with Celery into {folder.relative_to(env.ROOT)}"):
        make_environment(folder, choose_python(env.CELLS[env.MAIN_AIRFLOW]))
        install_package(folder, constraints, requirements)
    stamp.write()


def set_up_servers() -> None:
    """OpenBao, Node.js, PostgreSQL, django-oauth-toolkit and moto, in one environment."""
    set_up_pinned("servers", "the servers")


def set_up_pinned(name: str, what: str) -> None:
    """An environment of its own with what `requirements/<name>.txt` lists, pinned in `constraints/<name>.txt`."""
    folder = env.environment(name)
    inputs = [env.CONSTRAINTS / f"{name}.txt", env.REQUIREMENTS / f"{name}.txt", Path(__file__)]
    stamp = Stamp(folder, inputs)
    if stamp.matches():
        return
    with Progress(f"{what} into {folder.relative_to(env.ROOT)}"):
        make_environment(folder, choose_python(env.Cell(env.NEWEST_PYTHON_OF_SERVERS)))
        install(folder, [inputs[0]], [inputs[1]])
    stamp.write()


def set_up_authorization_server() -> None:
    """`oidc-provider` and what it needs, by the npm that pip brought, from the lock file."""
    source = env.AUTHORIZATION_SERVER
    modules = source / "node_modules"
    stamp = Stamp(modules, [source / "package.json", source / "package-lock.json", Path(__file__)])
    if stamp.matches():
        return
    with Progress("oidc-provider into tests/servers/authorization_server/node_modules"):
        command = [str(env.node()), str(env.npm_script()), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        variables = dict(os.environ, PATH=f"{env.node().parent}{os.pathsep}{os.environ.get('PATH', '')}")
        run([*command, "--omit-lockfile-registry-resolved"], "npm ci", cwd=source, variables=variables)
    stamp.write()


def choose_python(cell: env.Cell) -> str:
    """The interpreter of a cell: the one that it wants, this one, or the newest that its Airflow takes."""
    this, newest, oldest = sys.version_info[:2], cell.newest_python, env.OLDEST_PYTHON
    downwards = [(3, minor) for minor in range(newest[1], oldest[1] - 1, -1)]
    wanted = [cell.python or this, *([this] if this <= newest else []), *downwards]
    for version in wanted:
        if found := env.find_python(version):
            return found
    # There is none: uv fetches one where the network lets it.
    return f">=3.{oldest[1]},<3.{newest[1] + 1}"


def make_environment(folder: Path, python: str) -> None:
    """An empty environment on `python`."""
    shutil.rmtree(folder, ignore_errors=True)
    what = f"make {folder} (it needs Python {python}: install it)"
    run([uv(), "venv", "--quiet", "--no-project", "--python", python, str(folder)], what)


def install_package(folder: Path, constraints: Sequence[Path], requirements: Sequence[Path], *what: str) -> None:
    """Install what this package and `requirements` need, and the package itself.

    :param what: the package, as options of `uv pip install`; by default this checkout, editable.
    """
    install(folder, constraints, [*requirements, env.ROOT / "pyproject.toml"])
    with tempfile.TemporaryDirectory() as lists:
        options = ["--no-deps", *build_options(Path(lists)), *(what or ("--editable", str(env.ROOT)))]
        run([*uv_pip(folder, "install"), *options], f"install this package into {folder}")


def install(folder: Path, constraints: Sequence[Path], requirements: Sequence[Path]) -> None:
    """Install `requirements` as `constraints` pin them, each file held against its hash."""
    with tempfile.TemporaryDirectory() as lists:
        tools = build_options(Path(lists))
        pinned = [word for path in constraints for word in ("--constraints", str(path))]
        options = ["--no-header", "--no-annotate", *tools, *pinned, *map(str, requirements)]
        resolved = run([*uv_pip(folder, "compile"), *options], f"resolve what {folder} needs")
        hashed = hashes.write_hashed(Path(lists, "requirements.txt"), resolved.split())
        options = ["--no-deps", "--require-hashes", *tools, "--requirements", str(hashed)]
        run([*uv_pip(folder, "install"), *options], f"install into {folder}")


def uv_pip(folder: Path, command: str) -> list[str]:
    return [uv(), "pip", command, "--quiet", "--python", str(folder / "bin" / "python")]


def build_options(folder: Path) -> list[str]:
    """What holds the tools by which source distributions are built; the list goes into `folder`."""
    pins = (env.CONSTRAINTS / "build.txt").read_text().split()
    return ["--build-constraints", str(hashes.write_hashed(folder / "build.txt", pins))]


def uv() -> str:
    return str(env.environment("tools") / "bin" / "uv")


def run(command: Sequence[str], what: str, cwd: Path = env.ROOT, variables: dict[str, str] | None = None) -> str:
    """Run `command` without input, and return its output; it is shown only when it fails."""
    variables = dict(os.environ if variables is None else variables)
    variables.pop("VIRTUAL_ENV", None)
    for attempt in (1, 2, 3):
        done = subprocess.run(command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
        if attempt < 3:  # a package index that hiccups is the usual cause
            time.sleep(2 * attempt)
    raise SetupError(f"could not {what}: {' '.join(command)}\n{done.stdout}{done.stderr}")


class Stamp:
    """Says whether a folder was made from exactly these inputs by this Python."""

    def __init__(self, folder: Path, inputs: Sequence[Path], python: str = sys.executable) -> None:
        self._path = folder / ".stamp"
        self._wanted = json.dumps(
            {
                "python": [python, *sys.version_info[:3]],
                "folder": str(folder),
                "inputs": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in inputs},
            },
            sort_keys=True,
        )

    def matches(self) -> bool:
        return self._path.is_file() and self._path.read_text() == self._wanted

    def write(self) -> None:
        self._path.write_text(self._wanted)


class Progress:
    """One line that says what is being done and how long it took."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._started = time.monotonic()
        print(f"setup: {self._what} ...", flush=True)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            print(f"setup: done in {time.monotonic() - self._started:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
