"""The tests' Airflow runs a DAG and shows what came of it, on 3.3 and on 2.11."""

import pytest

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
