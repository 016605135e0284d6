"""The commands and their arguments, for ``argparse`` and for Airflow's own command line (3.2 and later).

Airflow imports this for each ``airflow`` command: its top imports nothing but the standard library.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Argument:
    """One argument, in the words of :meth:`argparse.ArgumentParser.add_argument`."""

    def __init__(self, *flags: str, **options: Any) -> None:
        self.flags = flags
        self.options = options


@dataclass(frozen=True)
class Command:
    """One command.

    :param name: what people type.
    :param help: one line.
    :param function: ``module:function``, imported when the command runs; it takes the parsed arguments and returns
        the exit code.
    :param arguments: what it takes.
    :param description: more than one line.
    """

    name: str
    help: str
    function: str
    arguments: tuple[Argument, ...]
    description: str


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return port


GROUP = "oauth2"
GROUP_HELP = "OAuth 2.0 connections: sign in, find out what is wrong"

_CONN_ID = Argument("conn_id", help="The connection, of type oauth2")
_ANY_CONN_ID = Argument("conn_id", nargs="?", help="The connection, of type oauth2; none with --all")
_ALL = Argument("--all", action="store_true", help="All connections of type oauth2 in Airflow's database")
_JSON = Argument("--json", action="store_true", help="Print JSON")

COMMANDS = (
    Command(
        "authorize",
        "Sign in and keep the tokens in the connection's store",
        "airflow_oauth_provider.cli.authorize:authorize",
        (
            _CONN_ID,
            Argument("--device", action="store_true", help="Sign in on another device, with a short code (RFC 8628)"),
            Argument(
                "--port",
                type=_port,
                default=0,
                metavar="PORT",
                help="Port of the redirect address on this machine. Default: any free one",
            ),
            Argument(
                "--redirect-uri",
                metavar="URL",
                help="The redirect address as registered at the vendor. Default: http://127.0.0.1:PORT/callback",
            ),
            Argument(
                "--paste",
                action="store_true",
                help="The browser is on another machine: paste the address that it ends up at",
            ),
            Argument("--no-browser", action="store_true", help="Print the address, do not open a browser"),
            Argument("--scope", metavar="SCOPE", help="What to ask for. Default: the connection's scope"),
            Argument(
                "--timeout",
                type=float,
                default=300.0,
                metavar="SECONDS",
                help="How long to wait for the person. Default: 300",
            ),
        ),
        "Signs a person in at the authorization server and keeps the tokens where the connection's tasks look for "
        "them. Shows no token. Replaces an earlier sign-in; running tasks continue with the new tokens.",
    ),
    Command(
        "doctor",
        "Find out what is wrong with a connection",
        "airflow_oauth_provider.cli.grants:doctor",
        (_ANY_CONN_ID, _ALL, _JSON),
        "Checks the connection, the authorization server, the store and the state of the tokens, in the order in which "
        "a person would look, and says what to change. Spends no token and changes no record. The exit code is 1 if "
        "anything does not work.",
    ),
    Command(
        "status",
        "Show the state of a grant, or of all",
        "airflow_oauth_provider.cli.grants:status",
        (_ANY_CONN_ID, _ALL, _JSON),
        "Shows who has signed in, how long the tokens last and whether a person has to do something; asks no "
        "authorization server. The exit code is that of a monitoring check: 0 all is well, 1 a refresh token ends "
        "soon, 2 a person has to sign in or to correct the connection, 3 unknown.",
    ),
    Command(
        "refresh",
        "Refresh the access token now",
        "airflow_oauth_provider.cli.grants:refresh",
        (
            _CONN_ID,
            Argument("--if-due", action="store_true", help="Only if the access token has expired, or expires soon"),
        ),
        "Refreshes the access token and keeps the rotated tokens, as a task does. The exit code is 1 if that failed.",
    ),
    Command(
        "revoke",
        "End a grant at the authorization server",
        "airflow_oauth_provider.cli.grants:revoke",
        (_CONN_ID, Argument("--access-token", action="store_true", help="Revoke the access token alone")),
        "Revokes the refresh token (RFC 7009): tasks fail until a person signs in again.",
    ),
    Command(
        "revive",
        "Try a refused refresh token again",
        "airflow_oauth_provider.cli.grants:revive",
        (_CONN_ID,),
        "After a vendor's mistake: removes the mark that stops tasks from trying a refused refresh token. If the "
        "server refuses it again, the mark comes back.",
    ),
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m airflow_oauth_provider``."""
    top = argparse.ArgumentParser("python -m airflow_oauth_provider", description=GROUP_HELP)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.description)
        for argument in command.arguments:
            sub.add_argument(*argument.flags, **argument.options)
        sub.set_defaults(function=command.function)
    return top


#: Airflow's own commands, by the names of their functions, that write connections.
_EDITORS = ("connections_add", "connections_import", "rotate_fernet_key")


def get_cli_commands() -> list[Any]:
    """Return the command group ``airflow oauth2``.

    Airflow asks when any of its commands begins. Commands that edit connections load no plugins, so this is the only
    moment to make them keep the records.
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
                    args=tuple(Arg(each.flags, **each.options) for each in command.arguments),  # type: ignore[no-untyped-call]
                )
                for command in COMMANDS
            ),
        )
    ]


def _before_a_command(sub_command: str = "", **_: Any) -> None:
    if sub_command in _EDITORS:
        from airflow_oauth_provider.connection.edits import keep_records

        keep_records()


def _exiting(path: str) -> Callable[[Any], None]:
    def run(arguments: Any) -> None:
        from airflow_oauth_provider.cli.run import own_the_output, run_command

        own_the_output()
        sys.exit(run_command(path, arguments))

    return run
