"""Syncfusion's Data Integration Platform (NiFi) in Airflow: tokens in a JSON file, a call every ten minutes.

Fetches all pages of a list with the tenant's header (it stands in the connection), writes each page to a file, and goes
on by the status of the answers.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow import DAG

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.operators.refresh_token import RefreshTokenOperator

try:
    from airflow.sdk import task
except ImportError:  # Airflow 2.11
    from airflow.decorators import task

CONN_ID = "invoices"
FOLDER = Path("/opt/airflow/data/invoices")

log = logging.getLogger(__name__)

with DAG(
    "nifi_syncfusion",
    schedule=timedelta(minutes=10),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
) as dag:
    refresh = RefreshTokenOperator(task_id="refresh", oauth2_conn_id=CONN_ID)

    @task
    def fetch(run_id: str | None = None) -> dict[str, Any]:
        folder = FOLDER / str(run_id).replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        hook = OAuth2Hook(CONN_ID, method="GET")
        url, pages = "/items", 0
        while url:
            # Without check_response an answer of 400 and more is an answer, not an error: it is routed below.
            answer = hook.run(url, extra_options={"check_response": False})
            if answer.status_code != 200:
                return {"status": answer.status_code, "pages": pages, "folder": str(folder)}
            pages += 1
            (folder / f"page-{pages:03}.json").write_bytes(answer.content)
            url = answer.json().get("next")
        return {"status": 200, "pages": pages, "folder": str(folder)}

    @task.branch
    def route(result: dict[str, Any]) -> str:
        status = result["status"]
        if status == 200:
            return "complete"
        return "later" if status == 429 or status >= 500 else "refused"

    @task
    def complete(result: dict[str, Any]) -> None:
        Path(result["folder"], "_SUCCESS").write_text(json.dumps({"pages": result["pages"]}))

    @task
    def later(result: dict[str, Any]) -> None:
        log.warning("The API answered %s after %s pages; the next run begins anew", result["status"], result["pages"])

    @task
    def refused(result: dict[str, Any]) -> None:
        raise ValueError(f"The API answered {result['status']}: somebody has to look at it")

    result = fetch()
    refresh >> result
    route(result) >> [complete(result), later(result), refused(result)]
