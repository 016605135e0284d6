"""1,000 deferred requests at once in one process: the stock HttpTrigger and OAuth2HttpTrigger."""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from typing import Any

from benchmarks.server import PageServer
from benchmarks.setting import be_quiet, connect, run_python

REQUESTS = 1000


def measure(which: str, url: str, ca_file: str | None) -> dict[str, float]:
    be_quiet()
    connect(url, ca_file)
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(files, 4096), most), most))

    def trigger(number: int) -> Any:
        data = {"n": number, "last": REQUESTS}
        if which == "stock":
            from airflow.providers.http.triggers.http import HttpTrigger

            return HttpTrigger(http_conn_id="stock", method="GET", endpoint="/page", data=data)
        from airflow_oauth_provider.triggers.http import OAuth2HttpTrigger

        return OAuth2HttpTrigger(oauth2_conn_id="oauth2", method="GET", endpoint="/page", data=data)

    async def one(number: int) -> str:
        async for event in trigger(number).run():
            if event.payload["status"] != "success":
                raise RuntimeError(str(event.payload)[:300])
            return str(event.payload["status"])
        raise RuntimeError("no event")

    async def all_of_them(count: int) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(count)))
        return time.perf_counter() - began

    async def main() -> float:
        await all_of_them(2)  # imports
        return await all_of_them(REQUESTS)

    seconds = asyncio.run(main())
    return {"per_second": REQUESTS / seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def report(rounds: int) -> list[str]:
    lines = [
        f"### {REQUESTS:,} deferred requests at once in one triggerer process",
        "",
        "| | throughput against stock | peak memory against stock | `OAuth2HttpTrigger` | `HttpTrigger` |",
        "|---|---|---|---|---|",
    ]
    for name, tls, delay in (("TLS", True, 0.0), ("plain HTTP", False, 0.0), ("TLS, answers take 1 s", True, 1.0)):
        with PageServer(tls, delay) as server:
            results: dict[str, list[dict[str, float]]] = {"stock": [], "ours": []}
            for _ in range(min(rounds, 3)):
                for which, found in results.items():
                    found.append(run_python("benchmarks.deferred", which, server.url, server.ca_file or ""))
        rate = {which: statistics.median(r["per_second"] for r in found) for which, found in results.items()}
        peak = {which: statistics.median(r["mb"] for r in found) for which, found in results.items()}
        lines.append(
            f"| {name} | {rate['ours'] / rate['stock']:.2f} | {peak['ours'] - peak['stock']:+.0f} MB | "
            f"{rate['ours']:.0f} a second, {peak['ours']:.0f} MB | {rate['stock']:.0f} a second, "
            f"{peak['stock']:.0f} MB |"
        )
    return [*lines, "", "Bar: no slower than stock."]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], sys.argv[3] or None)))
