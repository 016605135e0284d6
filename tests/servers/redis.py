"""A Redis server on loopback, in memory only: the broker of Celery workers."""

from __future__ import annotations

import shutil
import socket

from scripts.environments import clean_environ
from tests.servers.processes import LOOPBACK, Process, Server, ServerError, free_port, wait_until


class Redis(Server):
    """Needs the program `redis-server`, which Debian's package of that name brings."""

    name = "redis"

    def __init__(self) -> None:
        super().__init__()
        self.port = 0

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _launch(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerError("There is no redis-server here. On Debian: apt-get install redis-server")
        self.port = free_port()
        command = [program, "--bind", LOOPBACK, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.process = Process(self.name, command, self.log, clean_environ(), cwd=self.folder)
        wait_until(self._answers, 30, "Redis answers", self.process, every=0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
