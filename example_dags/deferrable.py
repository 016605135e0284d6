"""Wait for something and fetch it without holding a worker: both requests are sent from the triggerer."""

from airflow import DAG

from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.sensors.http import OAuth2HttpSensor

with DAG("deferrable", schedule=None):
    ready = OAuth2HttpSensor(task_id="ready", oauth2_conn_id="demo", endpoint="/items", deferrable=True)
    items = OAuth2HttpOperator(task_id="items", oauth2_conn_id="demo", method="GET", endpoint="/items", deferrable=True)
    ready >> items
