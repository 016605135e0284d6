"""What OAuth2Session and OAuth2Auth add to a request on a kept-alive connection."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.server import PageServer
from benchmarks.setting import TOKEN, be_quiet, connect, in_turn, run_python

BLOCK = 50
BODY = 1000


def measure(tls: bool, rounds: int) -> dict[str, list[float]]:
    be_quiet()
    import requests

    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

    with PageServer(tls) as server:
        connect(server.url, server.ca_file)
        url = f"{server.url}/page?size={BODY}"
        session = OAuth2Hook("oauth2").get_conn()
        bare = requests.Session()
        bare.headers["Authorization"] = f"Bearer {TOKEN}"
        bare.verify = server.ca_file or True

        def block(of: Any) -> Callable[[], tuple[float, float]]:
            def timed() -> tuple[float, float]:
                began, cpu = time.perf_counter(), time.process_time()
                for number in range(BLOCK):
                    of.get(f"{url}&n={number}", timeout=30)
                return (time.perf_counter() - began) / BLOCK * 1e6, (time.process_time() - cpu) / BLOCK * 1e6

            return timed

        ways = {"bare": block(bare), "ours": block(session)}
        in_turn(2, ways)
        return in_turn(rounds * 20, ways)


def report(rounds: int) -> list[str]:
    lines = [
        "### The auth layer, per request on a kept-alive connection",
        "",
        "| | | added | session of `OAuth2Hook` | bare session |",
        "|---|---|---|---|---|",
    ]
    for name, tls in (("TLS", 1), ("plain HTTP", 0)):
        found = run_python("benchmarks.auth", tls, rounds)
        for number, clock in enumerate(("elapsed", "processor")):
            ours, bare = found["ours"][number], found["bare"][number]
            lines.append(f"| {name} | {clock} | {ours / bare - 1:+.1%} | {ours:.0f} µs | {bare:.0f} µs |")
    return [*lines, "", "Bar: under 3%."]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1] == "1", int(sys.argv[2]))))
