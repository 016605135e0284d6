"""Refresh tokens die unused: Xero's after 60 days, others' after 14. This uses each of a list once a week.

A connection whose access token is still fresh has been used lately: its task is skipped.
"""

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import AirflowSkipException, dag, task

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

CONNECTIONS = ["demo"]


@task(retries=3)
def refresh(conn_id: str) -> dict[str, object]:
    status = OAuth2Hook(conn_id).refresh(force=False)
    if status.action == "reused":
        raise AirflowSkipException(f"{conn_id} was refreshed lately")
    return status.as_dict()


@dag(schedule="@weekly", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def keep_alive() -> None:
    refresh.expand(conn_id=CONNECTIONS)


keep_alive()
