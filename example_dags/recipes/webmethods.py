"""What webMethods.io Integration does: a session whose token comes from a function of one's own."""

from airflow import DAG

from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.operators.refresh_token import RefreshTokenOperator

with DAG("recipe_webmethods", schedule=None) as dag:
    refresh = RefreshTokenOperator(task_id="refresh", oauth2_conn_id="webmethods")
    items = OAuth2HttpOperator(task_id="items", oauth2_conn_id="webmethods", method="GET", endpoint="/items")
    refresh >> items
