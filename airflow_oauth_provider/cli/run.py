"""Run a command: its output, its errors, its exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, TextIO

_output: TextIO | None = None


def own_the_output() -> None:
    """Keep standard output for what the command says: send Airflow's log lines to standard error instead."""
    global _output
    sys.stdout.flush()
    _output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def say(text: str) -> None:
    """Print a line at once, for somebody who waits for it."""
    output = _output or sys.stdout
    output.write(text + "\n")
    output.flush()


def complain(text: str) -> None:
    """Print a line among the errors."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def run_command(path: str, arguments: Any) -> int:
    """Run one command and return its exit code: 0 for done, 1 for not done, 130 for interrupted.

    :param path: ``module:function``.
    :param arguments: the parsed arguments.
    """
    from airflow_oauth_provider.compat.sdk import AirflowNotFoundException
    from airflow_oauth_provider.exceptions import OAuth2Error
    from airflow_oauth_provider.oauth2.errors import OAuth2ProtocolError

    module, _, function = path.partition(":")
    try:
        code: int = getattr(importlib.import_module(module), function)(arguments)
    except AirflowNotFoundException:
        complain(
            f"The connection {arguments.conn_id!r} is not defined here. Tasks may have other environment variables and "
            "secrets backends than this command: run it where they run, or define the connection in the database."
        )
        return 1
    except (OAuth2Error, OAuth2ProtocolError) as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        complain("Interrupted; nothing was kept.")
        return 130
    return code
