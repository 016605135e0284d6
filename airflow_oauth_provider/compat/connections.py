"""Look a connection up: found, certainly absent, or :class:`StoreUnavailable` (see :mod:`.supervisor`)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_oauth_provider.compat import deployment, supervisor
from airflow_oauth_provider.compat.masking import mask_secret
from airflow_oauth_provider.compat.sdk import AirflowNotFoundException
from airflow_oauth_provider.exceptions import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from airflow_oauth_provider.compat.sdk import Connection


@dataclass(frozen=True, slots=True)
class FoundConnection:
    """A connection and where it was found.

    :param connection: the connection.
    :param place: what it was taken from, for people, such as ``the environment variable AIRFLOW_CONN_XERO``; None where
        that is the metadata database, or the API server, which does not say from where it has a connection.
    """

    connection: Connection
    place: str | None = None


def get_connection(conn_id: str) -> Connection:
    """Return the connection ``conn_id``; see :func:`find_connection`."""
    return find_connection(conn_id).connection


def find_connection(conn_id: str) -> FoundConnection:
    """Return the connection ``conn_id`` from the place where Airflow looks it up.

    :raises AirflowNotFoundException: it is defined nowhere.
    :raises ConfigurationError: the environment variable that holds it cannot be read, or its extra is no JSON object.
    :raises StoreUnavailable: a place where it may be defined could not be asked.
    """
    found = _look_up(conn_id)
    if found is None:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
    _check_readable(conn_id, found.connection)
    mask_secret(found.connection.password)
    return found


def _check_readable(conn_id: str, connection: Connection) -> None:
    """Read the attributes that Airflow's model decrypts, and on 3.x parses, at their first use."""
    try:
        connection.extra, connection.password  # noqa: B018 - properties
    except ValueError:
        raise ConfigurationError(
            "its extra is no JSON object. Correct it in the form, under 'Extra Fields JSON'.", conn_id=conn_id
        ) from None
    except Exception as error:  # noqa: BLE001 - its text may quote what is secret
        raise StoreUnavailable(
            f"it could not be decrypted ({type(error).__name__}). Is [core] fernet_key the key that it was written "
            "with?",
            conn_id=conn_id,
        ) from None


def _look_up(conn_id: str) -> FoundConnection | None:
    if (preset := _preset(conn_id)) is not None:
        return FoundConnection(preset, "the form that is being tested")
    for backend in secrets_backends():
        if (connection := _connection_of(backend, conn_id)) is not None:
            name = type(backend).__name__
            is_airflows = name in ("MetastoreBackend", "Supervisor")
            place = None if is_airflows else place_of(name, f"AIRFLOW_CONN_{conn_id.upper()}")
            return FoundConnection(connection, place)
    return None


def place_of(backend: str, variable: str) -> str:
    """Name a secrets backend for people.

    :param backend: the name of its class.
    :param variable: the environment variable that it would read.
    """
    if backend == "EnvironmentVariablesBackend":
        return f"the environment variable {variable}"
    return f"the secrets backend {backend}"


def _preset(conn_id: str) -> Connection | None:
    """Return the connection under test, which Airflow 3.3 keeps in a context variable meanwhile."""
    context = sys.modules.get("airflow.sdk.execution_time.context")
    preset = getattr(context, "_preset_connections", None)
    return None if preset is None else (preset.get() or {}).get(conn_id)


class Supervisor:
    """Replaces Airflow's ExecutionAPISecretsBackend, and tells failure from absence."""

    def get_connection(self, conn_id: str) -> Connection | None:
        """Return the connection, None where the API server says that there is none."""
        from airflow.sdk import Connection as SdkConnection
        from airflow.sdk.execution_time.comms import GetConnection

        answer = supervisor.ask(GetConnection(conn_id=conn_id))
        if supervisor.error_of(answer) == "CONNECTION_NOT_FOUND":
            return None
        supervisor.refuse(answer, f"read the connection {conn_id!r}")
        return SdkConnection(**answer.model_dump(exclude={"type"}, by_alias=True))


def secrets_backends() -> list[Any]:
    """Return the places to look in, first one first."""
    if not supervisor.on_task_sdk():
        from airflow.configuration import ensure_secrets_loaded

        return list(ensure_secrets_loaded())
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    # 3.0 has no backend for the supervisor and asks it last; later versions have it last in the list.
    backends = [b for b in ensure_secrets_backend_loaded() if type(b).__name__ != "ExecutionAPISecretsBackend"]
    return [*backends, Supervisor()]


def team_of(conn_id: str) -> dict[str, str]:
    """Return the team of a row as an argument ``team_name``; nothing where teams do not share this deployment."""
    if not deployment.multi_team():
        return {}
    from airflow.models.connection import Connection

    team = Connection.get_team_name(conn_id)
    return {} if team is None else {"team_name": team}


def _connection_of(backend: Any, conn_id: str) -> Connection | None:
    # Airflow's own backend gives a team's connection to that team alone. The supervisor knows the team of a task. Here
    # asks a command, or a server that has checked the person's rights.
    team = team_of(conn_id) if type(backend).__name__ == "MetastoreBackend" else {}
    try:
        found: Connection | None = backend.get_connection(conn_id=conn_id, **team)
    except NotImplementedError:
        return None  # a backend for variables or configuration only
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - see below
        if type(backend).__name__ == "EnvironmentVariablesBackend":
            # The environment is always there, so the text is wrong, and no retry helps.
            raise ConfigurationError(
                f"the environment variable AIRFLOW_CONN_{conn_id.upper()} holds neither a connection in JSON nor a "
                f"connection URI ({type(error).__name__}). Write JSON, which needs no encoding of special characters: "
                '{"conn_type": "oauth2", "host": …, "login": …, "password": …, "extra": {…}}.',
                conn_id=conn_id,
            ) from None
        # Its text may quote secrets. No error means that there is no connection.
        raise StoreUnavailable(
            f"it could not be looked up in {type(backend).__name__} ({type(error).__name__}).", conn_id=conn_id
        ) from None
    return found
