"""``RefreshTokenOperator``: the first task of a DAG."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat.sdk import BaseOperator
from airflow_oauth_provider.links import GRANT_LINKS

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Context


class RefreshTokenOperator(BaseOperator):
    """Refreshes the access token of an ``oauth2`` connection and writes the rotated tokens back.

    Returns what happened (see :class:`~airflow_oauth_provider.tokens.decision.TokenStatus`), with nothing secret
    in it. A dead refresh token fails the task without retries, and so does a wrong connection; a passing failure is
    retried, and does no harm while the stored token still works.

    :param oauth2_conn_id: connection of type ``oauth2``. (templated)
    :param force: refresh although the token is fresh, so that the DAG begins with its whole lifetime.
    :param min_ttl: seconds that the token must still live when the task ends.
    :param coalesce_within: seconds within which another DAG run's refresh counts as this one's.
    :param wait_for_sign_in: how long to wait for a person who has to sign in. The task is deferred meanwhile, the
        listeners of the deployment are told, and it goes on within seconds of the sign-in. None: the task fails.
    """

    template_fields: Sequence[str] = ("oauth2_conn_id",)
    ui_color = "#c8e6c9"
    operator_extra_links = GRANT_LINKS

    def __init__(
        self,
        *,
        oauth2_conn_id: str = "oauth2_default",
        force: bool = True,
        min_ttl: float = 0.0,
        coalesce_within: float = 30.0,
        wait_for_sign_in: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.oauth2_conn_id = oauth2_conn_id
        self.force = force
        self.min_ttl = min_ttl
        self.coalesce_within = coalesce_within
        self.wait_for_sign_in = wait_for_sign_in

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Refresh, and return the status."""
        from airflow_oauth_provider.exceptions import ConfigurationError, ReauthorizationRequired
        from airflow_oauth_provider.triggers.sign_in import needs_sign_in

        try:
            return self._refresh()
        except (ConfigurationError, ReauthorizationRequired):
            if self.wait_for_sign_in is None or not needs_sign_in(self.oauth2_conn_id):
                raise
            self._defer(self.wait_for_sign_in)
            raise

    def _refresh(self) -> dict[str, Any]:
        from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

        status = OAuth2Hook(self.oauth2_conn_id).refresh(
            force=self.force, min_ttl=self.min_ttl, coalesce_within=self.coalesce_within
        )
        self.log.info("Connection %r: %s", self.oauth2_conn_id, status.sentence)
        return status.as_dict()

    def _defer(self, patience: timedelta) -> None:
        from airflow_oauth_provider.connection.notices import handle_event
        from airflow_oauth_provider.hooks.oauth2 import name_task
        from airflow_oauth_provider.tokens.events import GrantEvent
        from airflow_oauth_provider.triggers.sign_in import SignInTrigger

        now = time.time()
        handle_event(GrantEvent("sign_in_again", self.oauth2_conn_id, now, name_task(), detail="waits"))
        self.log.info("Connection %r: waiting for a person to sign in, for %s at most", self.oauth2_conn_id, patience)
        self.defer(
            trigger=SignInTrigger(self.oauth2_conn_id, now + patience.total_seconds()), method_name="execute_complete"
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Refresh, now that somebody has signed in; raises ReauthorizationRequired where nobody has."""
        from airflow_oauth_provider.exceptions import ReauthorizationRequired

        if not (event or {}).get("signed_in"):
            raise ReauthorizationRequired(
                f"nobody signed in within {self.wait_for_sign_in}. Sign in, then clear this task.",
                conn_id=self.oauth2_conn_id,
            )
        return self._refresh()
