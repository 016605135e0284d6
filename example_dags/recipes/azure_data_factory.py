"""A Data Factory pipeline with Key Vault in Airflow: refresh first, then copy; refresh before each further series."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow import DAG

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.operators.refresh_token import RefreshTokenOperator

try:
    from airflow.sdk import task
except ImportError:  # Airflow 2.11
    from airflow.decorators import task

CONN_ID = "invoices"
FOLDER = Path("/opt/airflow/data/invoices")
SERIES = ([1, 2], [3])

with DAG(
    "azure_data_factory",
    schedule=timedelta(hours=1),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
) as dag:
    refresh = RefreshTokenOperator(task_id="refresh", oauth2_conn_id=CONN_ID)

    @task
    def copy() -> int:
        FOLDER.mkdir(parents=True, exist_ok=True)
        hook, items = OAuth2Hook(CONN_ID, method="GET"), 0
        for series in SERIES:
            hook.refresh(min_ttl=600)  # a series of requests takes up to ten minutes
            for page in series:
                answer = hook.run("/items", data={"page": page})
                (FOLDER / f"page-{page:03}.json").write_bytes(answer.content)
                items += len(json.loads(answer.content)["items"])
        return items

    refresh >> copy()
