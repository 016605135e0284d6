"""What the demo and the end-to-end tests have in common: grants, and the Airflow connections that use them.

    scene = Scene(airflow, server, bao)
    scene.connect("demo", "vault")          # signs in, writes the connection, client and first token into Vault
    scene.kept("demo")                      # the tokens as they are in the store now

What the stores hold is read past the package under test.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

from scripts.environments import ROOT
from tests.servers.airflow import AirflowInstance
from tests.servers.openbao import OpenBao
from tests.servers.sign_in import ServerLike, sign_in

STORES = ("connection", "variable", "vault")
VAULT_CONNECTION = "vault_default"


def example_dag(name: str, conn_id: str) -> tuple[str, str]:
    """Give an example DAG as it stands in the repository, but on another connection: its DAG id, and its source."""
    dag_id = f"{name}_{conn_id}"
    source = (ROOT / "example_dags" / f"{name}.py").read_text()
    for old, new in ((f'"{name}"', f'"{dag_id}"'), ('"demo"', f'"{conn_id}"'), (f"{name}()", f"{dag_id}()")):
        source = source.replace(old, new)
    return dag_id, source


def _unsealed(text: str, conn_id: str, client_secret: str) -> str:
    """Open what the store `variable` has written, with the client's secret alone."""
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    envelope = json.loads(text)
    info = f"airflow-oauth-provider: the token record of the connection {conn_id}".encode()
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(client_secret.encode())
    data_key = Fernet(urlsafe_b64encode(key)).decrypt(envelope["keys"]["client_secret"])
    return Fernet(data_key).decrypt(envelope["record"]).decode()


@dataclass(frozen=True)
class Kept:
    """The tokens of one connection as a store holds them."""

    generation: int = 0
    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    dead: bool = False

    @property
    def tokens(self) -> set[str]:
        return {token for token in (self.refresh_token, self.access_token) if token}


class Scene:
    """A running Airflow and its connections to a server with a token endpoint and an API.

    `server` is an `AuthorizationServer`, or a `Recorder` in front of one.
    """

    def __init__(self, airflow: AirflowInstance, server: Any, bao: OpenBao, files: Path | None = None) -> None:
        self.airflow = airflow
        self.server = server
        self.bao = bao
        self.client = server.client("basic")
        self.vault_token = ""
        self._files = files
        self._stores: dict[str, str] = {}
        self._first: dict[str, str] = {}

    # Connections

    def connect_stores(self) -> None:
        """Add the connection that a store needs: to Vault."""
        # No more rights than the provider's documentation asks for.
        self.vault_token = self.bao.limited_token({"secret/data/airflow/oauth2/*": ["create", "read", "update"]})
        place = urlsplit(self.bao.address)
        self.airflow.add_connection(
            VAULT_CONNECTION,
            {
                "conn_type": "vault",
                "host": place.hostname,
                "port": place.port,
                "schema": "secret",
                "password": self.vault_token,
                "extra": {"auth_type": "token", "kv_engine_version": 2, "use_tls": False},
            },
        )

    def connect(
        self, conn_id: str, store: str, add: Callable[[str, dict[str, Any]], None] | None = None, **extra: Any
    ) -> None:
        """Sign in, and make the connection `conn_id` of it; `extra` goes into the connection's extra.

        The store `connection` is what holds by default, so the connection does not name it. On the store `vault` the
        client's id and secret and the first refresh token are in Vault alone.

        `add` adds a connection to Airflow; None: as the UI does.
        """
        fields: dict[str, Any] = {"conn_type": "oauth2", "host": self.server.api_url}
        named = {} if store == "connection" else {"store": store}
        members: dict[str, Any] = {"oauth_url": self.server.token_url, **named, **extra}
        refresh_token = self.sign_in()
        if store == "vault":
            members |= {"vault_conn_id": VAULT_CONNECTION, "vault_path": self._vault_path(conn_id)}
            client = {"client_id": self.client.client_id, "client_secret": self.client.client_secret}
            self.bao.write(self._vault_path(conn_id), {**client, "refresh_token": refresh_token})
        else:
            fields |= {"login": self.client.client_id, "password": self.client.client_secret}
            members["refresh_token"] = refresh_token
        if store == "file":
            self._file(conn_id).write_text("{}")
            members["file_path"] = str(self._file(conn_id))
        (add or self.airflow.add_connection)(conn_id, {**fields, "extra": members})
        self._stores[conn_id], self._first[conn_id] = store, refresh_token

    def sign_in(self) -> str:
        """Be a person who grants access: a new grant. Gives its first refresh token."""
        server: ServerLike = self.server
        refresh_token: str = sign_in(server)["refresh_token"]
        return refresh_token

    def revoke(self, conn_id: str) -> None:
        """Take the consent back: the grant of `conn_id` is dead at the authorization server (RFC 7009)."""
        upstream = getattr(self.server, "upstream", self.server)
        answer = upstream.session.post(
            f"{upstream.url}/token/revocation",
            data={"token": self.kept(conn_id).refresh_token},
            auth=(quote_plus(self.client.client_id), quote_plus(self.client.client_secret)),
            timeout=30,
        )
        answer.raise_for_status()

    def first_refresh_token(self, conn_id: str) -> str:
        """Give the refresh token that a person entered."""
        return self._first[conn_id]

    def _file(self, conn_id: str) -> Path:
        assert self._files is not None, "the store `file` needs a folder"
        return self._files / f"{conn_id}.json"

    @staticmethod
    def _vault_path(conn_id: str) -> str:
        return f"airflow/oauth2/{conn_id}"

    def secrets(self) -> set[str]:
        """Give what must stand nowhere in the clear, beside what passed through a recorder."""
        found = {self.client.client_secret, self.vault_token, self.bao.root_token, self.airflow.password}
        extras = [self.airflow.connection(conn_id)["extra"] for conn_id in self._stores]
        found |= {extra["token_record_key"] for extra in extras if "token_record_key" in extra}
        return (
            found | {token for conn_id in self._stores for token in self.kept(conn_id).tokens} | {*self._first.values()}
        )

    def fetched(self, dag_id: str, run_id: str, task_id: str = "items") -> list[dict[str, Any]]:
        """Give the items that a task got from the API."""
        found = self.airflow.xcom(dag_id, run_id, task_id)
        items: list[dict[str, Any]] = (json.loads(found) if isinstance(found, str) else found)["items"]
        return items

    # Tokens

    def kept(self, conn_id: str, store: str | None = None) -> Kept:
        """Give the tokens in the store of `conn_id`; before the first refresh the refresh token that was entered."""
        text = self._record_text(conn_id, store or self._stores[conn_id])
        if not text:
            return Kept(refresh_token=self._first.get(conn_id))
        record = text if isinstance(text, dict) else json.loads(text)  # a JSON file holds it as an object
        lifetime = record.get("expires_in")
        return Kept(
            record.get("generation", 0),
            record.get("refresh_token"),
            record.get("access_token"),
            None if lifetime is None else record["issued_at"] + lifetime,
            bool(record.get("dead")),
        )

    def _record_text(self, conn_id: str, store: str) -> str | dict[str, Any] | None:
        if store == "vault":
            return self.bao.read(self._vault_path(conn_id)).get("token_record")
        if store == "file":
            path = self._file(conn_id)
            return json.loads(path.read_text()).get("token_record") if path.exists() else None
        if store == "variable":
            text = self.airflow.variable(f"oauth2_token_record__{conn_id}")
            return text and _unsealed(text, conn_id, self.client.client_secret)
        found: str | None = self.airflow.connection(conn_id)["extra"].get("token_record")
        return found
