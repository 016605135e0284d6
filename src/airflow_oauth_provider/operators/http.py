"""``OAuth2HttpOperator``: calls an API with an access token that stays fresh, on one session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.http.operators.http import HttpOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook


class OAuth2HttpOperator(HttpOperator):
    """Calls an API, page after page if need be, on one session that stays authorized.

    Takes all that ``HttpOperator`` takes.

    :param oauth2_conn_id: connection of type ``oauth2``. (templated)
    :param http_conn_id: the same, by the name that ``HttpOperator`` has for it.
    """

    conn_id_field = "oauth2_conn_id"
    template_fields: Sequence[str] = (*HttpOperator.template_fields, "oauth2_conn_id")
    ui_color = "#b3e5fc"

    def __init__(
        self, *, oauth2_conn_id: str | None = None, http_conn_id: str = "oauth2_default", **kwargs: Any
    ) -> None:
        super().__init__(http_conn_id=oauth2_conn_id or http_conn_id, **kwargs)
        self.oauth2_conn_id = oauth2_conn_id or http_conn_id
        self._hook: OAuth2Hook | None = None

    @property
    def hook(self) -> OAuth2Hook:
        """The task's hook: one for all its requests."""
        if self._hook is None:
            from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

            self._hook = OAuth2Hook(
                self.oauth2_conn_id,
                method=self.method,
                auth_type=self.auth_type,
                tcp_keep_alive=self.tcp_keep_alive,
                tcp_keep_alive_idle=self.tcp_keep_alive_idle,
                tcp_keep_alive_count=self.tcp_keep_alive_count,
                tcp_keep_alive_interval=self.tcp_keep_alive_interval,
            )
        return self._hook

    def execute_sync(self, context: Context) -> Any:
        """Send the request, and those of the following pages."""
        try:
            return super().execute_sync(context)
        finally:
            if self._hook is not None:
                self._hook.close()
            self._hook = None
