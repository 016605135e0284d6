"""The commands as Airflow 3.2 and later take them from a provider (``cli`` in the provider info)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from airflow_oauth_provider.cli.arguments import COMMANDS, GROUP, GROUP_HELP, Argument

#: Airflow's own commands, by the names of their functions, that write connections.
_EDITORS = ("connections_add", "connections_import", "rotate_fernet_key")


def get_cli_commands() -> list[Any]:
    """Return the command group ``airflow oauth2``.

    Airflow asks when any of its commands begins. That is the one moment to have the commands that edit connections
    keep the records: they load no plugins.
    """
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand
    from airflow.utils.cli_action_loggers import register_pre_exec_callback

    register_pre_exec_callback(_before_a_command)  # type: ignore[no-untyped-call]
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


def _before_a_command(sub_command: str = "", **_: Any) -> None:
    if sub_command in _EDITORS:
        from airflow_oauth_provider.connection.edits import keep_records

        keep_records()


def _arg(kind: Any, argument: Argument) -> Any:
    return kind(argument.flags, **argument.options)


def _exiting(path: str) -> Callable[[Any], None]:
    def run(arguments: Any) -> None:
        from airflow_oauth_provider.cli.run import own_the_output, run_command

        own_the_output()
        sys.exit(run_command(path, arguments))

    return run
