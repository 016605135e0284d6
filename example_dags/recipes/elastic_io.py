"""What elastic.io components do: a fresh token for each access, and the whole answer of the token endpoint at hand."""

from airflow import DAG

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.operators.http import OAuth2HttpOperator

try:
    from airflow.sdk import task
except ImportError:  # Airflow 2.11
    from airflow.decorators import task

with DAG("recipe_elastic_io", schedule=None) as dag:

    @task
    def instance() -> str:
        """Return the address that the answer named; it holds no token and no secret."""
        return OAuth2Hook("elastic_io").get_token_response()["instance_url"]

    items = OAuth2HttpOperator(
        task_id="items",
        oauth2_conn_id="elastic_io",
        method="GET",
        endpoint="{{ ti.xcom_pull(task_ids='instance') }}/items",
    )
    instance() >> items
