"""The plugin's routes on a real HTTP server of loopback, with a metadata database in a file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from fastapi import FastAPI
from sqlalchemy import update

from airflow_oauth_provider.api_server import routes
from airflow_oauth_provider.api_server.routes import Throttle
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.stores import record_key
from airflow_oauth_provider.stores.record_key import URL_PREFIX
from airflow_oauth_provider.stores.record_route import RecordRoute, ServerAddress
from tests.servers.processes import LOOPBACK, free_port
from tests.unit.store_fakes import Database, database

KEY, OTHER_KEY = "k" * 43, "o" * 43


class RouteServer:
    """The server, its database, and what it noted in the audit log."""

    def __init__(self, port: int, made: Database) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.database = made
        self.audited: list[tuple[str, str]] = []

    @property
    def route(self) -> RecordRoute:
        return RecordRoute(ServerAddress(self.url, "[oauth2] api_url"))

    def add(self, conn_id: str, key: str | None = KEY, conn_type: str = "oauth2", **members: Any) -> None:
        extra = {"oauth_url": "https://as/token", **members, **({} if key is None else {"token_record_key": key})}
        self.add_text(conn_id, json.dumps(extra), conn_type)

    def add_text(self, conn_id: str, extra: str, conn_type: str = "oauth2") -> None:
        self.database.add_connection(conn_id, extra)
        table = self.database.connections
        with self.database.engine.begin() as transaction:
            transaction.execute(update(table).where(table.c.conn_id == conn_id).values(conn_type=conn_type))

    def extra(self, conn_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.database.extra(conn_id) or "{}")
        return found

    def put(self, conn_id: str, body: Any, key: str = KEY, *, now: float | None = None, **changed: Any) -> Any:
        """Send a request; ``changed`` has what is done to it after it was signed."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = record_key.sign_request(key, "PUT", conn_id, content, now=time.time() if now is None else now)
        headers = {**signature.headers(), **changed.get("headers", {})}
        url = f"{self.url}{URL_PREFIX}/connections/{changed.get('sent_to', conn_id)}/token-record"
        return requests.put(url, data=changed.get("content", content), headers=headers, timeout=30)

    def swap(self, conn_id: str, record: Any, before: Any = None, key: str = KEY) -> bool:
        old = None if before is None else version_of(before.to_json())
        return self.route.put_record(conn_id, key, record.to_json(), old)


@contextmanager
def route_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RouteServer]:
    """Serve the routes; failures are counted anew."""
    with database(folder, monkeypatch) as made:
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", list)
        monkeypatch.setattr(routes, "_failures", Throttle(burst=20, rate=0.0))
        monkeypatch.setattr(routes, "_requests", Throttle(burst=20, rate=0.0))
        port = free_port()
        found = RouteServer(port, made)
        monkeypatch.setattr(routes, "_audit", lambda conn_id, task: found.audited.append((conn_id, task)))
        app = FastAPI()
        app.mount(URL_PREFIX, routes.create_app())
        server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield found
        finally:
            server.should_exit = True
            thread.join()
