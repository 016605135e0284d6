"""What a person can do to a grant, for the pages and the JSON alike. Each is audited under the person's name."""

from __future__ import annotations

from typing import Any

from airflow_oauth_provider.api_server.access import audited
from airflow_oauth_provider.doctor.examination import examine
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.tokens.result import TokenStatus


def refresh(conn_id: str, user: Any) -> TokenStatus:
    """Refresh the access token now.

    :raises OAuth2Error: it failed.
    """
    hook = OAuth2Hook(conn_id, actor=user.get_name())
    return audited("oauth2_refresh", conn_id, user, hook.refresh)


def revoke(conn_id: str, user: Any) -> bool:
    """End the grant at the authorization server.

    :return: False where there was nothing to revoke.
    :raises OAuth2Error: it failed.
    """
    hook = OAuth2Hook(conn_id, actor=user.get_name())
    return audited("oauth2_revoke", conn_id, user, hook.revoke)


def check(conn_id: str, user: Any) -> Report:
    """Have the doctor examine the connection, at its servers too."""
    return audited("oauth2_check", conn_id, user, lambda: examine(conn_id))
