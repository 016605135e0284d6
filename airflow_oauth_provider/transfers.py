"""Airflow's transfer operators from HTTP, over a connection of type ``oauth2``.

``HttpToS3Operator`` and ``HttpToGCSOperator`` make an ``HttpHook`` themselves, which knows nothing of tokens::

    class OAuth2ToS3Operator(OAuth2TransferMixin, HttpToS3Operator):
        pass
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook


class OAuth2TransferMixin(BaseOperator):
    """Stands before an operator that keeps its hook in ``http_hook``, and takes that operator's arguments.

    It is an operator itself: Airflow applies ``default_args`` to the ``__init__`` of operators only.

    Requests are repeated as those of :class:`~airflow_oauth_provider.operators.http.OAuth2HttpOperator`.

    :param oauth2_conn_id: connection of type ``oauth2``; ``http_conn_id`` works as well. (templated)
    :param max_attempts: how often one request is sent at the most, see there, also for the others.
    """

    http_conn_id: str
    method: str
    auth_type: Any
    tcp_keep_alive: bool
    tcp_keep_alive_idle: int
    tcp_keep_alive_count: int
    tcp_keep_alive_interval: int

    def __init__(
        self,
        *,
        oauth2_conn_id: str | None = None,
        http_conn_id: str = "oauth2_default",
        max_attempts: int = 5,
        max_retry_after: float = 300.0,
        retry_non_idempotent: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(http_conn_id=oauth2_conn_id or http_conn_id, **kwargs)
        self.max_attempts = max_attempts
        self.max_retry_after = max_retry_after
        self.retry_non_idempotent = retry_non_idempotent

    @property
    def oauth2_conn_id(self) -> str:
        """The connection: another name of ``http_conn_id``."""
        return self.http_conn_id

    @cached_property
    def http_hook(self) -> OAuth2Hook:
        """The hook of the task."""
        from airflow_oauth_provider.hooks.oauth2 import hook_of

        return hook_of(self, attempts=self.max_attempts, auth_type=self.auth_type)
