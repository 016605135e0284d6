"""What the benchmarks share: Airflow kept quiet, two connections to the same server, medians."""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOKEN = "benchmark-token"
ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def airflow_home() -> Iterator[None]:
    """Make an empty AIRFLOW_HOME, for this process and those that it starts."""
    with tempfile.TemporaryDirectory(prefix="bench-airflow-") as home:
        bundles = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
        for name in list(os.environ):
            if name.startswith("AIRFLOW") or name.lower().endswith("_proxy") or name in bundles:
                del os.environ[name]
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY": "True",
            "AIRFLOW__CORE__FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        }
        yield


def connect(url: str, ca_file: str | None) -> None:
    """Make the connections `stock` (http, with a fixed header) and `oauth2`, with a token that is good for hours."""
    verify = {"verify": ca_file} if ca_file else {}
    stock = {"conn_type": "http", "host": url, "extra": {"Authorization": f"Bearer {TOKEN}", **verify}}
    tokens = {"refresh_token": "never-spent", "access_token": TOKEN, "expires_at": "2100-01-01T00:00:00Z"}
    extra = {"oauth_url": f"{url}/token", "store": "variable", **tokens, **verify}
    oauth2 = {"conn_type": "oauth2", "host": url, "login": "id", "password": "secret", "extra": extra}
    os.environ["AIRFLOW_CONN_STOCK"] = json.dumps(stock)
    os.environ["AIRFLOW_CONN_OAUTH2"] = json.dumps(oauth2)
    if ca_file:
        os.environ["AIRFLOW__OAUTH2__ALLOWED_FOLDERS"] = str(Path(ca_file).parent)
        os.environ["SSL_CERT_FILE"] = ca_file  # aiohttp in the stock trigger knows no other way


def be_quiet() -> None:
    """Measure the work, not the log; tokens are kept in memory, since no Airflow is running."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    from airflow_oauth_provider.connection import loader
    from airflow_oauth_provider.tokens.record import StoredRecord

    class Memory:
        name = "memory"
        record: Any = None
        lock = threading.Lock()

        def read(self) -> StoredRecord:
            return StoredRecord(self.record, None if self.record is None else "1")

        def write(self, record: Any, *, if_version: str | None) -> str:  # noqa: ARG002
            self.record = record
            return "1"

    store = Memory()
    loader.open_store = lambda *_args, **_options: store  # type: ignore[assignment]
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def in_turn(rounds: int, ways: dict[str, Callable[[], tuple[float, ...]]]) -> dict[str, list[float]]:
    """Run each of `ways` once a round, and return the medians of what they return: load hits all alike."""
    results: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            results[name].append(way())
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in results.items()}


def run_python(module: str, *arguments: object, python: Path | str = sys.executable) -> Any:
    """Run `python -m module` afresh, and return what it prints, as JSON."""
    command = [str(python), "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
