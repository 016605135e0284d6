"""Airflow's Fernet key."""

from __future__ import annotations

import base64
import logging
from functools import cache
from typing import Any

log = logging.getLogger(__name__)

#: Bytes of a Fernet key.
_FERNET_KEY_LENGTH = 32


def get_fernet() -> Any:
    """Return Airflow's Fernet, or its stand-in where no key is set (``is_encrypted`` tells)."""
    from airflow.models.crypto import get_fernet as airflow_fernet

    return airflow_fernet()


@cache
def fernet_keys() -> list[str]:
    """Return Airflow's Fernet keys, the newest first; none where this process has not been given any.

    Tasks of Airflow 3 need none to run, but mostly share the configuration of whoever started them. Asked for once in
    a process: a configuration can say that a command prints it, or that a secrets backend has it.
    """
    from airflow_oauth_provider.compat.sdk import AirflowConfigException, conf

    try:
        text = conf.get("core", "fernet_key", fallback="") or ""
    except AirflowConfigException as error:
        # A worker may share the configuration, but not the command that it names.
        log.debug("This process cannot read Airflow's Fernet key (%s)", type(error).__name__)
        return []
    return [key for part in text.split(",") if _is_fernet_key(key := part.strip())]


def _is_fernet_key(text: str) -> bool:
    """Tell a key from what the SDK of Airflow 3.2 and later gives where there is none: ``{FERNET_KEY}``, literally."""
    try:
        return len(base64.urlsafe_b64decode(text)) == _FERNET_KEY_LENGTH
    except ValueError:
        return False
