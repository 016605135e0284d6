"""The hook of one task: a single session for all its requests, sent as the task's arguments say."""

from __future__ import annotations

from typing import Protocol

from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.http.rate_limit import RateLimit
from airflow_oauth_provider.http.retry import RetryPolicy
from airflow_oauth_provider.http.sender import Sender


class Arguments(Protocol):
    """What an operator and a sensor have in common."""

    oauth2_conn_id: str
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
) -> OAuth2Hook:
    """Return a new hook for ``task``.

    :param attempts: how often one request is sent at the most.
    :param auth_type: of ``HttpOperator``.
    :param requests_per_second: send no more than this many; None: as many as will.
    :param spool: see :class:`~airflow_oauth_provider.http.sender.Sending`.
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
    policy = RetryPolicy(attempts, task.max_retry_after, task.retry_non_idempotent)
    hook.sending = Sender(policy, RateLimit(requests_per_second, max_retry_after=task.max_retry_after), spool=spool)
    return hook
