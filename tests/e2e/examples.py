"""The example DAGs on the connections of the stage."""

from __future__ import annotations

from scripts.scene import example_dag
from tests.servers.airflow import AirflowInstance

# A connection for each, whose id is the name of its store.
QUICKSTARTS = ("connection", "variable", "vault", "auto")


def add_example(airflow: AirflowInstance, name: str, conn_id: str) -> str:
    """Put an example DAG on this connection into the DAG folder; gives its DAG id."""
    dag_id, source = example_dag(name, conn_id)
    airflow.add_dag(f"{dag_id}.py", source)
    return dag_id
