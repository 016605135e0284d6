"""The one place that knows how Airflow's versions differ, each difference with its reason.

Airflow's own look-ups are made for values that seldom change: when a backend fails they log it and go on
as if the value were not there. Here "not there" means "spend the refresh token that a person once entered",
which was rotated long ago. So the look-ups below are strict: a value, a *certain* absence, or
:class:`StoreUnavailable`.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import logging
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection
    from sqlalchemy.engine import Engine

__all__ = [
    "AIRFLOW_V_3_0_PLUS",
    "AirflowNotFoundException",
    "delete_variable",
    "fernet_keys",
    "get_connection",
    "get_fernet",
    "mask_secret",
    "metadata_engine",
    "on_task_sdk",
    "read_variable",
    "refuse_shadowed_variable",
    "shadow_of_connection",
    "write_variable",
]

log = logging.getLogger(__name__)

_TASK_RUNNER = "airflow.sdk.execution_time.task_runner"

#: Up to Airflow 3.1 ``CommsDecoder.send`` writes a request and reads the next answer without any lock: two
#: threads at once take each other's answers. Airflow 3.2 and later lock it themselves.
_COMMS_LOCK = threading.Lock()

#: Where Airflow keeps the maskers of log lines. 3.1 and later have one for the task side and one for the
#: server side, 3.0 and 2.11 one for both.
_MASKERS = (
    ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")
    if AIRFLOW_V_3_0_PLUS
    else ("airflow.utils.log.secrets_masker",)
)
_MASKERS_3_0 = ("airflow.sdk.execution_time.secrets_masker",)

#: What proves, where Airflow cannot list variables, that variables can be read at all (see
#: `_confirm_absent`).
_PROBE_KEY = "oauth2_store_probe"
_PROBE_VALUE = "ok"

#: Bytes of a Fernet key.
_FERNET_KEY_LENGTH = 32


def on_task_sdk() -> bool:
    """Tell whether this process reaches Airflow only through its supervisor.

    True in a task, the triggerer and the DAG processor of Airflow 3; False on Airflow 2, and in the API
    server, the scheduler and the command line, which have the metadata database.
    """
    # As Airflow's own models tell it: the name exists in the module only once a supervisor has been
    # connected.
    return getattr(sys.modules.get(_TASK_RUNNER), "SUPERVISOR_COMMS", None) is not None


def mask_secret(value: str | None) -> None:
    """Hide ``value`` in whatever this process, and on Airflow 3 its supervisor, logs from now on.

    :param value: the secret; None and ``""`` are ignored.
    """
    if not value:
        return
    for name in _MASKERS:
        try:
            masker = importlib.import_module(name)
        except ModuleNotFoundError:
            for older in _MASKERS_3_0:
                importlib.import_module(older)._secrets_masker().add_mask(value)
            continue
        masker._secrets_masker().add_mask(value)
    if on_task_sdk():
        # Airflow's mask_secret would tell the supervisor too, but in the triggerers of 3.0 and 3.1 not from a
        # worker thread (see `_ask`): there it leaves an answer behind that the next caller takes for its own.
        from airflow.sdk.execution_time.comms import MaskSecret

        try:
            _ask(MaskSecret(value=value))
        except StoreUnavailable:
            # A supervisor that cannot be reached prints nothing of ours either; what matters fails on its
            # own.
            log.debug("The supervisor could not be told of a value to mask")


# ------------------------------------------------------------------------------------------------ the
# supervisor


def _ask(message: Any) -> Any:
    """Send ``message`` to the supervisor and return its answer, error answers included.

    Safe from any thread that is not running an event loop of the triggerer.

    :raises StoreUnavailable: when no answer came.
    """
    comms = sys.modules[_TASK_RUNNER].SUPERVISOR_COMMS
    kind = type(message).__name__
    try:
        writer = getattr(comms, "_async_writer", None)
        if writer is not None and not hasattr(comms, "_loop"):
            # The triggerers of 3.0 and 3.1 bind their streams to the main loop but run a synchronous ``send``
            # on another loop unless asgiref started the thread. Later ones bring a call home by themselves.
            return _ask_through_loop(comms, message, writer._loop)
        if writer is not None or hasattr(comms, "_thread_lock"):
            return comms.send(message)
        with _COMMS_LOCK:
            return comms.send(message)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - see below
        answer = getattr(error, "error", None)
        if hasattr(answer, "error"):
            return answer  # AirflowRuntimeError: the supervisor did answer, with an ErrorResponse
        # Whatever else went wrong (a closed socket, an answer that does not parse, in ``dag.test()`` the API
        # client's own errors) means the same, and its text could quote the message, which holds tokens.
        raise StoreUnavailable(f"Airflow's supervisor did not answer {kind} ({type(error).__name__}).") from None


def _ask_through_loop(comms: Any, message: Any, loop: asyncio.AbstractEventLoop) -> Any:
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        # To wait here would be to wait for ourselves.
        raise StoreUnavailable("Airflow's supervisor can be asked from a worker thread only, not from the event loop.")
    return asyncio.run_coroutine_threadsafe(comms.asend(message), loop).result()


def _error_of(answer: Any) -> str | None:
    """Return the error code of an ErrorResponse, None for any other answer."""
    code = getattr(answer, "error", None)
    return None if code is None else str(getattr(code, "value", code))


def _refuse(answer: Any, what: str) -> None:
    """Raise StoreUnavailable when ``answer`` is an ErrorResponse."""
    if (code := _error_of(answer)) is None:
        return
    detail = getattr(answer, "detail", None) or {}
    status = detail.get("status_code")
    raise StoreUnavailable(
        f"Airflow's API server could not {what}: {code}" + (f" (HTTP status {status})." if status else ".")
    )


# ----------------------------------------------------------------------------------------------- connections


def get_connection(conn_id: str) -> Connection:
    """Return the connection ``conn_id`` from wherever Airflow would take it.

    :raises AirflowNotFoundException: it is defined nowhere.
    :raises StoreUnavailable: a place where it may be defined could not be asked.
    """
    connection: Connection | None = _preset(conn_id)
    for backend in _secrets_backends():
        if connection is not None:
            break
        connection = _connection_of(backend, conn_id)
    if connection is None:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
    mask_secret(connection.password)
    return connection


def shadow_of_connection(conn_id: str) -> str | None:
    """Return what hides the row of ``conn_id`` in the metadata database from this process.

    :return: for people, such as ``the environment variable AIRFLOW_CONN_XERO``; None where nothing does.
    :raises StoreUnavailable: a secrets backend could not be asked.
    """
    for backend in _secrets_backends():
        name = type(backend).__name__
        if name in ("MetastoreBackend", "ExecutionAPISecretsBackend", "_Supervisor"):
            continue
        if _connection_of(backend, conn_id) is not None:
            return _place(name, f"AIRFLOW_CONN_{conn_id.upper()}")
    return None


def _place(backend: str, variable: str) -> str:
    if backend == "EnvironmentVariablesBackend":
        return f"the environment variable {variable}"
    return f"the secrets backend {backend}"


def _preset(conn_id: str) -> Connection | None:
    """Return the connection under test, which Airflow 3.3 keeps in a context variable meanwhile."""
    context = sys.modules.get("airflow.sdk.execution_time.context")
    preset = getattr(context, "_preset_connections", None)
    return None if preset is None else (preset.get() or {}).get(conn_id)


class _Supervisor:
    """Stands where Airflow has its own ExecutionAPISecretsBackend, but tells failure from absence."""

    def get_connection(self, conn_id: str) -> Connection | None:
        from airflow.sdk import Connection as SdkConnection
        from airflow.sdk.execution_time.comms import GetConnection

        answer = _ask(GetConnection(conn_id=conn_id))
        if _error_of(answer) == "CONNECTION_NOT_FOUND":
            return None
        _refuse(answer, f"read the connection {conn_id!r}")
        return SdkConnection(**answer.model_dump(exclude={"type"}, by_alias=True))


def _secrets_backends() -> list[Any]:
    """Return the places to look in, first one first."""
    if not on_task_sdk():
        from airflow.configuration import ensure_secrets_loaded

        return list(ensure_secrets_loaded())
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    # 3.0 has no backend for the supervisor and asks it last; later versions have it last in the list.
    backends = [b for b in ensure_secrets_backend_loaded() if type(b).__name__ != "ExecutionAPISecretsBackend"]
    return [*backends, _Supervisor()]


def _connection_of(backend: Any, conn_id: str) -> Connection | None:
    try:
        found: Connection | None = backend.get_connection(conn_id=conn_id)
    except NotImplementedError:
        return None  # a backend for variables or configuration only
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - see below
        # Its text may quote what is secret; whatever it is, it does not say that there is no connection.
        raise StoreUnavailable(
            f"The connection {conn_id!r} could not be looked up in {type(backend).__name__} ({type(error).__name__})."
        ) from None
    return found


# ------------------------------------------------------------------------------------------------- variables


def read_variable(key: str) -> str | None:
    """Return the variable ``key`` as Airflow's metadata database has it, None where it certainly has none.

    Environment variables and secrets backends of this process are passed by: they cannot be written.

    :raises StoreUnavailable: it cannot be told.
    """
    if on_task_sdk():
        value = _ask_variable(key)
        if value is None:
            _confirm_absent(key)
        return value
    from airflow_oauth_provider.compat import database

    return database.read_variable(key)


def _ask_variable(key: str) -> str | None:
    from airflow.sdk.execution_time.comms import GetVariable

    answer = _ask(GetVariable(key=key))
    if _error_of(answer) == "VARIABLE_NOT_FOUND":
        return None
    _refuse(answer, f"read the variable {key!r}")
    value: str | None = answer.value
    return value


def _confirm_absent(key: str) -> None:
    """Make certain that ``key`` is not there.

    The API server answers "not found" not only for a variable that does not exist but also while its database
    fails (every version up to 3.3 logs that and goes on) and where the value cannot be decrypted.

    :raises StoreUnavailable: when it may be there.
    """
    try:
        from airflow.sdk.execution_time.comms import GetVariableKeys
    except ImportError:
        _confirm_absent_by_probe(key)
        return
    # From 3.3 on the keys can be listed, and that does fail when the database does.
    answer = _ask(GetVariableKeys(prefix=key, limit=10))
    _refuse(answer, f"look for the variable {key!r}")
    if key in answer.keys:
        raise StoreUnavailable(
            f"The variable {key!r} exists but Airflow's API server could not read it: its database failed "
            "for a moment, or the value was encrypted with another Fernet key."
        )


def _confirm_absent_by_probe(key: str) -> None:
    """Ask again between two look-ups of a variable that exists, which take a working database."""
    if _ask_variable(_PROBE_KEY) is None:
        write_variable(_PROBE_KEY, _PROBE_VALUE, "Shows the OAuth 2.0 provider that variables can be read.")
    readable = _ask_variable(_PROBE_KEY) is not None
    absent = _ask_variable(key) is None
    if not (absent and readable and _ask_variable(_PROBE_KEY) is not None):
        raise StoreUnavailable(f"Airflow's API server does not say reliably whether the variable {key!r} exists.")


def write_variable(key: str, value: str, description: str) -> None:
    """Set the variable ``key`` in Airflow's metadata database.

    :raises StoreUnavailable: it was not set, or it may have been.
    """
    if on_task_sdk():
        from airflow.sdk.execution_time.comms import PutVariable

        _refuse(_ask(PutVariable(key=key, value=value, description=description)), f"set the variable {key!r}")
        return
    from airflow_oauth_provider.compat import database

    database.write_variable(key, value, description)


def delete_variable(key: str) -> None:
    """Delete the variable ``key`` from Airflow's metadata database; it may be gone already.

    :raises StoreUnavailable: it may still be there.
    """
    if on_task_sdk():
        from airflow.sdk.execution_time.comms import DeleteVariable

        answer = _ask(DeleteVariable(key=key))
        if _error_of(answer) != "VARIABLE_NOT_FOUND":
            _refuse(answer, f"delete the variable {key!r}")
        return
    from airflow_oauth_provider.compat import database

    database.delete_variable(key)


def refuse_shadowed_variable(key: str) -> None:
    """Raise StoreNotWritable where something of this process hides the variable ``key``."""
    for backend in _secrets_backends():
        name = type(backend).__name__
        if name in ("MetastoreBackend", "_Supervisor"):
            continue
        try:
            value = backend.get_variable(key=key)
        except NotImplementedError:
            continue
        except Exception as error:  # noqa: BLE001
            # Not being told does no harm here: reads and writes of the record pass such backends by.
            log.debug("%s did not say whether it has %s (%s)", name, key, type(error).__name__)
            continue
        if value is not None:
            raise StoreNotWritable(
                f"The variable {key!r} is defined by {_place(name, 'AIRFLOW_VAR_' + key.upper())}, "
                "which cannot be written. Remove it there, or use another store (store: vault)."
            )


# -------------------------------------------------------------------------------------------- the database


def metadata_engine() -> Engine:
    """Return the SQLAlchemy engine of the metadata database.

    :raises StoreUnavailable: this process has none.
    """
    from airflow import settings

    if getattr(settings, "engine", None) is None:
        raise StoreUnavailable("This process has no access to Airflow's metadata database.")
    engine: Engine = settings.engine  # type: ignore[assignment]
    return engine


def get_fernet() -> Any:
    """Return Airflow's Fernet, or its stand-in where no key is set (``is_encrypted`` tells)."""
    from airflow.models.crypto import get_fernet as airflow_fernet

    return airflow_fernet()


@cache
def fernet_keys() -> list[str]:
    """Return Airflow's Fernet keys, the newest first; none where this process has not been given any.

    Tasks of Airflow 3 need none to run, but mostly share the configuration of whoever started them. Asked for once in
    a process: a configuration can say that a command prints it, or that a secrets backend has it.
    """
    from airflow.providers.common.compat.sdk import AirflowConfigException, conf

    try:
        text = conf.get("core", "fernet_key", fallback="") or ""
    except AirflowConfigException as error:
        # A worker may share the configuration, but not the command that it names.
        log.debug("This process cannot read Airflow's Fernet key (%s)", type(error).__name__)
        return []
    return [key for part in text.split(",") if _is_fernet_key(key := part.strip())]


def _is_fernet_key(text: str) -> bool:
    """Tell a key from what the SDK of Airflow 3.2 and later gives where there is none: ``{FERNET_KEY}``, literally."""
    try:
        return len(base64.urlsafe_b64decode(text)) == _FERNET_KEY_LENGTH
    except ValueError:
        return False


def callback_prefixes() -> list[str]:
    """Return the packages from which connections may name callbacks: ``[oauth2] callback_prefixes``."""
    from airflow.providers.common.compat.sdk import conf

    text = conf.get("oauth2", "callback_prefixes", fallback="") or ""
    return [prefix.strip() for prefix in text.split(",") if prefix.strip()]
