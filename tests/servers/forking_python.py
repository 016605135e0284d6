"""The program behind `prepared_python`. Standard library only, since the Python of any Airflow runs it.

The server imports modules and waits. For each command it forks. The command gets the standard streams and the arguments
of the program that asked; that program ends with the command's exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Sequence

STREAMS = (0, 1, 2)
SERVE = "--serve"


def _serve(path: str, modules: Sequence[str]) -> None:
    sys.path[0] = os.getcwd()
    for module in modules:
        importlib.import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen()
    os.rename(f"{path}.new", path)  # who sees it may connect
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            break
        connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _keep(connection)


def _keep(connection: socket.socket) -> None:
    """Run one command in a child, and tell its exit code."""
    begin, streams, _, _ = socket.recv_fds(connection, 1 << 16, len(STREAMS))
    words = json.loads(begin + b"".join(iter(lambda: connection.recv(1 << 16), b"")))
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
        os._exit(0)
    connection.close()
    for stream, number in zip(streams, STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    _run(*words)


def _run(how: str, what: str, *arguments: str) -> None:
    sys.argv = [what if how == "-m" else how, *arguments]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def _ask(path: str, words: Sequence[str]) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        message = json.dumps(words).encode()
        sent = socket.send_fds(connection, [message], STREAMS)
        connection.sendall(message[sent:])
        connection.shutdown(socket.SHUT_WR)
        return int(connection.recv(16) or b"1")


if __name__ == "__main__":
    if sys.argv[1] == SERVE:
        _serve(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(_ask(sys.argv[1], sys.argv[2:]))
