"""What SSIS packages do with ZappySys: refresh, call the API, and try the recovery without waiting for the expiry."""

from airflow import DAG

from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.operators.refresh_token import RefreshTokenOperator
from airflow_oauth_provider.operators.revoke_token import RevokeTokenOperator

with DAG("recipe_zappysys", schedule=None) as dag:
    refresh = RefreshTokenOperator(task_id="refresh", oauth2_conn_id="zappysys")
    items = OAuth2HttpOperator(task_id="items", oauth2_conn_id="zappysys", method="GET", endpoint="/items")
    # The access token dies now, long before its time: the next request meets a 401, refreshes, and is sent again.
    revoke = RevokeTokenOperator(task_id="revoke", oauth2_conn_id="zappysys", kind="access_token")
    again = OAuth2HttpOperator(task_id="items_again", oauth2_conn_id="zappysys", method="GET", endpoint="/items")
    refresh >> items >> revoke >> again
