"""A Python that has imported Airflow already: a command there is a process of its own, and begins at once.

with PreparedPython(python, environ, folder, ["airflow.models"]) as prepared:
    subprocess.run(prepared.command("-m", "airflow_oauth_provider", "status"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import forking_python
from tests.servers.processes import Process, Server, wait_until


class PreparedPython(Server):
    """Such a server, and the command lines that use it.

    :param python: whose modules are imported.
    :param environ: of the server, and so of all commands.
    :param cwd: likewise.
    :param modules: what is imported.
    """

    name = "python"

    def __init__(self, python: str, environ: Mapping[str, str], cwd: Path, modules: Sequence[str]) -> None:
        super().__init__()
        self._python, self._cwd, self._modules = python, cwd, modules
        self.environ = dict(environ)

    @property
    def _socket(self) -> Path:
        return self.folder / "socket"

    def _launch(self) -> None:
        command = [self._python, forking_python.__file__, forking_python.SERVE, self._socket, *self._modules]
        self.process = Process(self.name, command, self.log, self.environ, self._cwd)
        wait_until(self._socket.exists, 120, "Python has imported its modules", self.process)

    def command(self, *words: str) -> list[str]:
        """The command line that stands for ``python WORDS``."""
        return [self._python, "-I", "-S", forking_python.__file__, str(self._socket), *words]
