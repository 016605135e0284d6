"""Refresh first, then fetch: the first task spends the refresh token once and keeps its successor."""

from airflow import DAG

from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.operators.refresh_token import RefreshTokenOperator

with DAG("quickstart", schedule=None):
    refresh = RefreshTokenOperator(task_id="refresh", oauth2_conn_id="demo")
    items = OAuth2HttpOperator(task_id="items", oauth2_conn_id="demo", method="GET", endpoint="/items")
    refresh >> items
