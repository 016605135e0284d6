"""The store ``connection`` on Airflow 2.11: its PostgreSQL goes away between the spend and the write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.leaks import Secrets
from tests.integration._worker import CONN_ID
from tests.integration.conftest import Airflow2Database
from tests.integration.workers import ForkServer, Worker, check_others_go_on
from tests.servers.scripted import Answer, Received, ScriptedServer


class Scene:
    """A connection in the database, which has been in use, and the workers of an Airflow without that database's cache.

    :param folder: of reports, logs and the fallback folder; with the database the variables are away as well.
    """

    def __init__(self, airflow: Airflow2Database, server: ScriptedServer, folder: Path) -> None:
        self.postgres, self.server, self.folder = airflow.postgres, server, folder
        self.is_away = False
        self._goes_away = False
        self._count = 0
        self.fallback = folder / "fallback"
        environ = {**airflow.environ, "AIRFLOW__OAUTH2__FALLBACK_PATH": str(self.fallback)}
        self.forks = ForkServer(airflow.command("-m", "tests.integration._worker"), environ)
        extra = json.dumps({"oauth_url": server.token_url, "refresh_token": server.issue(), "timeout": 10})
        values = (CONN_ID, "oauth2", server.api_url, server.client_id, server.client_secret, extra)
        row = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        self.postgres.sql(f"DELETE FROM connection WHERE conn_id = '{CONN_ID}'", "airflow")
        self.postgres.sql(
            "INSERT INTO connection (conn_id, conn_type, host, login, password, extra, is_encrypted, "
            f"is_extra_encrypted) VALUES ({row}, false, false)",
            "airflow",
        )
        token_endpoint = server.routes["/token"]

        def spend(request: Received) -> Answer:
            answer = token_endpoint(request)
            if self._goes_away:
                self._goes_away, self.is_away = False, True
                self.postgres.pause()
            return answer

        server.routes["/token"] = spend
        first = self.worker().outcome()
        assert (first.get("generation"), first.get("store")) == (1, "connection"), first

    def worker(self, *, force: bool = False, gate: Path | None = None) -> Worker:
        self._count += 1
        return self.forks.start(self.folder / f"worker-{self._count}.json", force, gate)

    def worker_in_trouble(self, gate: Path | None = None) -> Worker:
        self._goes_away = True
        return self.worker(force=True, gate=gate)

    def bring_back(self) -> None:
        if self.is_away:
            self.postgres.resume()
        self.is_away = False

    def check_others_go_on(self, token: str | None, *, recovering: bool) -> None:
        check_others_go_on(self.server, self.worker, token, recovering=recovering, store="connection")
        written = b"".join(path.read_bytes() for path in self.folder.rglob("worker-*"))
        assert b"the new tokens are not written yet" in written
        assert not self.secrets().within(written)

    def secrets(self) -> Secrets:
        return Secrets({*self.server.grants.issued, self.server.client_secret})


@pytest.fixture
def scene(airflow_2_database, scripted_server, tmp_path):
    scene = Scene(airflow_2_database, scripted_server, tmp_path)
    yield scene
    scene.forks.close()
    scene.bring_back()


def test_the_tokens_are_written_once_the_database_is_back(scene):
    gate = scene.folder / "back"
    worker = scene.worker_in_trouble(gate)
    worker.says("the new tokens are not written yet")
    scene.bring_back()
    gate.touch()
    outcome = worker.outcome()
    assert (outcome.get("store"), outcome.get("generation"), outcome.get("api")) == ("connection", 2, 200), outcome
    assert not list(scene.fallback.iterdir())
    scene.check_others_go_on(outcome["token"], recovering=False)


def test_after_a_long_outage_another_worker_recovers_them(scene):
    outcome = scene.worker_in_trouble().outcome()
    assert (outcome.get("store"), outcome.get("generation"), outcome.get("api")) == ("fallback", 2, 200), outcome
    (kept,) = scene.fallback.iterdir()
    assert not scene.secrets().within(kept.read_bytes() + kept.name.encode())
    scene.bring_back()
    scene.check_others_go_on(outcome["token"], recovering=True)
    assert not list(scene.fallback.iterdir())


def test_a_worker_that_is_killed_while_the_database_is_away_loses_nothing(scene):
    worker = scene.worker_in_trouble(gate=scene.folder / "never")
    worker.says("are in the fallback store")
    worker.kill()
    scene.bring_back()
    scene.check_others_go_on(None, recovering=True)
