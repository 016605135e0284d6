"""As much of Azure Key Vault as its secrets take: TLS, the challenge, versions, soft delete, throttling on request."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

from tests.servers.scripted import Answer, Received, ScriptedServer

TOKEN = "an-entra-id-token"


class KeyVault(ScriptedServer):
    def __init__(self) -> None:
        super().__init__(tls=True)
        self.values: dict[str, list[str]] = {}
        self.refuse: dict[str, int] = {}
        self.routes = {"/secrets": self._secrets}
        self._mutex = threading.Lock()

    def put(self, **values: str) -> None:
        for name, value in values.items():
            self.values.setdefault(name.replace("_", "-"), []).append(value)

    def value(self, name: str) -> str | None:
        return self.values[name][-1] if name in self.values else None

    def _secrets(self, request: Received) -> Answer:
        name = request.path.split("/")[2]
        assert request.query["api-version"].startswith(("7.", "20"))
        if request.header("Authorization") != f"Bearer {TOKEN}":
            challenge = 'Bearer authorization="https://login.example.com/tenant", resource="https://vault.azure.net"'
            return Answer(401, _error("Unauthorized"), {"WWW-Authenticate": challenge})
        status = self.refuse.get(f"{request.method} {name}")
        if status:
            return Answer(status, _error("Refused", f"you sent {request.body!r}"))
        with self._mutex:
            if request.method == "PUT":
                self.values.setdefault(name, []).append(request.json()["value"])
            elif name not in self.values:
                return Answer(404, _error("SecretNotFound"))
            return Answer(200, self._bundle(name))

    def _bundle(self, name: str) -> dict[str, Any]:
        number = f"{len(self.values[name]):032x}"
        now = int(time.time())
        return {
            "value": self.values[name][-1],
            "id": f"{self.url}/secrets/{name}/{number}",
            "attributes": {"enabled": True, "created": now, "updated": now, "recoveryLevel": "Recoverable"},
        }


def _error(code: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "innererror": {"code": secrets.token_hex(4)}}}
