"""The store goes away between the spend and the write of the new tokens: a real OpenBao, real processes, the hook.

Each process is a fork that uses an Airflow connection as a task does. Only its waiting is arranged, see
``tests/integration/_worker.py``: an outage is long when the worker gave up its waiting before the end of it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from tests.e2e.leaks import Secrets
from tests.integration._worker import CONN_ID
from tests.integration.workers import Forked, check_others_go_on
from tests.servers.openbao import OpenBao
from tests.servers.processes import wait_until
from tests.servers.scripted import Answer, Fault, Received, ScriptedServer
from tests.unit.store_fakes import Database, database

NOT_WRITTEN = "the new tokens are not written yet"
COPIED = "are in the fallback store"
FOR_EVER = 10**6


class Scene:
    """A connection whose tokens are in one secret of ``bao``, and its authorization server."""

    def __init__(
        self, server: ScriptedServer, bao: OpenBao, made: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.server, self.bao, self.made, self.folder, self._monkeypatch = server, bao, made, folder, monkeypatch
        self.mount = bao.mount_kv(f"kv-{uuid.uuid4().hex[:8]}")
        self.rules = {f"{self.mount}/data/airflow/*": ["create", "read", "update"]}
        self.proxy = ScriptedServer()
        self.proxy.routes = {"/v1": self.forward}
        self.away = ExitStack()
        self.trouble: AbstractContextManager[None] | None = None
        self.workers: list[Forked] = []
        self.vault_secrets: set[str] = {bao.root_token}
        token_endpoint = server.routes["/token"]

        def spend(request: Received) -> Answer:
            answer = token_endpoint(request)
            if self.trouble is not None:
                trouble, self.trouble = self.trouble, None
                self.away.enter_context(trouble)
            return answer

        server.routes["/token"] = spend
        self.policy = bao.policy(self.rules)
        self.enter_vault_token()
        extra = {
            "oauth_url": server.token_url, "refresh_token": server.issue(), "timeout": 10, "store": "vault",
            "vault_conn_id": "bao", "vault_path": "airflow/xero",
        }  # fmt: skip
        connection = {
            "conn_type": "oauth2", "host": server.api_url, "login": server.client_id,
            "password": server.client_secret, "extra": extra,
        }  # fmt: skip
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))

    def enter_vault_token(self) -> None:
        """Make a token at OpenBao and enter it in the Airflow connection ``bao``."""
        body = {"policies": [self.policy], "ttl": "1h"}
        self.vault_token = self.bao.api("POST", "auth/token/create", body)["auth"]["client_token"]
        self.connect_vault(self.vault_token, auth_type="token")

    def connect_vault(self, password: str, login: str = "", port: int = 0, **extra: Any) -> None:
        self.vault_secrets.add(password)
        connection = {
            "conn_type": "vault", "host": "127.0.0.1", "port": port or self.bao.port, "schema": self.mount,
            "login": login, "password": password, "extra": {"use_tls": False, "kv_engine_version": 2, **extra},
        }  # fmt: skip
        self._monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps(connection))

    def forward(self, request: Received) -> Answer:
        """What stands between the workers and OpenBao in some tests."""
        with requests.Session() as session:
            session.trust_env = False
            headers = {"X-Vault-Token": request.header("X-Vault-Token") or ""}
            url = f"{self.bao.address}{request.target}"
            answer = session.request(request.method, url, data=request.body, headers=headers, timeout=30)
        return Answer(answer.status_code, answer.content, {"Content-Type": "application/json"})

    def worker(self, *, force: bool = False, gate: Path | None = None) -> Forked:
        worker = Forked(self.folder / f"worker-{len(self.workers)}.json", force, gate)
        self.workers.append(worker)
        return worker

    def fallback(self) -> list[str]:
        """The texts in the fallback store, as Airflow would show them: decrypted."""
        table = self.made.variables
        with self.made.engine.begin() as transaction:
            rows = transaction.execute(select(table.c.val).where(table.c.key.like("oauth2_token_fallback%"))).all()
        self.made.engine.dispose()
        return [self.made.fernet.decrypt(row[0].encode()).decode() for row in rows]

    def secrets(self) -> Secrets:
        return Secrets({*self.server.grants.issued, self.server.client_secret, *self.vault_secrets})

    def check_others_go_on(self, token: str | None, *, recovering: bool) -> None:
        check_others_go_on(self.server, self.worker, token, recovering=recovering, store="vault")

    def check_nothing_leaks(self) -> None:
        written = b"".join(path.read_bytes() for path in self.folder.glob("worker-*"))
        assert NOT_WRITTEN.encode() in written
        assert not self.secrets().within(written)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.away.close()
        self.proxy.stop()


@contextmanager
def sealed(scene: Scene, _long: bool) -> Iterator[None]:
    scene.bao.seal()
    yield
    scene.bao.unseal()


@contextmanager
def stopped_and_started_again(scene: Scene, _long: bool) -> Iterator[None]:
    scene.bao.pause()
    yield
    scene.bao.resume()


@contextmanager
def too_many_requests(scene: Scene, _long: bool) -> Iterator[None]:
    # One request an hour: OpenBao rounds what is less than one a second up to one a second.
    scene.bao.rate_limit(1, path=f"{scene.mount}/", seconds=3600)
    headers = {"X-Vault-Token": scene.bao.root_token}
    url = f"{scene.bao.address}/v1/{scene.mount}/data/airflow/other"
    wait_until(lambda: requests.get(url, headers=headers, timeout=30).status_code == 429, 30, "the limit is reached")
    yield
    scene.bao.rate_limit(0)


@contextmanager
def right_taken_away(scene: Scene, _long: bool) -> Iterator[None]:
    policy = f"sys/policies/acl/{scene.policy}"
    rules = scene.bao.api("GET", policy)["data"]["policy"]
    scene.bao.api("PUT", policy, {"policy": json.dumps({"path": {"cubbyhole/*": {"capabilities": ["read"]}}})})
    yield
    scene.bao.api("PUT", policy, {"policy": rules})


@contextmanager
def token_revoked(scene: Scene, _long: bool) -> Iterator[None]:
    scene.bao.revoke_token(scene.vault_token)
    yield
    scene.enter_vault_token()


@contextmanager
def logins_revoked(scene: Scene, _long: bool) -> Iterator[None]:
    scene.bao.api("PUT", "sys/leases/revoke-prefix/auth/approle/login")
    yield


@contextmanager
def answers_lost(scene: Scene, long: bool) -> Iterator[None]:
    """What is sent to OpenBao is carried out, and the connection reset instead of an answer."""
    scene.proxy.faults.append(Fault(on="/v1", reset=True, works=True, times=FOR_EVER if long else 1))
    yield
    scene.proxy.faults.clear()


@contextmanager
def server_errors(scene: Scene, _long: bool) -> Iterator[None]:
    """500 with a text that quotes the request, tokens and all."""
    scene.proxy.routes["/v1"] = lambda request: Answer(500, {"errors": [request.body.decode()]})
    yield
    scene.proxy.routes["/v1"] = scene.forward


Trouble = Callable[[Scene, bool], AbstractContextManager[None]]
ON_RAFT: tuple[Trouble, ...] = (sealed, stopped_and_started_again)
BEHIND_PROXY: tuple[Trouble, ...] = (answers_lost, server_errors)


def each(*troubles: Trouble) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("trouble", troubles, ids=[trouble.__name__ for trouble in troubles])


@pytest.fixture
def scene(trouble, request, scripted_server, tmp_path, monkeypatch):
    """The connection has been in use: its refresh token is one that was rotated in."""
    bao = request.getfixturevalue("sealable_openbao" if trouble in ON_RAFT else "openbao")
    with database(tmp_path, monkeypatch) as made:
        scene = Scene(scripted_server, bao, made, tmp_path, monkeypatch)
        if trouble in BEHIND_PROXY:
            scene.proxy.start()
            scene.connect_vault(scene.vault_token, port=scene.proxy.port, auth_type="token")
        try:
            assert scene.worker().outcome().get("generation") == 1
            yield scene
        finally:
            scene.close()


@each(*ON_RAFT, *BEHIND_PROXY, too_many_requests, right_taken_away)
def test_the_tokens_are_written_once_the_store_is_back(scene, trouble):
    gate = scene.folder / "back"
    scene.trouble = trouble(scene, False)
    worker = scene.worker(force=True, gate=gate)
    worker.says(NOT_WRITTEN)
    scene.away.close()
    gate.touch()
    outcome = worker.outcome()
    assert (outcome.get("store"), outcome.get("generation"), outcome.get("api")) == ("vault", 2, 200), outcome
    assert scene.fallback() == []
    scene.check_others_go_on(outcome["token"], recovering=False)
    scene.check_nothing_leaks()


@each(logins_revoked)
def test_a_worker_that_logs_in_by_itself_does_so_again(scene, trouble):
    role_id, secret_id = scene.bao.approle(scene.rules)
    scene.connect_vault(secret_id, login=role_id, auth_type="approle")
    scene.trouble = trouble(scene, False)
    outcome = scene.worker(force=True).outcome()
    assert (outcome.get("store"), outcome.get("generation"), outcome.get("api")) == ("vault", 2, 200), outcome
    scene.check_others_go_on(outcome["token"], recovering=False)


@each(*ON_RAFT, *BEHIND_PROXY, too_many_requests, right_taken_away, token_revoked)
def test_after_a_long_outage_another_worker_recovers_them(scene, trouble):
    scene.trouble = trouble(scene, True)
    outcome = scene.worker(force=True).outcome()
    assert (outcome.get("store"), outcome.get("generation"), outcome.get("api")) == ("fallback", 2, 200), outcome
    (text,) = scene.fallback()
    assert not scene.secrets().within(text.encode())
    scene.away.close()
    landed = trouble is answers_lost
    scene.check_others_go_on(outcome["token"], recovering=not landed)
    assert len(scene.fallback()) == landed  # where the store has them, nobody looks for others
    scene.check_nothing_leaks()


@each(sealed, right_taken_away)
def test_a_worker_that_is_killed_while_the_store_is_away_loses_nothing(scene, trouble):
    scene.trouble = trouble(scene, True)
    worker = scene.worker(force=True, gate=scene.folder / "never")
    worker.says(COPIED)
    worker.kill()
    scene.away.close()
    scene.check_others_go_on(None, recovering=True)
    scene.check_nothing_leaks()
