"""Peak memory of a task that writes its pages to `output`, by the number of pages."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.server import PageServer
from benchmarks.setting import be_quiet, connect, run_python

COUNTS = (200, 1000, 5000)


def measure(url: str, pages: int) -> float:
    be_quiet()
    connect(url, None)
    from airflow_oauth_provider.operators.http import OAuth2HttpOperator
    from airflow_oauth_provider.pagination import Cursor

    with tempfile.TemporaryDirectory() as folder:
        operator = OAuth2HttpOperator(
            task_id="pages",
            oauth2_conn_id="oauth2",
            method="GET",
            endpoint="/page",
            data={"last": pages},
            pagination=Cursor("next", "n"),
            output=str(Path(folder) / "items.ndjson.gz"),
            records_path="items",
        )
        written = operator.execute({})
    if (written["pages"], written["records"]) != (pages, 100 * pages):
        raise RuntimeError(str(written))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(rounds: int) -> list[str]:  # noqa: ARG001 - memory does not vary
    with PageServer() as server:
        peaks = [run_python("benchmarks.memory", server.url, count)["mb"] for count in COUNTS]
    lines = [
        "### Peak memory of the process with `output` (20 KB a page)",
        "",
        "| pages | added since the first row | peak |",
    ]
    lines.append("|---|---|---|")
    lines += [f"| {n:,} | {peak - peaks[0]:+.1f} MB | {peak:.0f} MB |" for n, peak in zip(COUNTS, peaks, strict=True)]
    return [*lines, "", "Bar: flat within 10 MB."]


if __name__ == "__main__":
    print(json.dumps({"mb": measure(sys.argv[1], int(sys.argv[2]))}))
