"""Runs the http provider's own tests against this package's classes.

The tests' own ``conftest.py`` loads this module by its name. It puts our classes in the places of those that the tests
import, makes each connection that a test defines an ``oauth2`` connection with a token that is good for years, and
expects the differences of ``differences.toml`` to fail, each for a reason. Another failure is a step back from the
operator that ours replaces; one of them that passes has to leave the list.
"""

from __future__ import annotations

import fnmatch
import json
import os
import tempfile
import tomllib
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="parity-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import airflow.providers.http.hooks.http as peer_hooks
import airflow.providers.http.operators.http as peer_operators
import airflow.providers.http.sensors.http as peer_sensors
import pytest
import structlog
from airflow.models import Connection
from airflow.sdk import DAG

from airflow_oauth_provider.compat import connections
from airflow_oauth_provider.compat.connections import FoundConnection
from airflow_oauth_provider.connection import loader
from airflow_oauth_provider.hooks import oauth2
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.sensors.http import OAuth2HttpSensor
from airflow_oauth_provider.triggers.http import OAuth2HttpSensorTrigger, OAuth2HttpTrigger
from tests.http_support import Memory

#: Seconds after which a sensor gives up whose test names no time.
PATIENCE = timedelta(seconds=8)
#: HttpHook's options, which an ``oauth2`` connection has by the same names; other extras are headers there.
OPTIONS = {
    *("stream", "cert", "proxies", "proxy", "timeout", "verify", "verify_ssl", "allow_redirects", "max_redirects"),
    *("trust_env", "check_response", "srv_lookup"),
}


class PeerHook(OAuth2Hook):
    default_conn_name = "http_default"


class PeerOperator(OAuth2HttpOperator):
    def __init__(self, *, http_conn_id="http_default", **arguments):
        super().__init__(http_conn_id=http_conn_id, **arguments)


class PeerSensor(OAuth2HttpSensor):
    def __init__(self, *, http_conn_id="http_default", **arguments):
        super().__init__(http_conn_id=http_conn_id, **arguments)


#: What is put in the places of the provider's classes.
OURS = (
    (peer_hooks, "HttpHook", PeerHook),
    (oauth2, "OAuth2Hook", PeerHook),
    (peer_operators, "HttpOperator", PeerOperator),
    (peer_sensors, "HttpSensor", PeerSensor),
)
#: The triggers of the provider are tested as well, and with aiohttp's inside: only who defers gets ours.
OUR_TRIGGERS = {"HttpTrigger": OAuth2HttpTrigger, "HttpSensorTrigger": OAuth2HttpSensorTrigger}


def pytest_addoption(parser):
    parser.addoption("--stock", action="store_true", help="leave the provider's classes where they are")


def pytest_configure(config):
    # Tasks log by structlog; the tests look at what the standard library gets.
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_args_and_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    if not config.getoption("stock"):
        for module, name, kind in OURS:
            setattr(module, name, kind)


def as_oauth2(connection):
    """Return what a person would make of an ``http`` connection."""
    extra = connection.extra_dejson
    host = connection.host or ""
    if host and "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    known = {name: value for name, value in extra.items() if name in OPTIONS}
    headers = {name: value for name, value in extra.items() if name not in OPTIONS and isinstance(value, str)}
    tokens = {"refresh_token": "never-spent", "access_token": "parity", "expires_at": "2100-01-01T00:00:00Z"}
    return Connection(
        conn_id=connection.conn_id,
        conn_type="oauth2",
        host=host,
        port=connection.port,
        login=connection.login or "client",
        password=connection.password or "secret",
        extra=json.dumps(
            {"oauth_url": "https://login.example.com/token", "allow_http": True, "headers": headers, **tokens, **known}
        ),
    )


@pytest.fixture(autouse=True)
def _oauth2_connections(monkeypatch, request):
    default = Connection(conn_id="http_default", conn_type="http", host="https://www.httpbin.org/")
    monkeypatch.setenv("AIRFLOW_CONN_HTTP_DEFAULT", default.as_json())
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if request.config.getoption("stock"):
        return
    monkeypatch.setattr(
        connections, "find_connection", lambda name: FoundConnection(as_oauth2(PeerHook.get_connection(name)))
    )
    monkeypatch.setattr(loader, "open_store", lambda *_, **__: Memory())


@pytest.fixture
def create_connection_without_db(monkeypatch):
    return lambda made: monkeypatch.setenv(f"AIRFLOW_CONN_{made.conn_id.upper()}", made.as_json())


@pytest.fixture
def create_task_of_operator():
    def create(kind, *, dag_id, **arguments):
        return kind(**{"timeout": PATIENCE.total_seconds(), **arguments})

    return create


@pytest.fixture
def dag_maker():
    return SimpleNamespace(dag=SimpleNamespace(get_task=None))


@pytest.fixture
def create_task_instance_of_operator(create_task_of_operator, dag_maker, request):
    def create(kind, **arguments):
        task = create_task_of_operator(kind, **arguments)
        dag_maker.dag.get_task = lambda _: task
        context = {"logical_date": request.module.DEFAULT_DATE}
        return SimpleNamespace(task_id=task.task_id, get_template_context=lambda: context)

    return create


@pytest.fixture
def run_task():
    raise NotImplementedError("runs a task by Airflow's task runner")


@pytest.fixture
def create_dag_without_db():
    return lambda dag_id: DAG(dag_id, schedule=None)


def pytest_collection_modifyitems(config, items):
    if config.getoption("stock"):
        return
    differences = tomllib.loads((Path(__file__).parent.parent / "differences.toml").read_text())
    unused = {(group, pattern) for group, found in differences.items() for pattern in found["tests"]}
    for item in items:
        name = item.nodeid.rpartition("unit/http/")[2]
        for trigger, ours in OUR_TRIGGERS.items():
            if not name.startswith("triggers") and hasattr(item.module, trigger):
                setattr(item.module, trigger, ours)
        for group, found in differences.items():
            for pattern in found["tests"]:
                if fnmatch.fnmatchcase(name, pattern.replace("[", "[[]")):
                    unused.discard((group, pattern))
                    reason, run = f"{group}: {found['reason']}", found.get("run", True)
                    item.add_marker(pytest.mark.xfail(reason=reason, run=run, strict=True))
    if unused and len(items) > 100:
        raise pytest.UsageError(f"differences.toml names tests that are not there: {sorted(unused)}")
