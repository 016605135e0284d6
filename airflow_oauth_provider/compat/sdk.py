"""Which Airflow this is, and its classes and functions, from where that version has them.

``apache-airflow-providers-common-compat`` has such a module too, but only from 1.8 on, and some of these names only
from 1.13 on. Airflow's official constraints bring 1.7 with Airflow 2.11.0 and 3.0, 1.11 with 3.1.

The version decides the place: a trial import would hide the cause of a failure, and an old place may still work but
warn.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

from airflow import __version__

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, BaseOperatorLink, Connection, Context, ObjectStoragePath, PokeReturnValue
    from airflow.sdk.bases.decorator import determine_kwargs
    from airflow.sdk.bases.notifier import BaseNotifier
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowConfigException,
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
    )
    from airflow.sdk.observability.stats import Stats
    from airflow.sdk.plugins_manager import AirflowPlugin
    from airflow.triggers.base import BaseEventTrigger


def parse_version(text: str) -> tuple[int, int]:
    """Return major and minor version of ``text``, such as ``(3, 1)`` for ``3.1.6rc1``."""
    major, minor = re.findall(r"\d+", text)[:2]
    return int(major), int(minor)


#: Major and minor version of the Airflow that is installed.
AIRFLOW = parse_version(__version__)
AIRFLOW_V_3_0_PLUS = AIRFLOW >= (3, 0)

__all__ = [
    "AirflowConfigException", "AirflowException", "AirflowFailException", "AirflowNotFoundException", "AirflowPlugin",
    "BaseEventTrigger", "BaseNotifier", "BaseOperator", "BaseOperatorLink", "Connection", "Context",
    "ObjectStoragePath", "PokeReturnValue", "Stats", "conf", "determine_kwargs",
]  # fmt: skip

#: The first version that has a name at a place, and the place; the newest first.
_PLACES: dict[str, tuple[tuple[tuple[int, int], str], ...]] = {
    **dict.fromkeys(
        ("AirflowConfigException", "AirflowException", "AirflowFailException", "AirflowNotFoundException"),
        # 3.2 moved them, and warns where some of them are asked for at the old place.
        (((3, 2), "airflow.sdk.exceptions"), ((2, 11), "airflow.exceptions")),
    ),
    # 3.2 gave the SDK these three; before, a worker had to use the server's.
    "AirflowPlugin": (((3, 2), "airflow.sdk.plugins_manager"), ((2, 11), "airflow.plugins_manager")),
    "conf": (((3, 2), "airflow.sdk.configuration"), ((2, 11), "airflow.configuration")),
    "determine_kwargs": (((3, 2), "airflow.sdk.bases.decorator"), ((2, 11), "airflow.utils.operator_helpers")),
    "Stats": (((3, 2), "airflow.sdk.observability.stats"), ((2, 11), "airflow.stats")),
    # 3.0 brought assets that a trigger watches.
    "BaseEventTrigger": (((3, 0), "airflow.triggers.base"),),
    # 3.0 brought the SDK.
    "BaseNotifier": (((3, 0), "airflow.sdk.bases.notifier"), ((2, 11), "airflow.notifications.basenotifier")),
    "BaseOperator": (((3, 0), "airflow.sdk"), ((2, 11), "airflow.models.baseoperator")),
    "BaseOperatorLink": (((3, 0), "airflow.sdk"), ((2, 11), "airflow.models.baseoperatorlink")),
    "Connection": (((3, 0), "airflow.sdk"), ((2, 11), "airflow.models.connection")),
    "Context": (((3, 0), "airflow.sdk"), ((2, 11), "airflow.utils.context")),
    "ObjectStoragePath": (((3, 0), "airflow.sdk"), ((2, 11), "airflow.io.path")),
    "PokeReturnValue": (((3, 0), "airflow.sdk"), ((2, 11), "airflow.sensors.base")),
}


def __getattr__(name: str) -> Any:
    """Import ``name`` at its first use: most processes need few of them, and some are slow to import."""
    for since, module in _PLACES.get(name, ()):
        if since <= AIRFLOW:
            found = globals()[name] = getattr(importlib.import_module(module), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
