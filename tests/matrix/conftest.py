"""One cell of the matrix: a running Airflow of the version that TEST_AIRFLOW names, with the real servers around it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.environments import ROOT, minor_of
from scripts.scene import Scene, example_dag
from tests.servers.airflow import AirflowInstance
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.openbao import OpenBao

#: Beside the store `connection`, which the connection `demo` has. The clouds' are in tests/integration.
STORES = ("variable", "vault", "file")

#: Airflow 3 logs at this level whatever its tasks tell it.
DEBUG = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}


@pytest.fixture(scope="session")
def cell() -> str:
    """The cell of scripts/environments.py that is under test."""
    named = os.environ.get("TEST_AIRFLOW", "")
    assert named, "TEST_AIRFLOW says which cell is under test: run `make test-matrix`"
    return named


@pytest.fixture(scope="session")
def version(cell: str) -> str:
    """Its minor version of Airflow."""
    return minor_of(cell)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the store `file`."""
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="session")
def instance(cell: str, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowInstance]:
    environ = {**DEBUG, "AIRFLOW__OAUTH2__ALLOWED_FOLDERS": str(files)}
    dags = tmp_path_factory.mktemp("dags")
    for path in (ROOT / "example_dags").glob("*.py"):
        shutil.copy(path, dags)
    for store in STORES:
        dag_id, source = example_dag("quickstart", store)
        (dags / f"{dag_id}.py").write_text(source)
    with AirflowInstance(cell, dags_folder=dags, environ=environ) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def scene(instance: AirflowInstance, files: Path) -> Iterator[Scene]:
    """The connection `demo` of the example DAGs on the store `connection`, and one for each other store."""
    with AuthorizationServer() as server, OpenBao() as bao:
        scene = Scene(instance, server, bao, files)
        scene.connect_stores()
        scene.connect("demo", "connection")
        for store in STORES:
            scene.connect(store, store)
        yield scene
