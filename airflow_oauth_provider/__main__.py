"""``python -m airflow_oauth_provider``: the commands, for every version of Airflow."""

from __future__ import annotations

import sys

from airflow_oauth_provider.cli.definition import parser
from airflow_oauth_provider.cli.run import own_the_output, run_command


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    :param arguments: the words after the program's name; None: the ones of this process.
    """
    parsed = parser().parse_args(arguments)
    return run_command(parsed.function, parsed)


if __name__ == "__main__":
    own_the_output()
    sys.exit(main())
