"""`moto` in server mode: Secrets Manager and the parameter store of AWS over HTTP."""

from __future__ import annotations

from pathlib import Path

from scripts.environments import server_program
from tests.servers.processes import LOOPBACK, Process, Server, free_port, is_listening, wait_until


class AwsServer(Server):
    """Any credentials do; give clients `endpoint_url=server.url` and a region. Size limits are not enforced."""

    name = "moto"
    region = "eu-central-1"

    def __init__(self) -> None:
        super().__init__()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def _launch(self) -> None:
        self.port = free_port()
        command: list[str | Path] = [server_program("moto_server"), "--host", LOOPBACK, "--port", str(self.port)]
        self.process = Process(self.name, command, self.log, cwd=self.folder)
        wait_until(lambda: is_listening(self.port), 60, "moto listens", self.process)
