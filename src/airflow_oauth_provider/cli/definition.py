"""The commands as Airflow 3.2 and later take them from a provider (``cli`` in the provider info)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from airflow_oauth_provider.cli.arguments import COMMANDS, GROUP, GROUP_HELP, Argument


def get_cli_commands() -> list[Any]:
    """Return the command group ``airflow oauth2``."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    return [
        GroupCommand(
            name=GROUP,
            help=GROUP_HELP,
            subcommands=tuple(
                ActionCommand(
                    name=command.name,
                    help=command.help,
                    description=command.description,
                    func=_exiting(command.function),
                    args=tuple(_arg(Arg, argument) for argument in command.arguments),
                )
                for command in COMMANDS
            ),
        )
    ]


def _arg(kind: Any, argument: Argument) -> Any:
    return kind(argument.flags, **argument.options)


def _exiting(path: str) -> Callable[[Any], None]:
    def run(arguments: Any) -> None:
        from airflow_oauth_provider.cli.run import own_the_output, run_command

        own_the_output()
        sys.exit(run_command(path, arguments))

    return run
