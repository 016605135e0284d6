"""`python -m benchmarks [--rounds N] [pages|side_by_side|auth|memory|deferred|imports …]`."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import import_module
from importlib.metadata import version

from benchmarks.setting import airflow_home

NAMES = ("pages", "side_by_side", "auth", "memory", "deferred", "imports")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="name", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(
        f"Airflow {version('apache-airflow')}, apache-airflow-providers-http "
        f"{version('apache-airflow-providers-http')}, requests {version('requests')}, aiohttp {version('aiohttp')}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores. Medians of {chosen.rounds} rounds, in turn.\n"
    )
    with airflow_home():
        for name in chosen.names or NAMES:
            print("\n".join(import_module(f"benchmarks.{name}").report(chosen.rounds)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
