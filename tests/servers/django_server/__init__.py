"""`django-oauth-toolkit`: rotation with a native grace period, and access tokens that die at the refresh.

    with DjangoServer(grace_period=60) as server:
        tokens = sign_in(server)                       # tests.servers.sign_in
        server.token_url, server.api_url, server.client("basic")

Within the grace period a used refresh token gives the same new tokens again. Beyond it, with
`reuse_protection`, it takes the whole family of tokens with it. A refresh kills the old access token at once, so
a request that is under way with it meets a 401.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import requests

from scripts.environments import clean_environ, python_of
from tests.servers.authorization_server import REDIRECT_URI, Client
from tests.servers.processes import Process, Server, wait_until

HERE = Path(__file__).resolve().parent


class DjangoServer(Server):
    """Times are seconds; `configure(access_token_lifetime=1)` changes them while it runs."""

    name = "django-server"
    ca_file: str | None = None

    def __init__(
        self,
        *,
        access_token_lifetime: int = 3600,
        grace_period: int = 0,
        reuse_protection: bool = True,
        rotate: bool = True,
        pages: int = 5,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "access_token_lifetime": access_token_lifetime,
            "grace_period": grace_period,
            "reuse_protection": reuse_protection,
            "rotate": rotate,
            "pages": pages,
        }
        self.url = ""
        self._clients = {
            "basic": Client("basic", "airflow-basic", "client_secret_basic", f"s3cret:+/ %&={secrets.token_hex(16)}"),
            "post": Client("post", "airflow-post", "client_secret_post", f"s3cret:+/ %&={secrets.token_hex(16)}"),
            "public": Client("public", "airflow-public", "none"),
            "password": Client("password", "airflow-password", "client_secret_basic", secrets.token_hex(16)),
        }
        self.session = requests.Session()
        self.session.trust_env = False

    @property
    def token_url(self) -> str:
        return f"{self.url}/o/token/"

    @property
    def authorization_url(self) -> str:
        return f"{self.url}/o/authorize/"

    @property
    def revocation_url(self) -> str:
        return f"{self.url}/o/revoke_token/"

    @property
    def introspection_url(self) -> str:
        return f"{self.url}/o/introspect/"

    @property
    def api_url(self) -> str:
        """The protected API's base: `/items?page=1` below it."""
        return f"{self.url}/api"

    def client(self, name: str = "basic") -> Client:
        """One of "basic", "post", "public", and "password" for the grant of that name (user `test-user`).

        For Django basic and post are one kind: it takes either.
        """
        return self._clients[name]

    def stats(self) -> dict[str, int]:
        """`spends`, `reuses`, `token_requests`, `api_requests`."""
        counts: dict[str, int] = self._control("stats")
        return counts

    def token_log(self) -> list[dict[str, Any]]:
        """Each request to the token endpoint: grant type, fingerprints, status, error, reuse."""
        entries: list[dict[str, Any]] = self._control("log")
        return entries

    def configure(self, **settings: Any) -> None:
        """Change settings while it runs."""
        if unknown := settings.keys() - self.settings.keys():
            raise ValueError(f"unknown settings: {sorted(unknown)}")
        self.settings |= settings
        self._control("settings", settings)

    def _control(self, what: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.session.post(f"{self.url}/_rig/{what}", json=body or {}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _launch(self) -> None:
        settings = self.folder / "settings.json"
        ready = self.folder / "ready.json"
        settings.touch(0o600)
        clients = [
            {"name": c.name, "client_id": c.client_id, "client_secret": c.client_secret, "redirect_uri": REDIRECT_URI}
            for c in self._clients.values()
        ]
        settings.write_text(json.dumps({**self.settings, "clients": clients, "folder": str(self.folder)}))
        command = [python_of("servers"), HERE / "serve.py", settings, ready]
        self.process = Process(self.name, command, self.log, clean_environ(), cwd=self.folder)
        wait_until(ready.exists, 60, "django-oauth-toolkit listens", self.process, every=0.05)
        self.url = json.loads(ready.read_text())["url"]
