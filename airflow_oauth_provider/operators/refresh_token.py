"""``RefreshTokenOperator``: the first task of a DAG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Context


class RefreshTokenOperator(BaseOperator):
    """Refreshes the access token of an ``oauth2`` connection and writes the rotated tokens back.

    Returns what happened (see :class:`~airflow_oauth_provider.tokens.result.TokenStatus`), with nothing secret
    in it. A dead refresh token fails the task without retries, and so does a wrong connection; a passing failure is
    retried, and does no harm while the stored token still works.

    :param oauth2_conn_id: connection of type ``oauth2``. (templated)
    :param force: refresh although the token is fresh, so that the DAG begins with its whole lifetime.
    :param min_ttl: seconds that the token must still live when the task ends.
    :param coalesce_within: seconds within which another DAG run's refresh counts as this one's.
    """

    template_fields: Sequence[str] = ("oauth2_conn_id",)
    ui_color = "#c8e6c9"

    def __init__(
        self,
        *,
        oauth2_conn_id: str = "oauth2_default",
        force: bool = True,
        min_ttl: float = 0.0,
        coalesce_within: float = 30.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.oauth2_conn_id = oauth2_conn_id
        self.force = force
        self.min_ttl = min_ttl
        self.coalesce_within = coalesce_within

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Refresh, and return the status."""
        from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

        status = OAuth2Hook(self.oauth2_conn_id).refresh(
            force=self.force, min_ttl=self.min_ttl, coalesce_within=self.coalesce_within
        )
        self.log.info("Token of connection %r: %s", self.oauth2_conn_id, status)
        return status.as_dict()
