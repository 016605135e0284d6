"""Airflow's own HttpOperator on an oauth2 connection: it gets its token from the connection's hook."""

from airflow import DAG
from airflow.providers.http.operators.http import HttpOperator

with DAG("stock_http_operator", schedule=None):
    HttpOperator(task_id="items", http_conn_id="demo", method="GET", endpoint="/items")
