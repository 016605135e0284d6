"""Write a record by way of the plugin's route, as a task does."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import requests

from airflow_oauth_provider.stores import record_key

PATH = record_key.URL_PREFIX + record_key.RECORD_ROUTE


def put_record(
    url: str, conn_id: str, key: str, record: str, if_version: str | None = None, task: str = ""
) -> requests.Response:
    """Send a request that is signed with the record key of the connection."""
    body = json.dumps({"record": record, "if_version": if_version, "task": task}).encode()
    headers = record_key.sign_request(key, "PUT", conn_id, body, now=time.time()).headers()
    return requests.put(
        url + PATH.format(connection_id=quote(conn_id, safe="")), data=body, headers=headers, timeout=60
    )
