"""What the stores of clouds have in common: their packages, and credentials from Airflow's own connections."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_oauth_provider.compat import connections, deployment, sdk
from airflow_oauth_provider.exceptions import ConfigurationError, OAuth2Error, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import check_connection


def check_packages(conn_id: str, extra: str, *modules: str) -> None:
    """Import ``modules``, which a store needs.

    :param extra: the extra of this package that brings them.
    :raises ConfigurationError: something is not installed.
    """
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError:
        raise ConfigurationError(
            f"its store needs more packages: install airflow-oauth-provider[{extra}] where the tasks run.",
            conn_id=conn_id,
        ) from None


@dataclass(frozen=True, slots=True)
class CloudIdentity:
    """The identity of an Airflow connection, in place of the worker's own.

    :param conn_id: the connection whose tokens are to be kept.
    :param key: the key of its extra that names the Airflow connection.
    :param named: the Airflow connection with the credentials.
    """

    conn_id: str
    key: str
    named: str

    def log_in(self, provider: str, module: str, log_in: Callable[[Any, str], Any]) -> Any:
        """Return what a provider's hook makes of the Airflow connection.

        :param provider: the last part of the provider's package name.
        :param module: the module of its hook, with which ``log_in`` makes the hook for a connection, and asks it.
        :raises ConfigurationError: the provider is not installed, or there is no such Airflow connection.
        :raises StoreUnavailable: the hook fails; its own message is not shown, it may quote credentials.
        """
        try:
            hooks = importlib.import_module(module)
        except ImportError:
            raise ConfigurationError(
                f"the key {self.key!r} of its extra needs the package apache-airflow-providers-{provider}. Install it "
                "where the tasks run, or remove the key to use the worker's own identity.",
                conn_id=self.conn_id,
            ) from None
        try:
            connections.get_connection(self.named)  # the hooks take a failed look-up for a missing connection
            return log_in(hooks, self.named)
        except sdk.AirflowNotFoundException:
            raise ConfigurationError(
                f"the Airflow connection {self.named!r} that its extra names is not defined.", conn_id=self.conn_id
            ) from None
        except OAuth2Error:
            raise
        except Exception as error:  # noqa: BLE001 - each provider, and each way to log in, has errors of its own
            raise StoreUnavailable(
                f"the login with the Airflow connection {self.named!r} failed ({type(error).__name__}).",
                conn_id=self.conn_id,
            ) from None


def find_identity(conn_id: str, key: str, named: str | None) -> CloudIdentity | None:
    """Return the identity that a connection names under ``key``; None: it is the worker's own.

    :raises ConfigurationError: the deployment does not allow it.
    """
    if not named:
        return None
    check_connection(conn_id, key, named, deployment.allowed_connections())
    return CloudIdentity(conn_id, key, named)
