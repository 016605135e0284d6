"""Refresh tokens die unused: Xero's after 60 days, others' after 14. This uses each of a list once a week.

A connection whose access token is still fresh has been used lately: nothing is asked for, and the result says so
(``action`` is ``reused``).
"""

from datetime import UTC, datetime

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

CONNECTIONS = ["demo"]


# One result as a whole: the tasks of Airflow 3.0 cannot push a member of it that is None.
@task(retries=3, multiple_outputs=False)
def refresh(conn_id: str) -> dict[str, object]:
    return OAuth2Hook(conn_id).refresh(force=False).as_dict()


@dag(schedule="@weekly", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def keep_alive() -> None:
    refresh.expand(conn_id=CONNECTIONS)


keep_alive()
