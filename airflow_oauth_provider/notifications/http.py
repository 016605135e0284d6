"""``OAuth2HttpNotifier``: sends a notice to an API, with a token that stays fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat.sdk import BaseNotifier

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Context
    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook


class OAuth2HttpNotifier(BaseNotifier):
    """Sends a request, as ``HttpNotifier`` does, over a connection of type ``oauth2``.

    :param oauth2_conn_id: connection of type ``oauth2``. (templated)
    :param http_conn_id: the same, by the name that ``HttpNotifier`` has for it.
    :param endpoint: added to the connection's base URL; or a whole URL. (templated)
    :param method: HTTP method.
    :param data: parameters of a GET, the body of other methods. (templated)
    :param json: the JSON body. (templated)
    :param headers: of the request. (templated)
    :param extra_options: HttpHook's options. (templated)
    """

    template_fields: Sequence[str] = ("oauth2_conn_id", "endpoint", "data", "json", "headers", "extra_options")

    def __init__(
        self,
        *,
        oauth2_conn_id: str | None = None,
        http_conn_id: str = "oauth2_default",
        endpoint: str | None = None,
        method: str = "POST",
        data: dict[str, Any] | str | None = None,
        json: Any = None,
        headers: dict[str, Any] | None = None,
        extra_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.oauth2_conn_id = oauth2_conn_id or http_conn_id
        self.endpoint = endpoint
        self.method = method
        self.data = data
        self.json = json
        self.headers = headers
        self.extra_options = extra_options or {}

    @property
    def hook(self) -> OAuth2Hook:
        """A new hook for the request."""
        from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

        return OAuth2Hook(self.oauth2_conn_id, method=self.method)

    def notify(self, context: Context) -> None:  # noqa: ARG002 - Airflow's signature
        """Send the request: raises ApiError when the answer is an error."""
        hook = self.hook
        try:
            response = hook.run(self.endpoint, self.data, self.headers, self.extra_options, json=self.json)
        finally:
            hook.close()
        self.log.debug("Notified %s: %d", response.url, response.status_code)

    async def async_notify(self, context: Context) -> None:
        """Send the request from an event loop, in a thread: a single request needs no more."""
        await asyncio.to_thread(self.notify, context)
