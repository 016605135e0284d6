"""The link from a task to the page of its grant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat.api_server import HAS_PAGES, grant_url
from airflow_oauth_provider.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import BaseOperator


class GrantLink(BaseOperatorLink):
    """A button beside the task's logs: sign in, see the state, revoke (Airflow 3.1 and later; before, no page)."""

    name = "OAuth 2.0 grant"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of the page; empty where there is none."""
        conn_id = getattr(operator, "oauth2_conn_id", "")
        return grant_url(conn_id) if conn_id else ""


#: For ``operator_extra_links``: no button where there is no page.
GRANT_LINKS = (GrantLink(),) if HAS_PAGES else ()
