"""A server that costs next to nothing, in a process of its own: canned pages, over TLS or not.

with PageServer(tls=True) as server:
    server.url, server.ca_file        # GET /page?n=1 -> {"n": 1, "next": 2, "items": [...]}, 20 KB
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import certifi

from tests.servers.scripted_tls import Certificates

PAGE_BYTES = 20_000


def page(number: int, last: int, size: int = PAGE_BYTES) -> bytes:
    items = [{"id": number * 100 + n, "name": f"item {n}", "text": "x" * max(0, size // 100 - 60)} for n in range(100)]
    following = number + 1 if number < last else None
    return json.dumps({"n": number, "pages": last, "next": following, "items": items}).encode()


class Pages(asyncio.Protocol):
    """Answers what it is asked without much of a look."""

    delay = 0.0

    def __init__(self) -> None:
        self.transport: Any = None
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while b"\r\n\r\n" in self.rest:
            head, _, self.rest = self.rest.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.answer, target)
            else:
                self.answer(target)

    def answer(self, target: str) -> None:
        query = dict(part.split("=") for part in target.partition("?")[2].split("&") if "=" in part)
        size = int(query.get("size", PAGE_BYTES))
        body = _canned(int(query.get("n", 1)), int(query.get("last", 200)), size)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head.encode() + body)


_cache: dict[tuple[int, int, int], bytes] = {}


def _canned(number: int, last: int, size: int) -> bytes:
    key = (number, last, size)
    if key not in _cache:
        if len(_cache) > 6000:
            _cache.clear()
        _cache[key] = page(number, last, size)
    return _cache[key]


class PageServer:
    def __init__(self, tls: bool = False, delay: float = 0.0) -> None:
        self._tls, self._delay = tls, delay
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.ca_file: str | None = str(Path(self._folder.name) / "bundle.pem") if tls else None
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.server", str(int(self._tls)), self._folder.name, str(self._delay)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the server did not start")
        if self.ca_file:
            # Of the usual size, as whoever calls a public API has it: a session loads it anew.
            own = (Path(self._folder.name) / "ca.pem").read_text()
            Path(self.ca_file).write_text(Path(certifi.where()).read_text() + own)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()


async def _serve(tls: bool, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    context = Certificates(folder).server_context() if tls else None
    server = await loop.create_server(Pages, "127.0.0.1", 0, ssl=context, backlog=2000)
    port = server.sockets[0].getsockname()[1]
    print(f"{'https' if tls else 'http'}://127.0.0.1:{port}", flush=True)
    # Ends with the process that started it, however that ends.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    Pages.delay = float(sys.argv[3])
    asyncio.run(_serve(sys.argv[1] == "1", Path(sys.argv[2])))
