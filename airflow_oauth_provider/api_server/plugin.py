"""The Airflow plugin, cheap to import: every Airflow process loads it, only servers need what it brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.compat.api_server import HAS_PAGES, PAGES_PREFIX, base_path
from airflow_oauth_provider.compat.sdk import AIRFLOW_V_3_0_PLUS, AirflowPlugin
from airflow_oauth_provider.stores.record_key import URL_PREFIX


class _OfServers:
    """A list that only servers ask for. Servers also edit connections, so this prepares for edits when it is asked.

    A property does not work: Airflow asks the class.
    """

    def __init__(self, make: Callable[[], list[dict[str, Any]]]) -> None:
        self._make = make

    def __get__(self, instance: Any, owner: type) -> list[dict[str, Any]]:
        from airflow_oauth_provider.connection.edits import keep_records, prepare_rows

        keep_records()
        prepare_rows()
        return self._make()


def _apps() -> list[dict[str, Any]]:
    if not AIRFLOW_V_3_0_PLUS:
        return []  # the webserver of Airflow 2 has no such applications, and its tasks write the database
    from airflow_oauth_provider.api_server import pages

    apps = [{"app": pages.create_app(), "url_prefix": PAGES_PREFIX, "name": "OAuth 2.0 grants"}]
    if deployment.token_store_route():
        from airflow_oauth_provider.api_server.routes import create_app

        apps.append({"app": create_app(), "url_prefix": URL_PREFIX, "name": "OAuth 2.0 token store"})
    return apps


def _views() -> list[dict[str, Any]]:
    if not HAS_PAGES:
        return []
    # Without a url_route it is a link and not a frame: vendors refuse to show their sign-in within one.
    href = f"{base_path()}{PAGES_PREFIX}/"
    return [{"name": "OAuth 2.0 grants", "href": href, "destination": "nav", "category": "admin"}]


class TokenStorePlugin(AirflowPlugin):
    """Mounts the pages and :mod:`airflow_oauth_provider.api_server.routes`, and keeps records through edits."""

    name = "oauth2_token_store"
    fastapi_apps = _OfServers(_apps)  # asked for by the API server of Airflow 3
    external_views = _OfServers(_views)  # asked for by the API server of Airflow 3.1 and later
    flask_blueprints = _OfServers(list)  # asked for by the webserver of Airflow 2
