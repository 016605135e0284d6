"""Stands between Airflow and a real authorization server: passes everything on, keeps everything that it saw.

    with AuthorizationServer() as server, Recorder(server) as recorder:
        tokens = sign_in(recorder)               # the code is exchanged through the recorder
        ...                                      # connections: recorder.token_url, recorder.api_url
        recorder.secrets()                       # every token that was issued, every authorization code

For tests that look for leaks, and for what really goes over the wire.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import requests

from tests.servers.authorization_server import AuthorizationServer
from tests.servers.scripted import Answer, Received, ScriptedServer

_HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"}
_SECRET_PARAMETERS = ("code", "code_verifier", "refresh_token", "client_secret", "client_assertion")
_SECRET_MEMBERS = ("access_token", "refresh_token", "id_token")


class Recorder(ScriptedServer):
    """Forwards `/token` and `/api` to `upstream`. `requests` and `requests_to` have all that was received."""

    def __init__(self, upstream: AuthorizationServer) -> None:
        super().__init__()
        self.upstream = upstream
        self.routes = {"/token": self._forward, "/api": self._forward}
        self._issued: set[str] = set()

    # What a sign-in needs to know of its server (tests.servers.sign_in.ServerLike)

    @property
    def authorization_url(self) -> str:
        return self.upstream.authorization_url

    ca_file = None  # type: ignore[assignment]

    def client(self, name: str = "basic") -> Any:
        return self.upstream.client(name)

    # What was seen

    def secrets(self) -> set[str]:
        """Every token and authorization code that passed, and every secret that a client sent."""
        return self._issued | {value for request in self.requests for value in _secrets_in(request)}

    def _forward(self, request: Received) -> Answer:
        with requests.Session() as http:
            http.trust_env = False
            answer = http.request(
                request.method,
                self.upstream.url + request.target,
                headers={name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP},
                data=request.body,
                allow_redirects=False,
                timeout=60,
            )
        if request.path == "/token":
            self._issued.update(_tokens_in(answer.content))
        # Links point to where they came from, and the client has to come back by way of this server.
        body = answer.content.replace(self.upstream.url.encode(), self.url.encode())
        headers = {
            name: value.replace(self.upstream.url, self.url)
            for name, value in answer.headers.items()
            if name.lower() not in {*_HOP_BY_HOP, "content-encoding", "date"}
        }
        return Answer(answer.status_code, body, headers)


def _tokens_in(body: bytes) -> Iterator[str]:
    try:
        answer = json.loads(body)
    except ValueError:
        return
    for name in _SECRET_MEMBERS:
        if isinstance(answer, dict) and isinstance(answer.get(name), str):
            yield answer[name]


def _secrets_in(request: Received) -> Iterator[str]:
    if request.path == "/token":
        yield from (value for name, value in request.form.items() if name in _SECRET_PARAMETERS)
    scheme, _, credentials = (request.header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        yield credentials
    elif scheme.lower() == "basic":
        # As sent, as decoded, as percent-encoded: any of these in a log would be a leak.
        secret = base64.b64decode(credentials).decode().partition(":")[2]
        yield from (credentials, secret, unquote_plus(secret))
