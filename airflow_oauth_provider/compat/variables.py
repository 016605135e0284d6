"""Read, write and delete Airflow's variables: done, or :class:`StoreUnavailable` (see :mod:`.supervisor`).

``airflow.sdk.Variable`` does not serve: its ``get`` turns every failure into "not found".
"""

from __future__ import annotations

import logging

from airflow_oauth_provider.compat import connections, database, supervisor
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable

log = logging.getLogger(__name__)

#: Where Airflow cannot list variables, this one proves that they can be read (see `_is_absent`).
_PROBE_KEY = "oauth2_store_probe"
_PROBE_VALUE = "ok"
#: How often to ask for a variable that exists, but is not found.
_LOOKS = 3


def read_variable(key: str) -> str | None:
    """Return the variable ``key`` as Airflow's metadata database has it, None where it certainly has none.

    Ignores environment variables and secrets backends of this process: they cannot be written.

    :raises StoreUnavailable: it cannot be told.
    """
    if not supervisor.on_task_sdk():
        return database.read_variable(key)
    for _ in range(_LOOKS):
        value = _ask_variable(key)
        if value is not None or _is_absent(key):
            return value
        # Another task set the variable for the first time between the two questions. So ask again.
    raise StoreUnavailable(
        f"The variable {key!r} exists but Airflow's API server could not read it {_LOOKS} times in a row: its database "
        "fails, or the value was encrypted with another Fernet key."
    )


def _ask_variable(key: str) -> str | None:
    from airflow.sdk.execution_time.comms import GetVariable

    answer = supervisor.ask(GetVariable(key=key))
    if supervisor.error_of(answer) == "VARIABLE_NOT_FOUND":
        return None
    supervisor.refuse(answer, f"read the variable {key!r}")
    value: str | None = answer.value
    return value


def _is_absent(key: str) -> bool:
    """Tell whether ``key``, which was not found, certainly does not exist; False: it exists by now.

    The API server answers "not found" not only for a variable that does not exist but also while its database
    fails (every version up to 3.3 logs that and goes on) and where the value cannot be decrypted.

    :raises StoreUnavailable: it cannot be told.
    """
    try:
        from airflow.sdk.execution_time.comms import GetVariableKeys
    except ImportError:
        return _is_absent_by_probe(key)
    # From 3.3 on the keys can be listed, and that does fail when the database does.
    answer = supervisor.ask(GetVariableKeys(prefix=key, limit=10))
    supervisor.refuse(answer, f"look for the variable {key!r}")
    return key not in answer.keys


def _is_absent_by_probe(key: str) -> bool:
    """Ask again between two look-ups of a variable that exists: they show that the database works."""
    if _ask_variable(_PROBE_KEY) is None:
        write_variable(_PROBE_KEY, _PROBE_VALUE, "Shows the OAuth 2.0 provider that variables can be read.")
    readable = _ask_variable(_PROBE_KEY) is not None
    absent = _ask_variable(key) is None
    if not (readable and _ask_variable(_PROBE_KEY) is not None):
        raise StoreUnavailable(f"Airflow's API server does not say reliably whether the variable {key!r} exists.")
    return absent


def write_variable(key: str, value: str, description: str) -> None:
    """Set the variable ``key`` in Airflow's metadata database.

    :raises StoreUnavailable: it was not set, or it may have been.
    """
    if supervisor.on_task_sdk():
        from airflow.sdk.execution_time.comms import PutVariable

        supervisor.refuse(
            supervisor.ask(PutVariable(key=key, value=value, description=description)), f"set the variable {key!r}"
        )
        return
    database.write_variable(key, value, description)


def delete_variable(key: str) -> None:
    """Delete the variable ``key`` from Airflow's metadata database; it may be gone already.

    :raises StoreUnavailable: it may still be there.
    """
    if supervisor.on_task_sdk():
        from airflow.sdk.execution_time.comms import DeleteVariable

        answer = supervisor.ask(DeleteVariable(key=key))
        if supervisor.error_of(answer) != "VARIABLE_NOT_FOUND":
            supervisor.refuse(answer, f"delete the variable {key!r}")
        return
    database.delete_variable(key)


def refuse_shadowed_variable(key: str) -> None:
    """Raise StoreNotWritable where something of this process hides the variable ``key``."""
    for backend in connections.secrets_backends():
        name = type(backend).__name__
        if name in ("MetastoreBackend", connections.Supervisor.__name__):
            continue
        try:
            value = backend.get_variable(key=key)
        except NotImplementedError:
            continue
        except Exception as error:  # noqa: BLE001
            # Not knowing does no harm: reads and writes of the record do not use such backends.
            log.debug("%s did not say whether it has %s (%s)", name, key, type(error).__name__)
            continue
        if value is not None:
            raise StoreNotWritable(
                f"The variable {key!r} is defined by {connections.place_of(name, 'AIRFLOW_VAR_' + key.upper())}, "
                "which cannot be written. Remove it there, or use another store (store: vault)."
            )
