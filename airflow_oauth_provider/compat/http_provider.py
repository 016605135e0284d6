"""What older versions of ``apache-airflow-providers-http`` cannot do."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Mapping
from typing import Any

from airflow.providers.http.hooks.http import HttpHook

from airflow_oauth_provider.exceptions import ConfigurationError

_DISTRIBUTION = "apache-airflow-providers-http"

#: Arguments that only silence what newer versions do.
_SILENCERS = frozenset({"warn_on_non_idempotent"})  # 6.3 warns of a deferred POST


def known_arguments(operator: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out arguments that silence a warning which this version of ``operator`` does not give."""
    known = inspect.signature(operator).parameters
    return {name: value for name, value in given.items() if name in known or name not in _SILENCERS}


def check_srv_lookup(conn_id: str) -> None:
    """Refuse ``srv_lookup`` where ``HttpHook`` does not know it: it would take the record's name for a host.

    :param conn_id: the connection, for the message.
    :raises ConfigurationError: the provider is older than 6.2.
    """
    if hasattr(HttpHook, "_get_srv_base_urls"):
        return
    raise ConfigurationError(
        f"srv_lookup needs {_DISTRIBUTION} 6.2 or later, and this is "
        f"{importlib.metadata.version(_DISTRIBUTION)}. Update it, or turn srv_lookup off and enter the API's host.",
        conn_id=conn_id,
    )
