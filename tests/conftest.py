"""For all tests: a clean environment, Airflow's deprecations as errors, no network for the unit tests, no skips."""

import contextlib
import importlib.metadata
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
# Airflow reads its configuration when it is first imported: before that, in this file, it must be in place.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
SKIPS_THAT_ARE_RIGHT = "only on Airflow"


def _clean_environment():
    """Nothing of the machine's settings reaches a test: connections, CA bundles, proxies."""
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "VAULT_", "BAO_", "AWS_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONDONTWRITEBYTECODE"):
        os.environ.pop(name, None)
    os.environ.update(
        AIRFLOW_HOME=str(AIRFLOW_HOME),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(AIRFLOW_HOME / "dags"),
        AIRFLOW__CORE__FERNET_KEY="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{AIRFLOW_HOME}/airflow.db",
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
        AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY="True",  # Airflow 2.11 warns at its import without it
        # What connections may name is tested by test_allowed_places, with the defaults.
        AIRFLOW__OAUTH2__ALLOWED_FOLDERS="/",
        AIRFLOW__OAUTH2__ALLOWED_SECRETS="*",
        AIRFLOW__OAUTH2__ALLOWED_CONNECTIONS="*",
        AIRFLOW__OAUTH2__ALLOWED_ENDPOINTS="*.vault.azure.net, *, 127.0.0.1:*, localhost:*",
        SCARF_ANALYTICS="false",
        DO_NOT_TRACK="1",
    )


_clean_environment()


def pytest_configure(config):
    airflow_2 = importlib.metadata.version("apache-airflow").startswith("2.")
    removed = f"airflow.exceptions.RemovedInAirflow{3 if airflow_2 else 4}Warning"
    provider = "airflow.exceptions.AirflowProviderDeprecationWarning"
    # The later line wins. What Airflow's own modules do among themselves is not for this package to mend.
    for line in (
        f"error::{removed}",
        f"error::{provider}",
        rf"default::{removed}:airflow\.",
        rf"default::{provider}:airflow\.",
        "error::Warning:airflow_oauth_provider",
    ):
        config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker runs the e2e tests, one file after the other: they share an Airflow, the dearest server of all."""
    from xdist.scheduler import LoadFileScheduling

    class FilesAndE2E(LoadFileScheduling):
        def _split_scope(self, nodeid):
            scope = super()._split_scope(nodeid)
            return "tests/e2e" if scope.startswith("tests/e2e/") else scope

    return FilesAndE2E(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_unconfigure():
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A skipped test is a failed one: a part that is missing must not go unnoticed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if SKIPS_THAT_ARE_RIGHT not in reason:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped, which counts as failed here. {reason}"
    return report


@pytest.fixture(autouse=True)
def _no_network_for_unit_tests(request, monkeypatch):
    if (TESTS / "unit") not in request.path.parents:
        return

    def refuse(what):
        # Not an OSError: the code under test would take it for a server that is down.
        pytest.fail(f"a unit test tried to reach {what}", pytrace=True)

    def guarded(original):
        def connect(self, address):
            if self.family != socket.AF_UNIX:
                refuse(address)
            return original(self, address)

        return connect

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_args, **_kwargs: refuse(host))


@pytest.fixture(autouse=True)
def _no_leftover_environment():
    """What a test sets in the environment goes with it, even when it did so without monkeypatch."""
    before = dict(os.environ)
    yield
    with contextlib.suppress(KeyError):
        for name in os.environ.keys() - before.keys():
            if not name.startswith("PYTEST_"):
                del os.environ[name]
    os.environ.update({k: v for k, v in before.items() if not k.startswith("PYTEST_")})
