"""Looks at Airflow from within, in a process of its own: `python -m tests.matrix.probes NAME ...`.

Prints one line: "PROBE " and JSON.

Whatever Airflow says meanwhile goes through `warnings` or `logging`, and is part of what is printed.
"""

from __future__ import annotations

import json
import logging
import runpy
import sys
import warnings
from typing import Any

PROVIDER = "airflow-oauth-provider"


class Noise(logging.Handler):
    """Collects what is logged from WARNING on, and every Python warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._show = warnings.showwarning

    def __enter__(self) -> Noise:
        warnings.simplefilter("always")
        import airflow.settings  # noqa: F401 - sets up logging, and a showwarning of its own

        # Airflow's own loggers do not all hand their records up to the root.
        for name in ("", *(name for name in logging.root.manager.loggerDict if name.startswith("airflow"))):
            logging.getLogger(name).addHandler(self)
        warnings.simplefilter("always")
        warnings.showwarning = self._warned
        return self

    def __exit__(self, *_: object) -> None:
        warnings.showwarning = self._show

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(f"{record.levelname} {record.name}: {record.getMessage()}")

    def _warned(self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        self.heard.append(f"{category.__name__} {filename}: {message}")


def provider() -> dict[str, Any]:
    """What Airflow's providers manager makes of this package."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    info = manager.providers[PROVIDER]
    hook = manager.hooks["oauth2"]
    return {
        "version": info.version,
        "hook": hook and hook.hook_class_name,
        "widgets": sorted(name for name in manager.connection_form_widgets if "oauth2" in name),
    }


def plugins() -> dict[str, Any]:
    """What Airflow's plugins manager loads, configured as it comes."""
    from airflow import plugins_manager

    if hasattr(plugins_manager, "get_fastapi_plugins"):  # 3.2 and later
        loaded, errors = plugins_manager._get_plugins()
        apps, _ = plugins_manager.get_fastapi_plugins()
    else:
        plugins_manager.ensure_plugins_loaded()
        loaded, errors = plugins_manager.plugins or [], plugins_manager.import_errors
        if hasattr(plugins_manager, "initialize_fastapi_plugins"):
            plugins_manager.initialize_fastapi_plugins()
        apps = getattr(plugins_manager, "fastapi_apps", None) or []
    return {
        "names": [plugin.name for plugin in loaded],
        "errors": errors,
        "prefixes": [app["url_prefix"] for app in apps],
    }


def dag_files(*paths: str) -> dict[str, Any]:
    """What is heard while each of these DAG files is run as Airflow runs it, in this order."""
    heard = {}
    for path in paths:
        before = len(NOISE.heard)
        runpy.run_path(path, run_name="a_dag_file")
        heard[path] = NOISE.heard[before:]
    return {"heard": heard}


NOISE = Noise()
PROBES = {"provider": provider, "plugins": plugins, "dag_files": dag_files}


def main(name: str, *arguments: str) -> None:
    with NOISE:
        found = PROBES[name](*arguments)
    sys.stdout.write("\nPROBE " + json.dumps({**found, "noise": NOISE.heard}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
