"""Hide secrets in Airflow's logs."""

from __future__ import annotations

import importlib
import logging
import threading
from collections import OrderedDict
from typing import Any

from airflow_oauth_provider.compat import supervisor
from airflow_oauth_provider.compat.sdk import AIRFLOW
from airflow_oauth_provider.exceptions import StoreUnavailable

log = logging.getLogger(__name__)

#: Characters of all hidden values together; older values go first. Airflow compiles all values into one pattern, again
#: for each new one, in a third of a second for so many. Tokens rotate, so without a bound a triggerer that runs for
#: months would get slower with every refresh.
_MOST = 400_000
#: Value to the patterns that it has added, masker by masker; the one that was named last is the last.
_hidden: OrderedDict[str, list[tuple[Any, set[str]]]] = OrderedDict()
_lock = threading.Lock()


def _masker_modules() -> tuple[str, ...]:
    """Return where this Airflow keeps the maskers of log lines."""
    if AIRFLOW >= (3, 1):  # one for the task side, one for the server side
        return ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")
    if AIRFLOW >= (3, 0):
        return ("airflow.sdk.execution_time.secrets_masker",)
    return ("airflow.utils.log.secrets_masker",)


def mask_secret(value: str | None) -> None:
    """Hide ``value`` in whatever this process, and on Airflow 3 its supervisor, logs from now on.

    A value that nobody has named while others of :data:`_MOST` characters were is not hidden any more.

    :param value: the secret; None and ``""`` are ignored.
    """
    if not value:
        return
    with _lock:
        _hide(value)
    if supervisor.on_task_sdk():
        # Airflow's mask_secret would tell the supervisor too, but in the triggerers of 3.0 and 3.1 not from a
        # worker thread (see `supervisor.ask`): there it leaves an answer behind that the next caller takes for its own.
        from airflow.sdk.execution_time.comms import MaskSecret

        try:
            supervisor.ask(MaskSecret(value=value))
        except StoreUnavailable:
            # A supervisor that cannot be reached prints nothing of ours either; what matters fails on its own.
            log.debug("The supervisor could not be told of a value to mask")


def _hide(value: str) -> None:
    added = _hidden.pop(value, [])
    if added and all(patterns <= masker.patterns for masker, patterns in added):
        _hidden[value] = added  # as at most reads of a connection: no masker has lost it
        return
    while _hidden and len(value) + sum(map(len, _hidden)) > _MOST:
        for masker, patterns in _hidden.popitem(last=False)[1]:
            masker.patterns.difference_update(patterns)  # what Airflow has added itself is not among them
    for name in _masker_modules():
        masker = importlib.import_module(name)._secrets_masker()
        before = set(masker.patterns)
        masker.add_mask(value)
        if new := masker.patterns - before:
            added.append((masker, new))
    _hidden[value] = added
