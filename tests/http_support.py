"""For the tests of operator, sensor and trigger: a connection to a scripted server, its tokens kept in memory."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from types import SimpleNamespace

from airflow_oauth_provider.connection import loader
from airflow_oauth_provider.exceptions import StaleVersion
from airflow_oauth_provider.tokens.record import StoredRecord

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # before Airflow 3.2
    from airflow.exceptions import TaskDeferred

CONN_ID = "api"
CONTEXT = {
    "ti": SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=1),
    "params": {"who": "me"},
}


class Memory:
    """A store with compare-and-set."""

    name = "memory"

    def __init__(self):
        self.record = None
        #: What people keep beside the record.
        self.kept = None
        self.version = 0
        self.lock = threading.Lock()

    def read(self):
        with self.lock:
            return StoredRecord(self.record, str(self.version) if self.record else None, kept=self.kept)

    def write(self, record, *, if_version):
        with self.lock:
            if if_version != (str(self.version) if self.record else None):
                raise StaleVersion("the store holds another version")
            self.record = record
            self.version += 1
            return str(self.version)


def connect(monkeypatch, server, *, host=None, **extra):
    """Make the connection CONN_ID to ``server``, with a grant of its own."""
    store = Memory()
    monkeypatch.setattr(loader, "open_store", lambda *_, **__: store)
    defaults = {
        "oauth_url": server.token_url,
        "refresh_token": server.issue(),
        "store": "variable",
        "leeway": 0.2,
        "timeout": 5,
    }
    if server.certificates is not None:
        defaults["verify"] = server.ca_file
    connection = {
        "conn_type": "oauth2",
        "host": server.api_url if host is None else host,
        "login": server.client_id,
        "password": server.client_secret,
        "extra": {**defaults, **extra},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    return store


def api_calls(server, path="/api"):
    return server.requests_to(path)


def ids_of(document):
    return [item["id"] for item in document["items"]]


def run_trigger(trigger):
    """Run a trigger as the triggerer does: made anew of its serialized form, on an event loop in debug mode.

    :return: its event, after a trip through JSON.
    """
    from importlib import import_module

    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    arguments = json.loads(json.dumps(arguments))
    made = getattr(import_module(module), name)(**arguments)

    async def first():
        (payload,) = [event.payload async for event in made.run()]
        return payload

    return json.loads(json.dumps(asyncio.run(first())))


def run_deferred(operator, context=CONTEXT, *, most=50):
    """Run a deferrable operator to its end, with its triggers.

    :return: what it returns, and the triggers.
    """
    triggers = []
    method, arguments = operator.execute, {}
    for _ in range(most):
        try:
            return method(context, **arguments), triggers
        except TaskDeferred as deferred:
            triggers.append(deferred.trigger)
            arguments = {**json.loads(json.dumps(deferred.kwargs or {})), "event": run_trigger(deferred.trigger)}
            method = getattr(operator, deferred.method_name)
    raise AssertionError("deferred for ever")


@contextmanager
def proxy_to(server):
    """Yield the URL of an HTTP proxy, and the list of what it was asked for."""
    import socketserver
    from http.client import HTTPConnection
    from http.server import BaseHTTPRequestHandler

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            upstream = HTTPConnection("127.0.0.1", server.port)
            upstream.request("GET", self.path, headers=dict(self.headers))
            answer = upstream.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            upstream.close()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}", asked
        proxy.shutdown()
