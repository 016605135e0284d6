"""Hide secrets in Airflow's logs."""

from __future__ import annotations

import importlib
import logging

from airflow_oauth_provider.compat import supervisor
from airflow_oauth_provider.compat.sdk import AIRFLOW
from airflow_oauth_provider.exceptions import StoreUnavailable

log = logging.getLogger(__name__)


def _masker_modules() -> tuple[str, ...]:
    """Return where this Airflow keeps the maskers of log lines."""
    if AIRFLOW >= (3, 1):  # one for the task side, one for the server side
        return ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")
    if AIRFLOW >= (3, 0):
        return ("airflow.sdk.execution_time.secrets_masker",)
    return ("airflow.utils.log.secrets_masker",)


def mask_secret(value: str | None) -> None:
    """Hide ``value`` in whatever this process, and on Airflow 3 its supervisor, logs from now on.

    :param value: the secret; None and ``""`` are ignored.
    """
    if not value:
        return
    for name in _masker_modules():
        importlib.import_module(name)._secrets_masker().add_mask(value)
    if supervisor.on_task_sdk():
        # Airflow's mask_secret would tell the supervisor too, but in the triggerers of 3.0 and 3.1 not from a
        # worker thread (see `supervisor.ask`): there it leaves an answer behind that the next caller takes for its own.
        from airflow.sdk.execution_time.comms import MaskSecret

        try:
            supervisor.ask(MaskSecret(value=value))
        except StoreUnavailable:
            # A supervisor that cannot be reached prints nothing of ours either; what matters fails on its own.
            log.debug("The supervisor could not be told of a value to mask")
