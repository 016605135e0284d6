"""A running Airflow with its connections, and the servers that its DAGs talk to: the stage of all tests here.

One worker runs all of them (`tests/conftest.py`), so that each Airflow is started once, and ends with the last test
that needs it: one that idles beside other tests costs them a good part of a processor.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.scene import Scene
from tests.e2e.examples import QUICKSTARTS, add_example
from tests.servers.airflow import AirflowInstance
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.fixtures import openbao
from tests.servers.openbao import OpenBao
from tests.servers.recorder import Recorder

__all__ = ["openbao"]

ACCESS_TOKEN_LIFETIME = 10


@pytest.fixture(scope="package")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowInstance]:
    """A running Airflow 3.3 with an empty DAG folder: `airflow.add_dag(name, source)` fills it."""
    # Airflow 3 logs at this level whatever its tasks tell it: no secret may be among that either.
    debug = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}
    with AirflowInstance(dags_folder=tmp_path_factory.mktemp("dags"), environ=debug) as instance:
        yield instance


@pytest.fixture(scope="package")
def recorder() -> Iterator[Recorder]:
    with AuthorizationServer(access_token_lifetime=ACCESS_TOKEN_LIFETIME) as server, Recorder(server) as recorder:
        yield recorder


@pytest.fixture(scope="package")
def scene(airflow: AirflowInstance, recorder: Recorder, openbao: OpenBao) -> Scene:
    """Airflow 3.3 and a connection for each store, named as the store is."""
    scene = Scene(airflow, recorder, openbao)
    scene.connect_stores()
    # A connection for each DAG: on a shared one a refresh counts for both, and either may have been first.
    for conn_id, store in {**{store: store for store in QUICKSTARTS}, "stock": "auto", "hook": "vault"}.items():
        # HttpHook would send what it does not know as a header of the API request.
        scene.connect(conn_id, store, my_own_note="not for the API", headers={"X-Tenant": "acme"})
    return scene


@pytest.fixture(scope="package")
def runs(scene: Scene) -> dict[str, tuple[str, str]]:
    """Every example DAG has run once: what it was (such as "quickstart vault") to DAG id and run id."""
    wanted = [("quickstart", store) for store in QUICKSTARTS]
    wanted += [("stock_http_operator", "stock"), ("hook_in_task", "hook")]
    dags = {f"{name} {conn_id}": add_example(scene.airflow, name, conn_id) for name, conn_id in wanted}
    started = {what: (dag_id, scene.airflow.trigger(dag_id)) for what, dag_id in dags.items()}
    for dag_id, run_id in started.values():
        assert scene.airflow.wait(dag_id, run_id) == "success", scene.airflow.explain(dag_id, run_id)
    return started
