"""``RevokeTokenOperator``: ends a grant, or an access token alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat.sdk import BaseOperator
from airflow_oauth_provider.links import GRANT_LINKS

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Context


class RevokeTokenOperator(BaseOperator):
    """Revokes the token of an ``oauth2`` connection at the authorization server (RFC 7009).

    Revoke the access token alone to try how a DAG recovers from a token that died early: the next request meets a 401,
    refreshes and is sent again. Some servers end the whole grant with any of its tokens (RFC 7009 section 2.1 lets
    them): try it with a grant that you can do without.

    Returns whether there was a token to revoke.

    :param oauth2_conn_id: connection of type ``oauth2``. (templated)
    :param kind: ``refresh_token``: the grant ends, and a person has to sign in again; ``access_token``: that alone.
    """

    template_fields: Sequence[str] = ("oauth2_conn_id",)
    ui_color = "#ffcdd2"
    operator_extra_links = GRANT_LINKS

    def __init__(self, *, oauth2_conn_id: str = "oauth2_default", kind: str = "refresh_token", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.oauth2_conn_id = oauth2_conn_id
        self.kind = kind

    def execute(self, context: Context) -> bool:  # noqa: ARG002 - Airflow's signature
        """Revoke the token; return whether there was one."""
        from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

        return OAuth2Hook(self.oauth2_conn_id).revoke(self.kind)
