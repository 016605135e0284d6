"""Ask Airflow 3's supervisor, through which a task, a triggerer and a DAG processor reach the API server.

When a backend fails, Airflow's own look-ups log that and go on as if the value did not exist. Here that would spend the
refresh token that a person once entered, which was rotated long ago. So :func:`ask` returns the answer or raises
:class:`StoreUnavailable`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from airflow_oauth_provider.exceptions import StoreUnavailable

_TASK_RUNNER = "airflow.sdk.execution_time.task_runner"

#: Up to Airflow 3.1 ``CommsDecoder.send`` writes a request and reads the next answer without any lock: two
#: threads at once take each other's answers. Airflow 3.2 and later lock it themselves.
_COMMS_LOCK = threading.Lock()


def on_task_sdk() -> bool:
    """Tell whether this process reaches Airflow only through its supervisor.

    True in a task, the triggerer and the DAG processor of Airflow 3; False on Airflow 2, and in the API server, the
    scheduler and the command line, which have the metadata database.
    """
    # As Airflow's own models tell it: the name exists in the module only once a supervisor has been connected.
    return getattr(sys.modules.get(_TASK_RUNNER), "SUPERVISOR_COMMS", None) is not None


def has_database() -> bool:
    """Tell whether this process has the metadata database: without a supervisor, and in ``dag.test()``.

    There the supervisor is part of the same process, and there may be no API server at all.
    """
    comms = getattr(sys.modules.get(_TASK_RUNNER), "SUPERVISOR_COMMS", None)
    return comms is None or type(comms).__name__ == "InProcessSupervisorComms"


def ask(message: Any) -> Any:
    """Send ``message`` to the supervisor and return its answer, error answers included.

    Safe from any thread that is not running an event loop of the triggerer.

    :raises StoreUnavailable: when no answer came.
    """
    comms = sys.modules[_TASK_RUNNER].SUPERVISOR_COMMS
    kind = type(message).__name__
    try:
        writer = getattr(comms, "_async_writer", None)
        if writer is not None and not hasattr(comms, "_loop"):
            # The triggerers of 3.0 and 3.1 bind their streams to the main loop but run a synchronous ``send`` on
            # another loop unless asgiref started the thread. Later versions switch to the right loop themselves.
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
        # Every other error (a closed socket, an answer that does not parse, in ``dag.test()`` the API client's own
        # errors) means the same. Its text could quote the message, which holds tokens.
        raise StoreUnavailable(f"Airflow's supervisor did not answer {kind} ({type(error).__name__}).") from None


def _ask_through_loop(comms: Any, message: Any, loop: asyncio.AbstractEventLoop) -> Any:
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        # Waiting here would block the loop that has to answer.
        raise StoreUnavailable("Airflow's supervisor can be asked from a worker thread only, not from the event loop.")
    return asyncio.run_coroutine_threadsafe(comms.asend(message), loop).result()


def error_of(answer: Any) -> str | None:
    """Return the error code of an ErrorResponse, None for any other answer."""
    code = getattr(answer, "error", None)
    return None if code is None else str(getattr(code, "value", code))


def refuse(answer: Any, what: str) -> None:
    """Raise StoreUnavailable when ``answer`` is an ErrorResponse."""
    if (code := error_of(answer)) is None:
        return
    detail = getattr(answer, "detail", None) or {}
    status = detail.get("status_code")
    raise StoreUnavailable(
        f"Airflow's API server could not {what}: {code}" + (f" (HTTP status {status})." if status else ".")
    )
