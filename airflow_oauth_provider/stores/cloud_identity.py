"""What the stores of clouds have in common: their packages, and credentials from Airflow's own connections."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from airflow_oauth_provider.compat import connections, sdk
from airflow_oauth_provider.exceptions import ConfigurationError, OAuth2Error, StoreUnavailable


def missing_package(conn_id: str, store: str, extra: str) -> ConfigurationError:
    """Return the error for a store whose packages are not installed.

    :param conn_id: the connection whose tokens are to be kept.
    :param store: its ``store``.
    :param extra: the extra of this package that brings them.
    """
    return ConfigurationError(
        f"the store {store!r} needs more packages: install airflow-oauth-provider[{extra}] where the tasks run.",
        conn_id=conn_id,
    )


def import_hook(conn_id: str, key: str, provider: str, module: str) -> Any:
    """Return the module of a provider's hook.

    :param conn_id: the connection whose tokens are to be kept.
    :param key: the key of its extra that names the Airflow connection.
    :param provider: the last part of the provider's package name.
    :param module: to be imported.
    :raises ConfigurationError: the provider is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigurationError(
            f"the key {key!r} of its extra needs the package "
            f"apache-airflow-providers-{provider}. Install it where the tasks run, or remove the key to use the "
            "worker's own identity.",
            conn_id=conn_id,
        ) from None


def call_hook(conn_id: str, cloud_conn_id: str, log_in: Callable[[], Any]) -> Any:
    """Return what a hook makes of an Airflow connection.

    :param conn_id: the connection whose tokens are to be kept.
    :param cloud_conn_id: the Airflow connection with the credentials.
    :param log_in: the method of the hook.
    :raises ConfigurationError: there is no such Airflow connection.
    :raises StoreUnavailable: the hook fails; its own message is not shown, it may quote credentials.
    """
    try:
        connections.get_connection(cloud_conn_id)  # the hooks take a failed look-up for a missing connection
        return log_in()
    except sdk.AirflowNotFoundException:
        raise ConfigurationError(
            f"the Airflow connection {cloud_conn_id!r} that its extra names is not defined.", conn_id=conn_id
        ) from None
    except OAuth2Error:
        raise
    except Exception as error:  # noqa: BLE001 - each provider, and each way to log in, has errors of its own
        raise StoreUnavailable(
            f"the login with the Airflow connection {cloud_conn_id!r} failed ({type(error).__name__}).", conn_id=conn_id
        ) from None
