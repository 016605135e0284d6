"""The HTTP side of the scripted server: many connections at once, TLS, a recorder, and faults on purpose."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Received:
    """One request as it came in, complete."""

    method: str
    target: str
    headers: Message
    body: bytes
    at: float = field(default_factory=time.time)
    connection: int = 0
    """Grows by one a TCP connection: equal numbers mean that the connection was kept alive."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The decoded form, or the fields of a JSON object."""
        if "json" in self.headers.get("Content-Type", ""):
            decoded = self.json()
            return decoded if isinstance(decoded, dict) else {}
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))

    def json(self) -> Any:
        return json.loads(self.body or b"null")

    def header(self, name: str) -> str | None:
        value: str | None = self.headers.get(name)
        return value


@dataclass
class Answer:
    status: int = 200
    body: Any = b""
    """bytes and str go out as they are, anything else as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, dict[str, str]]:
        if isinstance(self.body, bytes):
            return self.body, {}
        if isinstance(self.body, str):
            return self.body.encode(), {"Content-Type": "text/plain; charset=utf-8"}
        return json.dumps(self.body).encode(), {"Content-Type": "application/json"}


@dataclass
class Fault:
    """Something that goes wrong, once by default, with the next request that fits.

    `Fault(status=503, headers={"Retry-After": "1"})` answers without doing the work. `Fault(reset=True,
    works=True)` does the work (a refresh token rotates) and resets the connection instead of answering.
    """

    on: str | Callable[[Received], bool] = "/token"
    """The beginning of a path, or a function."""
    times: int = 1
    skip: int = 0
    """This many fitting requests go well first."""
    before: float = 0
    """Seconds to wait before the work."""
    after: float = 0
    """Seconds to wait after the work, before the answer."""
    works: bool | None = None
    """Whether the work is done. Default: unless the fault has an answer of its own or cuts the connection."""
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    reset: bool = False
    """Reset the connection (RST) instead of answering."""
    hang_up: bool = False
    """Close the connection (FIN) instead of answering."""
    truncate: int | None = None
    """Send this many bytes of the body, promise all of them, and hang up."""
    drip: float = 0
    """Seconds between two bytes of the body."""
    hold: threading.Event | None = None
    """Wait for this after the work and before the answer: a test decides when."""

    def does_the_work(self) -> bool:
        if self.works is not None:
            return self.works
        return self.status is None and self.body is None and not self.reset and not self.hang_up

    def fits(self, request: Received) -> bool:
        return self.on(request) if callable(self.on) else request.path.startswith(self.on)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one piece
    timeout = 120
    server: Listener

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(30)
            self.request.do_handshake()  # here, in the connection's own thread, not where connections are accepted
        super().setup()
        self.number = self.server.opened(self.request)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError, ValueError):
            super().handle()

    def finish(self) -> None:
        self.server.closed(self.request)
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def version_string(self) -> str:
        return "test"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the recorder has it all."""

    def _serve(self) -> None:
        request = Received(
            self.command, self.path, self.headers, self._read_body(), connection=self.number
        )  # fmt: skip
        self.server.record(request)
        fault = self.server.fault_for(request)
        if fault is None:
            self._send(self.server.answer(request))
        else:
            self._go_wrong(request, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - the base class's names

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> list[bytes]:
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return chunks

    def _go_wrong(self, request: Received, fault: Fault) -> None:
        time.sleep(fault.before)
        answer = self.server.answer(request) if fault.does_the_work() else Answer()
        time.sleep(fault.after)
        if fault.hold is not None:
            fault.hold.wait(60)
        if fault.reset or fault.hang_up:
            self._cut(reset=fault.reset)
            return
        if fault.status is not None or fault.body is not None:
            answer = Answer(fault.status or 200, b"" if fault.body is None else fault.body, fault.headers)
        elif fault.headers:
            answer = Answer(answer.status, answer.body, {**answer.headers, **fault.headers})
        self._send(answer, fault)

    def _send(self, answer: Answer, fault: Fault | None = None) -> None:
        body, headers = answer.encoded()
        self.send_response(answer.status)
        for name, value in {**headers, **answer.headers}.items():
            self.send_header(name, value)
        bodiless = self.command == "HEAD" or answer.status in (204, 304)
        self.send_header("Content-Length", "0" if bodiless and self.command != "HEAD" else str(len(body)))
        self.end_headers()
        if bodiless:
            return
        if fault is not None and fault.truncate is not None:
            self.wfile.write(body[: fault.truncate])
            self.wfile.flush()
            self._cut(reset=False)
        elif fault is not None and fault.drip:
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.stopping.wait(fault.drip):
                    return
        else:
            self.wfile.write(body)

    def _cut(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # Closing a socket that lingers for no time sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.abort(self.request)
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


class Listener(ThreadingHTTPServer):
    """Listens on loopback with a thread a connection, and can be cut off at once."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(
        self,
        port: int,
        answer: Callable[[Received], Answer],
        record: Callable[[Received], None],
        fault_for: Callable[[Received], Fault | None],
        context: ssl.SSLContext | None,
    ) -> None:
        self.answer = answer
        self.record = record
        self.fault_for = fault_for
        self.stopping = threading.Event()
        self._context = context
        self._open: set[socket.socket] = set()
        self._connections = 0
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        # The base class asks the name service for the host's name here, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def opened(self, connection: socket.socket) -> int:
        with self._guard:
            self._open.add(connection)
            self._connections += 1
            return self._connections

    def closed(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.discard(connection)

    def abort(self, connection: socket.socket) -> None:
        """Close the descriptor now, past the files that the handler still has open on it."""
        with contextlib.suppress(OSError):
            socket.close(connection.detach())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is daily business here; what else fails is the test's to see."""
        import sys

        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(request, client_address)

    def cut_off(self) -> None:
        """Stop listening and close every connection."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
