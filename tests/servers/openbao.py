"""OpenBao, the open Vault: a real server for the `vault` store.

    with OpenBao() as bao:                       # development mode: in memory, unsealed, KV v2 at `secret/`
        bao.mount_kv("kv1", version=1)
        token = bao.limited_token({"secret/data/airflow/*": ["create", "read", "update"]})

`OpenBao(storage="raft")` keeps its data through `restart()`; it and `storage="inmem"` can be sealed.
"""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import requests

from scripts.environments import clean_environ, server_program
from tests.servers.processes import LOOPBACK, Process, Server, ServerError, free_port, is_listening, wait_until

Rules = Mapping[str, Sequence[str]]
"""Path, with `*` at its end perhaps, to capabilities: {"secret/data/airflow/*": ["read", "update"]}."""


class OpenBao(Server):
    """A `bao server` on a free loopback port."""

    name = "openbao"

    def __init__(self, storage: Literal["dev", "inmem", "raft"] = "dev") -> None:
        super().__init__()
        self.storage = storage
        self.root_token = ""
        self._unseal_key = ""
        self.port = 0
        self._http = requests.Session()
        self._http.trust_env = False

    @property
    def address(self) -> str:
        """The URL that clients are given, for example as VAULT_ADDR."""
        return f"http://{LOOPBACK}:{self.port}"

    def _launch(self) -> None:
        self.port = free_port()
        if self.storage == "dev":
            self.root_token = secrets.token_urlsafe(18)
        self._run()
        if self.storage != "dev":
            self._initialize()
            self.mount_kv("secret", version=2)

    def _run(self) -> None:
        bao = server_program("bao")
        command = [str(bao), "server"]
        if self.storage == "dev":
            # The token goes in by the environment: a command line can be read by every user of the machine.
            command += ["-dev", "-dev-no-store-token", f"-dev-listen-address={LOOPBACK}:{self.port}"]
        else:
            command.append(f"-config={self._write_config()}")
        environ = clean_environ(HOME=str(self.folder), BAO_DEV_ROOT_TOKEN_ID=self.root_token)
        self.process = Process(self.name, command, self.log, environ, cwd=self.folder)
        wait_until(lambda: is_listening(self.port), 30, "OpenBao listens", self.process)
        healthy = (200,) if self.storage == "dev" else (200, 501, 503)
        wait_until(lambda: self.health() in healthy, 30, "OpenBao is healthy", self.process)

    def _write_config(self) -> str:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        cluster = free_port()
        storage: dict[str, Any] = {"inmem": {}}
        if self.storage == "raft":
            storage = {"raft": {"path": str(data), "node_id": "one", "performance_multiplier": "1"}}
        config = {
            "storage": storage,
            "listener": {
                "tcp": {
                    "address": f"{LOOPBACK}:{self.port}",
                    "cluster_address": f"{LOOPBACK}:{cluster}",
                    "tls_disable": True,
                }
            },
            "api_addr": self.address,
            "cluster_addr": f"http://{LOOPBACK}:{cluster}",
        }
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        return str(path)

    def _initialize(self) -> None:
        made = self.api("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token="")
        self._unseal_key, self.root_token = made["keys_base64"][0], made["root_token"]
        self.unseal()

    def health(self) -> int:
        """The status of the health endpoint: 200 active, 501 not initialized, 503 sealed; 0 without an answer."""
        try:
            return self._http.get(f"{self.address}/v1/sys/health", timeout=5).status_code
        except requests.ConnectionError:
            return 0

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None) -> Any:
        """Call OpenBao's API, by default as root; a `ServerError` unless the status is 2xx."""
        headers = {"X-Vault-Token": self.root_token if token is None else token}
        answer = self._http.request(
            method, f"{self.address}/v1/{path}", json=body, headers={k: v for k, v in headers.items() if v}, timeout=30
        )
        if not answer.ok:
            raise ServerError(f"OpenBao: {method} {path} gave {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else {}

    # Secrets

    def mount_kv(self, path: str, version: Literal[1, 2] = 2) -> str:
        """Mount a key-value engine at `path` and wait until it can be written."""
        self.api("POST", f"sys/mounts/{path}", {"type": "kv", "options": {"version": str(version)}})
        probe = f"{path}/data/test-probe" if version == 2 else f"{path}/test-probe"
        wait_until(lambda: self._can_write(probe, version), 10, f"KV v{version} at {path} is ready", self.process)
        self.api("DELETE", f"{path}/metadata/test-probe" if version == 2 else probe)
        return path

    def _can_write(self, path: str, version: int) -> bool:
        body: dict[str, Any] = {"probe": "1"}
        try:
            self.api("POST", path, {"data": body} if version == 2 else body)
        except ServerError:
            return False  # a fresh KV v2 is still being upgraded from v1 for some milliseconds
        return True

    def read(self, path: str, mount: str = "secret", version: Literal[1, 2] = 2) -> dict[str, Any]:
        """The secret at `path`; {} when there is none. On KV v2 its newest version."""
        answer = self._http.get(
            f"{self.address}/v1/{mount}/{'data/' if version == 2 else ''}{path}",
            headers={"X-Vault-Token": self.root_token},
            timeout=30,
        )
        if answer.status_code == requests.codes.not_found:
            return {}
        answer.raise_for_status()
        data = answer.json()["data"]
        found: dict[str, Any] = data["data"] if version == 2 else data
        return found

    def write(
        self, path: str, data: Mapping[str, Any], mount: str = "secret", version: Literal[1, 2] = 2
    ) -> dict[str, Any]:
        """Write a secret; gives what OpenBao answers, on KV v2 with the version's number."""
        if version == 1:
            self.api("POST", f"{mount}/{path}", data)
            return {}
        written: dict[str, Any] = self.api("POST", f"{mount}/data/{path}", {"data": data})["data"]
        return written

    # Ways to sign in

    def policy(self, rules: Rules) -> str:
        """A policy with exactly these rights; gives its name."""
        name = f"test-{secrets.token_hex(4)}"
        body = {"path": {path: {"capabilities": list(rights)} for path, rights in rules.items()}}
        self.api("PUT", f"sys/policies/acl/{name}", {"policy": json.dumps(body)})
        return name

    def limited_token(self, rules: Rules, ttl: str = "1h", num_uses: int = 0) -> str:
        """A token with exactly these rights, for `ttl`, for `num_uses` requests (0: any number)."""
        body = {"policies": [self.policy(rules)], "ttl": ttl, "num_uses": num_uses, "no_default_policy": False}
        token: str = self.api("POST", "auth/token/create", body)["auth"]["client_token"]
        return token

    def revoke_token(self, token: str) -> None:
        self.api("POST", "auth/token/revoke", {"token": token})

    def approle(self, rules: Rules, token_ttl: str = "1h") -> tuple[str, str]:
        """An AppRole with these rights: its role id and a secret id."""
        self._enable_auth("approle")
        name = f"test-{secrets.token_hex(4)}"
        body = {"token_policies": [self.policy(rules)], "token_ttl": token_ttl}
        self.api("POST", f"auth/approle/role/{name}", body)
        role_id = self.api("GET", f"auth/approle/role/{name}/role-id")["data"]["role_id"]
        secret_id = self.api("POST", f"auth/approle/role/{name}/secret-id")["data"]["secret_id"]
        return role_id, secret_id

    def userpass(self, rules: Rules, username: str = "airflow") -> tuple[str, str]:
        """A user with these rights: the name and a new password."""
        self._enable_auth("userpass")
        password = secrets.token_urlsafe(16)
        body = {"password": password, "token_policies": [self.policy(rules)]}
        self.api("POST", f"auth/userpass/users/{username}", body)
        return username, password

    def _enable_auth(self, method: str) -> None:
        if f"{method}/" not in self.api("GET", "sys/auth")["data"]:
            self.api("POST", f"sys/auth/{method}", {"type": method})

    # Trouble

    def seal(self) -> None:
        """Every request is answered with 503 from now on. Not in development mode."""
        self._not_in_development_mode("seal")
        self.api("PUT", "sys/seal")

    def unseal(self) -> None:
        self._not_in_development_mode("unseal")
        self.api("PUT", "sys/unseal", {"key": self._unseal_key}, token="")
        wait_until(lambda: self.health() == requests.codes.ok, 30, "OpenBao is unsealed and active", self.process)

    def restart(self) -> None:
        """Stop and start again on the same port; with storage `raft` the data is still there."""
        self.pause()
        self.resume()

    def pause(self) -> None:
        """Take it off the network, as an outage would: nothing listens until `resume`."""
        if self.storage != "raft":
            raise ServerError("Only storage='raft' comes back with its data")
        if self.process is None:
            raise ServerError("OpenBao is not running")
        self.process.stop()
        self.process = None

    def resume(self) -> None:
        """Listen again on the same port, unsealed. Only `raft` still has its data."""
        self._run()
        self.unseal()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing, until `thaw`."""
        if self.process:
            self.process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process:
            self.process.send(signal.SIGCONT)

    def rate_limit(self, number: int, path: str = "", seconds: int = 1) -> None:
        """Answer 429 beyond this number of requests in so many seconds (below `path`); 0 takes the limit away."""
        if number:
            limit = {"rate": number, "path": path, "interval": f"{seconds}s"}
            self.api("POST", "sys/quotas/rate-limit/test", limit)
        else:
            self.api("DELETE", "sys/quotas/rate-limit/test")

    def _not_in_development_mode(self, what: str) -> None:
        if self.storage == "dev":
            raise ServerError(f"OpenBao in development mode cannot {what}: take storage='inmem' or 'raft'")
