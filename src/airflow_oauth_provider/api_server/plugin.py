"""The Airflow plugin, cheap to import: every Airflow process loads it, only the API server needs what it brings."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_oauth_provider.compat import AIRFLOW_V_3_0_PLUS
from airflow_oauth_provider.stores.api_client import URL_PREFIX


class _Apps:
    """Builds the application when somebody asks for it; a property would not do, Airflow asks the class."""

    def __get__(self, instance: Any, owner: type) -> list[dict[str, Any]]:
        if not AIRFLOW_V_3_0_PLUS:
            return []  # the webserver of Airflow 2 has no such applications, and its tasks write the database
        from airflow_oauth_provider.api_server.routes import create_app

        return [{"app": create_app(), "url_prefix": URL_PREFIX, "name": "OAuth 2.0 token store"}]


class TokenStorePlugin(AirflowPlugin):
    """Mounts the application of :mod:`airflow_oauth_provider.api_server.routes` in the API server."""

    name = "oauth2_token_store"
    fastapi_apps = _Apps()
