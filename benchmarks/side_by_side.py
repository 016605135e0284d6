"""200 pages of an API that takes 100 ms for each: one after the other, and eight at once.

Each way runs in a process of its own, so that its peak memory is its own. What it takes to import is left out of both
times; peak memory has it in.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGES = 200
DELAY = 0.1
#: For what memory takes with more pages.
MANY = 1000


def operator_at(width: int) -> Callable[[str, int], int]:
    def run(_: str, pages: int) -> int:
        from airflow_oauth_provider.operators.http import OAuth2HttpOperator
        from airflow_oauth_provider.pagination import PageNumber

        with tempfile.TemporaryDirectory() as folder:
            written = OAuth2HttpOperator(
                task_id="pages",
                oauth2_conn_id="oauth2",
                method="GET",
                endpoint="/page",
                data={"last": pages},
                pagination=PageNumber("items", parameter="n", pages="pages"),
                concurrent_pages=width,
                output=str(Path(folder) / "pages.json"),
            ).execute({})
        return int(written["pages"])

    return run


def triggerer(_: str, pages: int) -> int:
    import asyncio

    from airflow_oauth_provider.pagination import PageNumber
    from airflow_oauth_provider.triggers.http import OAuth2HttpTrigger

    async def written() -> int:
        with tempfile.TemporaryDirectory() as folder:
            trigger = OAuth2HttpTrigger(
                oauth2_conn_id="oauth2",
                method="GET",
                endpoint="/page",
                data={"last": pages},
                pagination=PageNumber("items", parameter="n", pages="pages").to_dict(),
                concurrent_pages=8,
                output={"path": str(Path(folder) / "pages.json")},
            )
            (event,) = [found.payload async for found in trigger.run()]
            return int(event["output"]["pages"])

    return asyncio.run(written())


def stock(_: str, pages: int) -> int:
    from airflow.providers.http.operators.http import HttpOperator

    def following(response: Any) -> dict[str, Any] | None:
        number = response.json()["next"]
        return {"data": {"n": number}} if number else None

    return len(
        HttpOperator(
            task_id="pages",
            http_conn_id="stock",
            method="GET",
            endpoint="/page",
            data={"n": 1, "last": pages},
            pagination_function=following,
        ).execute({})
    )


def bare(url: str, pages: int) -> int:
    import requests

    count = 0
    with requests.Session() as session, tempfile.TemporaryFile() as file:
        session.headers["Authorization"] = "Bearer benchmark-token"
        number = 1
        while number:
            response = session.get(f"{url}/page", params={"n": number, "last": pages}, timeout=30)
            response.raise_for_status()
            number = response.json()["next"]
            file.write(response.content)
            count += 1
    return count


def dlt(url: str, pages: int) -> int:
    from dlt.sources.helpers.rest_client import RESTClient
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
    from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator

    paginator = PageNumberPaginator(base_page=1, page_param="n", total_path="pages")
    client = RESTClient(url, auth=BearerTokenAuth(token="benchmark-token"), paginator=paginator)
    with tempfile.TemporaryFile("w") as file:
        count = 0
        for page in client.paginate("/page", params={"last": pages}, data_selector="items"):
            json.dump(list(page), file)
            count += 1
    return count


WAYS: dict[str, Callable[[str, int], int]] = {
    "`OAuth2HttpOperator`, 8 at once": operator_at(8),
    "`OAuth2HttpTrigger`, 8 at once": triggerer,
    "`OAuth2HttpOperator`": operator_at(1),
    "a bare session": bare,
    "dlt's `RESTClient`": dlt,
    "`HttpOperator`": stock,
}


def measure(way: str, url: str, pages: int) -> dict[str, float]:
    if way != "dlt's `RESTClient`":
        from benchmarks.setting import be_quiet, connect

        be_quiet()
        connect(url, None)
    run = WAYS[way]
    run(url, 1)  # imports
    began, cpu = time.perf_counter(), time.process_time()
    if run(url, pages) != pages:
        raise RuntimeError("pages are missing")
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu / pages * 1000, "mb": peak}


def report(rounds: int) -> list[str]:
    from benchmarks.server import PageServer
    from benchmarks.setting import run_python
    from scripts import environments as env

    module = "benchmarks.side_by_side"
    with PageServer(delay=DELAY) as server:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(min(rounds, 3)):
            for way, results in found.items():
                python = env.python_of("dlt") if way == "dlt's `RESTClient`" else sys.executable
                results.append(run_python(module, way, server.url, PAGES, python=python))
    with PageServer() as server:
        flat = {
            way: [run_python(module, way, server.url, pages)["mb"] for pages in (PAGES, MANY)] for way in list(WAYS)[:2]
        }
    median = {
        way: {name: statistics.median(result[name] for result in results) for name in results[0]}
        for way, results in found.items()
    }
    base = median["a bare session"]
    lines = [
        f"### {PAGES} pages of 20 KB from an API that takes 100 ms for each",
        "",
        "| | elapsed | times as fast as a bare session | processor a page | against a bare session | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {way} | {took['seconds']:.1f} s | {base['seconds'] / took['seconds']:.1f} | {took['cpu']:.2f} ms | "
        f"{took['cpu'] / base['cpu'] - 1:+.0%} | {took['mb']:.0f} MB |"
        for way, took in median.items()
    ]
    added = ", ".join(f"{after - before:+.1f} MB ({way})" for way, (before, after) in flat.items())
    return [
        *lines,
        "",
        f"Memory with {MANY:,} pages rather than {PAGES}: {added}.",
        "",
        "Bars at 8 at once: 6 times as fast as a bare session, 25% more processor time at most, memory flat in 10 MB.",
    ]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
