"""How long a DAG file's import of an operator takes, each in a fresh interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys

STOCK = "airflow.providers.http.operators.http"
OURS = ("airflow_oauth_provider.operators.http", "airflow_oauth_provider.operators.refresh_token")
HEAVY = ("hvac", "jsonpath_ng", "airflow_oauth_provider.hooks.oauth2")

_PROGRAM = """
import sys, time
began = time.perf_counter()
import {module}
took = time.perf_counter() - began
print(took, *[name for name in {heavy!r} if name in sys.modules])
"""


def seconds_of(module: str) -> tuple[float, list[str]]:
    program = _PROGRAM.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    took, *heavy = done.stdout.splitlines()[-1].split()
    return float(took), heavy


def report(rounds: int) -> list[str]:
    modules = (STOCK, *OURS)
    times: dict[str, list[float]] = {module: [] for module in modules}
    for module in modules:
        _, heavy = seconds_of(module)  # writes the bytecode, too
        if module != STOCK and heavy:
            raise RuntimeError(f"{module} imports {', '.join(heavy)}")
    for _ in range(max(rounds * 3, 9)):
        for module in modules:
            times[module].append(seconds_of(module)[0])
    medians = {module: statistics.median(found) for module, found in times.items()}
    lines = ["### Import of the operators' modules", "", "| module | against stock | median |", "|---|---|---|"]
    lines += [f"| `{m}` | {medians[m] / medians[STOCK] - 1:+.1%} | {medians[m] * 1000:.0f} ms |" for m in modules]
    return [*lines, "", "Bar: within 5% of the stock operator; `hvac` is not imported (else this fails)."]
