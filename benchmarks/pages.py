"""200 pages of 20 KB: the stock HttpOperator, OAuth2HttpOperator, and one bare requests.Session."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.server import PageServer
from benchmarks.setting import TOKEN, be_quiet, connect, in_turn, run_python

PAGES = 200


def measure(tls: bool, rounds: int) -> dict[str, list[float]]:
    be_quiet()
    import requests
    from airflow.providers.http.operators.http import HttpOperator

    from airflow_oauth_provider.operators.http import OAuth2HttpOperator

    with PageServer(tls) as server:
        connect(server.url, server.ca_file)

        def following(response: Any) -> dict[str, Any] | None:
            number = response.json()["next"]
            return {"data": {"n": number}} if number else None

        arguments: dict[str, Any] = {
            "task_id": "pages",
            "method": "GET",
            "endpoint": "/page",
            "data": {"n": 1, "last": PAGES},
            "pagination_function": following,
        }

        def stock() -> int:
            return len(HttpOperator(http_conn_id="stock", **arguments).execute({}))

        def ours() -> int:
            return len(OAuth2HttpOperator(oauth2_conn_id="oauth2", **arguments).execute({}))

        def bare() -> int:
            texts = []
            with requests.Session() as session:
                session.headers["Authorization"] = f"Bearer {TOKEN}"
                session.verify = server.ca_file or True
                number = 1
                while number:
                    response = session.get(f"{server.url}/page", params={"n": number, "last": PAGES}, timeout=30)
                    response.raise_for_status()
                    number = response.json()["next"]
                    texts.append(response.text)
            return len(texts)

        for way in (ours, bare):
            way()  # imports, and the server's pages
        return in_turn(rounds, {"stock": _timed(stock), "ours": _timed(ours), "bare": _timed(bare)})


def _timed(way: Callable[[], int]) -> Callable[[], tuple[float, float]]:
    def timed() -> tuple[float, float]:
        began, cpu = time.perf_counter(), time.process_time()
        count = way()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        if count != PAGES:
            raise RuntimeError(f"{count} pages")
        return seconds / PAGES * 1000, cpu / PAGES * 1000

    return timed


def report(rounds: int) -> list[str]:
    lines = [
        f"### {PAGES} pages of 20 KB",
        "",
        "| | time | times as fast as stock | against a bare session | `OAuth2HttpOperator` | bare | `HttpOperator` |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, tls in (("TLS", 1), ("plain HTTP", 0)):
        found = run_python("benchmarks.pages", tls, rounds)
        for number, clock in enumerate(("elapsed", "processor")):
            ms = {which: values[number] for which, values in found.items()}
            lines.append(
                f"| {name} | {clock} | {ms['stock'] / ms['ours']:.1f} | {ms['ours'] / ms['bare'] - 1:+.1%} | "
                f"{ms['ours']:.2f} ms a page | {ms['bare']:.2f} ms | {ms['stock']:.2f} ms |"
            )
    return [*lines, "", "Bars: 10 times as fast as stock on TLS; within 15% of the bare session."]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1] == "1", int(sys.argv[2]))))
