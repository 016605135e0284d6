"""The hook of one task: a single session for all its requests, sent as the task's arguments say."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.http.retry import RateLimit, RetryPolicy, Sender

#: Connections that an adapter keeps open by default.
_POOL = 10


class Arguments(Protocol):
    """What an operator and a sensor have in common."""

    @property
    def oauth2_conn_id(self) -> str: ...  # noqa: D102

    method: str
    tcp_keep_alive: bool
    tcp_keep_alive_idle: int
    tcp_keep_alive_count: int
    tcp_keep_alive_interval: int
    max_retry_after: float
    retry_non_idempotent: bool


def hook_of(
    task: Arguments,
    attempts: int,
    *,
    auth_type: object = None,
    requests_per_second: float | None = None,
    spool: bool = False,
    width: int = 1,
    sleep: Callable[[float], None] = time.sleep,
    accepted: tuple[str, ...] = (),
    ends_at: float | None = None,
) -> OAuth2Hook:
    """Return a new hook for ``task``.

    :param attempts: how often one request is sent at the most.
    :param auth_type: of ``HttpOperator``.
    :param requests_per_second: requests that leave in a second at most; None: no limit.
    :param spool: see :class:`~airflow_oauth_provider.http.retry.Sender`.
    :param width: how many requests may be on their way at once.
    :param sleep: see there.
    :param accepted: see :class:`~airflow_oauth_provider.http.retry.RetryPolicy`, also for ``ends_at``.
    """
    hook = OAuth2Hook(
        task.oauth2_conn_id,
        method=task.method,
        auth_type=auth_type,
        tcp_keep_alive=task.tcp_keep_alive,
        tcp_keep_alive_idle=task.tcp_keep_alive_idle,
        tcp_keep_alive_count=task.tcp_keep_alive_count,
        tcp_keep_alive_interval=task.tcp_keep_alive_interval,
    )
    if width > _POOL and task.tcp_keep_alive:
        # All threads share the adapter, whose pool is too small for them by default.
        hook.keep_alive_adapter = TCPKeepAliveAdapter(
            idle=task.tcp_keep_alive_idle,
            count=task.tcp_keep_alive_count,
            interval=task.tcp_keep_alive_interval,
            pool_maxsize=width,
        )
    policy = RetryPolicy(attempts, task.max_retry_after, task.retry_non_idempotent, accepted=accepted, ends_at=ends_at)
    throttle = RateLimit(requests_per_second, max_retry_after=task.max_retry_after)
    hook.sending = Sender(policy, throttle, spool=spool, sleep=sleep)
    return hook
