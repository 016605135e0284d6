"""The tests' Airflow runs a DAG and shows what came of it, on 3.3 and on 2.11; and the quick start on 2.11."""

import pytest

from scripts.scene import Scene
from tests.e2e.examples import add_example
from tests.e2e.test_dag_runs import PUBLIC_KEYS
from tests.servers.airflow import AirflowInstance

DAG = """
import pendulum

try:
    from airflow.sdk import DAG, BaseHook, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task
    from airflow.hooks.base import BaseHook

with DAG("smoke", schedule=None, start_date=pendulum.datetime(2024, 1, 1)):

    @task
    def look(**context):
        connection = BaseHook.get_connection("smoke")
        print("the host is", connection.host)
        return {"host": connection.host, "conf": context["dag_run"].conf, "extra": connection.extra_dejson}

    look()
"""


@pytest.fixture(scope="module")
def airflow_2(tmp_path_factory):
    with AirflowInstance("2.11", dags_folder=tmp_path_factory.mktemp("dags")) as instance:
        yield instance


@pytest.mark.parametrize("version", ["airflow", "airflow_2"])
def test_a_dag_runs(version, request):
    airflow = request.getfixturevalue(version)
    fields = {"conn_type": "http", "host": "example.org", "password": "test-secret", "extra": {"a": 1}}
    airflow.add_connection("smoke", fields)
    airflow.add_dag("smoke.py", DAG)
    run_id = airflow.run("smoke", {"answer": 42})
    expected = {"host": "example.org", "conf": {"answer": 42}, "extra": {"a": 1}}
    assert airflow.xcom("smoke", run_id, "look") == expected
    assert airflow.task_states("smoke", run_id) == {"look": "success"}
    assert "the host is example.org" in airflow.task_log("smoke", run_id, "look")
    assert airflow.connection("smoke")["password"] == "test-secret"
    assert any("task_id=look" in str(path) for path in airflow.log_files())


def test_the_quick_start_on_airflow_2(airflow_2, recorder, openbao):
    scene = Scene(airflow_2, recorder, openbao)
    scene.connect("demo", "connection")
    dag_id = add_example(airflow_2, "quickstart", "demo")

    run_id = airflow_2.run(dag_id)

    status = airflow_2.xcom(dag_id, run_id, "refresh")
    assert set(status) == PUBLIC_KEYS
    assert (status["store"], status["action"], status["rotated"]) == ("connection", "refreshed", True)
    assert len(scene.fetched(dag_id, run_id)) == 10
    assert scene.kept("demo").generation >= 1
