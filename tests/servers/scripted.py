"""A server whose answers a test scripts: an authorization server and the API that it protects, in one.

    with ScriptedServer(lifetime=5) as server:
        refresh_token = server.issue()
        server.faults.append(Fault(reset=True, works=True))     # rotates, then resets the connection
        ...                                                     # server.token_url, server.api_url
        assert (server.spends, server.reuses) == (1, 0)

`ScriptedProcess` is the same in a process of its own, for benchmarks and soaks.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote_plus

from tests.servers.processes import Process, Server, remove_folder, temporary_folder, wait_until
from tests.servers.scripted_grants import Grants, Json, Rules, Spend, fingerprint
from tests.servers.scripted_http import Answer, Fault, Listener, Received
from tests.servers.scripted_tls import Certificates

__all__ = ["Answer", "Fault", "Received", "Rules", "ScriptedProcess", "ScriptedServer", "fingerprint"]

Route = Callable[[Received], Answer]
AuthMethod = Literal["client_secret_basic", "client_secret_post", "none", "any"]


class ScriptedServer:
    """Token endpoint `/token`, revocation, introspection, discovery, and a paged API below `/api`.

    `rules` says how strict it is (see `Rules`; its fields may be given here too, and changed while it runs).
    `faults` are taken in order by the requests that they fit. `requests` holds everything received.
    """

    def __init__(
        self,
        tls: bool = False,
        *,
        client_certificates: bool = False,
        client_id: str = "airflow",
        client_secret: str = "s3cret:+/ %&ü",
        auth_method: AuthMethod = "any",
        pages: int = 10,
        page_bytes: int = 0,
        **rules: Any,
    ) -> None:
        self.rules = Rules(**rules)
        self.grants = Grants(self.rules)
        self.client_id = client_id
        self.client_secret = client_secret
        self.auth_method: AuthMethod = auth_method
        self.pages = pages
        self.page_bytes = page_bytes
        self.faults: list[Fault] = []
        self.requests: list[Received] = []
        self.recording = True
        self.received = 0
        self.routes: dict[str, Route] = {
            "/token": self._token,
            "/revoke": self._revoke,
            "/introspect": self._introspect,
            "/.well-known/oauth-authorization-server": self._metadata,
            "/.well-known/openid-configuration": self._metadata,
            "/api/items": self._items,
            "/api/echo": self._echo,
            "/api/redirect": self._redirect,
        }
        self._tls = tls
        self._client_certificates = client_certificates
        self._folder: Path | None = None
        self._listener: Listener | None = None
        self._lock = threading.Lock()
        self.certificates: Certificates | None = None
        self.port = 0

    # Where it is

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    issuer = url

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def api_url(self) -> str:
        """The base URL of the protected API: `/items?page=1` below it, and `/echo`."""
        return f"{self.url}/api"

    @property
    def ca_file(self) -> str:
        """The CA bundle to trust. Only with TLS."""
        if self.certificates is None:
            raise RuntimeError("this server runs without TLS, or is not started")
        return str(self.certificates.ca_file)

    # What happened

    @property
    def spends(self) -> int:
        """How many refreshes gave tokens, without the ones that a grace period gave again."""
        return self.grants.count("rotated", "kept")

    @property
    def reuses(self) -> int:
        """How often a used refresh token was presented (outside the grace period)."""
        return self.grants.count("reuse")

    @property
    def history(self) -> list[Spend]:
        return self.grants.history

    def requests_to(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path.startswith(path)]

    def issue(self, scope: str | None = None) -> str:
        """Sign in: a new refresh token."""
        return self.grants.issue(scope)

    def issue_tokens(self, scope: str | None = None) -> Json:
        """Sign in: the whole token answer."""
        return self.grants.issue_tokens(scope)

    # Its life

    def start(self) -> Self:
        if self._tls and self.certificates is None:
            self._folder = temporary_folder("scripted")
            self.certificates = Certificates(self._folder)
        self.resume()
        return self

    def stop(self) -> None:
        self.pause()
        if self._folder is not None:
            remove_folder(self._folder)
            self._folder = None

    def pause(self) -> None:
        """An outage: nothing listens and every connection is closed, until `resume`."""
        if self._listener is not None:
            self._listener.cut_off()
            self._listener = None

    def resume(self) -> None:
        """Listen again, on the same port as before."""
        if self._listener is not None:
            return
        context = None
        if self.certificates is not None:
            context = self.certificates.server_context(require_client=self._client_certificates)
        self._listener = Listener(self.port, self._answer, self._record, self._fault_for, context)
        self.port = self._listener.server_port
        thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, name="scripted", daemon=True
        )
        thread.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Requests

    def _record(self, request: Received) -> None:
        with self._lock:
            self.received += 1
            if self.recording:
                self.requests.append(request)

    def _fault_for(self, request: Received) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if not fault.fits(request):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    def _answer(self, request: Received) -> Answer:
        path = request.path
        while path not in self.routes and "/" in path[1:]:
            path = path.rpartition("/")[0]
        route = self.routes.get(path)
        return route(request) if route else Answer(404, {"error": "not found"})

    # The authorization server

    def _token(self, request: Received) -> Answer:
        if request.method != "POST":
            return Answer(405, {"error": "invalid_request"})
        form = {**request.query, **request.form}
        if (problem := self._client_problem(request, form)) is not None:
            return problem
        status, body = self._grant(form)
        headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
        if status == 429:
            headers["Retry-After"] = str(max(1, int(self.rules.min_interval)))
        if status == 200 and self.rules.reshape is not None:
            return Answer(status, self.rules.reshape(body), headers)
        return Answer(status, body, headers)

    def _grant(self, form: dict[str, str]) -> tuple[int, Json]:
        match form.get("grant_type"):
            case "refresh_token" if form.get("refresh_token"):
                return self.grants.refresh(form["refresh_token"])
            case "client_credentials":
                return self.grants.client_credentials(form.get("scope"))
            case "refresh_token" | None:
                return 400, {"error": "invalid_request", "error_description": "a parameter is missing"}
            case _:
                return 400, {"error": "unsupported_grant_type"}

    def _client_problem(self, request: Received, form: dict[str, str]) -> Answer | None:
        """None when the client has authenticated, else the answer that says how it has not."""
        header = request.header("Authorization") or ""
        if header.lower().startswith("basic "):
            used: str = "client_secret_basic"
            pair = base64.b64decode(header[6:]).decode()
            client_id, secret = (unquote_plus(part) for part in (pair.partition(":")[0], pair.partition(":")[2]))
        else:
            used = "client_secret_post" if form.get("client_secret") else "none"
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        allowed = self.auth_method in ("any", used)
        right = client_id == self.client_id and (used == "none" or secret == self.client_secret)
        if used == "none" and self.auth_method == "any" and self.client_secret:
            right = False
        if allowed and right:
            return None
        challenge = {"WWW-Authenticate": 'Basic realm="scripted"'} if header else {}
        return Answer(401, {"error": "invalid_client", "error_description": "client authentication failed"}, challenge)

    def _revoke(self, request: Received) -> Answer:
        if (problem := self._client_problem(request, request.form)) is not None:
            return problem
        self.grants.revoke(request.form.get("token", ""))
        return Answer(200)

    def _introspect(self, request: Received) -> Answer:
        if (problem := self._client_problem(request, request.form)) is not None:
            return problem
        token = request.form.get("token", "")
        active = self.grants.accepts(token) or self.grants.is_usable_refresh_token(token)
        return Answer(200, {"active": active, "scope": self.grants.scope_of(token)} if active else {"active": False})

    def _metadata(self, _request: Received) -> Answer:
        return Answer(
            200,
            {
                "issuer": self.url,
                "token_endpoint": self.token_url,
                "revocation_endpoint": f"{self.url}/revoke",
                "introspection_endpoint": f"{self.url}/introspect",
                "authorization_endpoint": f"{self.url}/authorize",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["refresh_token", "client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            },
        )

    # The API

    def authorized(self, request: Received) -> Answer | None:
        """None for a request with a good bearer token, else the 401."""
        kind, _, token = (request.header("Authorization") or "").partition(" ")
        if kind.lower() != "bearer" or not token:
            return Answer(401, {"error": "no token"}, {"WWW-Authenticate": 'Bearer realm="api"'})
        if not self.grants.accepts(token):
            challenge = 'Bearer realm="api", error="invalid_token", error_description="expired or revoked"'
            return Answer(401, {"error": "invalid_token"}, {"WWW-Authenticate": challenge})
        return None

    def _items(self, request: Received) -> Answer:
        if (problem := self.authorized(request)) is not None:
            return problem
        page = int(request.query.get("page", "1"))
        if page > self.pages:
            return Answer(200, {"items": [], "page": page, "next": None})
        following = f"{self.api_url}/items?page={page + 1}" if page < self.pages else None
        items: list[Json] = [{"id": (page - 1) * 10 + n, "name": f"item {n} of page {page}"} for n in range(10)]
        body: Json = {"items": items, "page": page, "pages": self.pages, "next": following}
        if self.page_bytes:
            body["padding"] = "x" * max(0, self.page_bytes - len(json.dumps(body)) - 15)
        return Answer(200, body, {"Link": f'<{following}>; rel="next"'} if following else {})

    def _echo(self, request: Received) -> Answer:
        """What was received, but for the credentials."""
        if (problem := self.authorized(request)) is not None:
            return problem
        headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
        body = request.body.decode(errors="replace")
        return Answer(200, {"method": request.method, "query": request.query, "headers": headers, "body": body})

    def _redirect(self, request: Received) -> Answer:
        """`/api/redirect?to=URL&status=302`."""
        return Answer(int(request.query.get("status", "302")), b"", {"Location": request.query["to"]})


class ScriptedProcess(Server):
    """A `ScriptedServer` in a process of its own. It records no requests, only counts."""

    name = "scripted"

    def __init__(self, tls: bool = False, **options: Any) -> None:
        super().__init__()
        self._options = {"tls": tls, **options}
        self._there: dict[str, Any] = {}

    def _launch(self) -> None:
        ready = self.folder / "ready.json"
        command = [sys.executable, "-m", "tests.servers.scripted", json.dumps(self._options), str(ready)]
        root = Path(__file__).resolve().parents[2]
        self.process = Process(self.name, command, self.log, cwd=root)
        wait_until(ready.exists, 30, "the scripted server listens", self.process, every=0.02)
        self._there = json.loads(ready.read_text())

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_there"][name]
        except KeyError:
            raise AttributeError(name) from None

    def control(self, path: str, **body: Any) -> Any:
        """Talk to the process: `issue`, `stats`, `rules` (with new values), `fault` (with a `Fault`'s fields)."""
        import requests

        with requests.Session() as session:
            session.trust_env = False
            url = f"{self._there['control_url']}/{path}"
            answer = session.post(url, json=body, timeout=30)
            answer.raise_for_status()
            return answer.json()

    def issue(self) -> str:
        token: str = self.control("issue")["refresh_token"]
        return token

    def stats(self) -> dict[str, Any]:
        """`spends`, `reuses`, `grace`, `received`, `grants_alive`, `outcomes`."""
        found: dict[str, Any] = self.control("stats")
        return found


def _serve_forever(options: Json, ready: Path) -> None:
    """What `ScriptedProcess` runs."""
    server = ScriptedServer(**options)
    server.recording = False

    def stats(_request: Received) -> Answer:
        outcomes: dict[str, int] = {}
        for spend in server.history.copy():
            outcomes[spend.outcome] = outcomes.get(spend.outcome, 0) + 1
        counts = {"spends": server.spends, "reuses": server.reuses, "grace": outcomes.get("grace", 0)}
        alive = server.grants.grants_alive()
        return Answer(200, {**counts, "received": server.received, "grants_alive": alive, "outcomes": outcomes})

    def rules(request: Received) -> Answer:
        known = {field.name for field in fields(Rules)}
        for name, value in request.json().items():
            if name not in known:
                return Answer(400, {"error": f"no rule {name}"})
            setattr(server.rules, name, value)
        return Answer(200, {})

    def fault(request: Received) -> Answer:
        server.faults.append(Fault(**request.json()))
        return Answer(200, {})

    def issue(_request: Received) -> Answer:
        return Answer(200, server.issue_tokens())

    routes: dict[str, Route] = {"/issue": issue, "/stats": stats, "/rules": rules, "/fault": fault}
    control = ScriptedServer()
    control.recording = False
    control.routes = routes
    with server, control:
        there = {
            "url": server.url,
            "token_url": server.token_url,
            "api_url": server.api_url,
            "client_id": server.client_id,
            "client_secret": server.client_secret,
            "ca_file": server.ca_file if options.get("tls") else None,
            "control_url": control.url,
            "port": server.port,
        }
        unfinished = ready.with_suffix(".tmp")
        unfinished.write_text(json.dumps(there))
        unfinished.replace(ready)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    _serve_forever(json.loads(sys.argv[1]), Path(sys.argv[2]))
