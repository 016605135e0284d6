"""Requests to HashiCorp Vault or OpenBao by way of Airflow's own ``VaultHook``, with all its ways to log in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_oauth_provider.compat import connections, sdk
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2.redaction import show_url

if TYPE_CHECKING:
    import hvac

_T = TypeVar("_T")

#: The connection types that ``VaultHook`` takes.
_VAULT_TYPES = frozenset({"vault", "vaults", "http", "https"})
#: Seconds that one request may take; hvac's own limit is 30, longer than a lease.
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Session:
    """A login at Vault, and what the Airflow connection says about the secrets engine."""

    client: hvac.Client
    mount_point: str
    kv_version: int


class Changed(Exception):
    """The secret is not at the version that a write names."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """Vault has no such secret.

    :param json: its answer, which tells a secret that is not there from a place where no secret can be.
    """

    json: Any


class VaultClient:
    """Sends requests about one secret.

    :param conn_id: the connection whose tokens these are.
    :param vault_conn_id: the Airflow connection to Vault.
    :param path: the secret's path below the mount point.
    :param mount_point: where the secrets engine is mounted; None for what the Vault connection says.
    :raises StoreNotWritable: the Airflow connection is missing or wrong.
    :raises StoreUnavailable: Vault does not let us in, for now or for good.
    """

    def __init__(self, conn_id: str, vault_conn_id: str, path: str, mount_point: str | None) -> None:
        self.conn_id = conn_id
        self.vault_conn_id = vault_conn_id
        self.path = path
        self._session = _log_in(conn_id, vault_conn_id)
        self.kv_version = self._session.kv_version
        self.mount_point = mount_point or self._session.mount_point
        #: What to call the secret in a sentence.
        self.where = f"the Vault secret {self.mount_point}/{path}"

    def call(
        self,
        capability: str,
        operation: Callable[[hvac.Client], _T],
        hidden: Mapping[str, Any] | None = None,
    ) -> _T | NotFound:
        """Send one request, once more after a new login where Vault refuses the token.

        :param capability: what the policy must allow, for the error.
        :param operation: sends it.
        :param hidden: what must not be in an error.
        :raises Changed: a check-and-set found another version.
        :raises StoreNotWritable: Vault refuses the request for good.
        :raises StoreUnavailable: Vault does not answer, or refuses for now.
        """
        from hvac import exceptions
        from requests import RequestException

        try:
            try:
                return operation(self._session.client)
            except (exceptions.Forbidden, exceptions.Unauthorized):
                # The token may have run out or been revoked: tokens live shorter than triggerers do.
                self._session = _log_in(self.conn_id, self.vault_conn_id)
                return operation(self._session.client)
        except exceptions.InvalidPath as error:
            return NotFound(error.json)
        except (exceptions.Forbidden, exceptions.Unauthorized):
            raise StoreUnavailable(self._why_forbidden(capability)) from None
        except exceptions.InvalidRequest as error:
            message = _redact(error, hidden or {})
            if "check-and-set" in message:
                raise Changed from None
            raise StoreNotWritable(f"Vault refused to {capability} {self.where}: {message}") from None
        except exceptions.VaultError as error:
            raise StoreUnavailable(f"Vault could not {capability} {self.where}: {_reason(error)}.") from None
        except RequestException as error:
            raise StoreUnavailable(
                f"Vault did not answer ({type(error).__name__}) when asked to {capability} {self.where}."
            ) from None

    def wrong_engine(self) -> StoreNotWritable:
        """Return the error for a secrets engine of the other version."""
        return StoreNotWritable(
            f"{self.where} is not in a KV version {self.kv_version} engine. Set kv_engine_version to "
            f"{3 - self.kv_version} in the extra of the Airflow connection {self.vault_conn_id!r}."
        )

    def check_absent(self, answer: NotFound) -> dict[str, Any]:
        """Return Vault's answer for a secret that may be written here for the first time.

        :raises StoreNotWritable: no secret can be there, or it would stand where nobody looks for it.
        """
        members = answer.json if isinstance(answer.json, dict) else {}
        if members.get("errors"):
            raise StoreNotWritable(
                f"Vault has no secrets engine at the mount point of {self.where}. Set 'vault_mount_point' in the "
                f"extra of {self.conn_id!r}, or the schema of the Airflow connection {self.vault_conn_id!r}."
            )
        if members.get("warnings") and self.kv_version == 1:
            raise self.wrong_engine()
        self._check_path()
        return members

    def _check_path(self) -> None:
        """Refuse the paths that other tools have of a secret: a new one would be written deeper than anybody looks.

        Only where there is no secret: one that is really called so may stay.
        """
        mount = self.mount_point.strip("/")
        below = self.path.removeprefix(f"{mount}/")
        below = below.removeprefix("data/") if self.kv_version == 2 else below
        if below != self.path:
            raise StoreNotWritable(
                f"its vault_path is {self.path!r}, but there is no such secret below the mount {mount!r}. The path "
                f"begins after the mount point, and has no data/ before it: enter {below!r}.",
                conn_id=self.conn_id,
            )

    def _why_forbidden(self, capability: str) -> str:
        """Tell a token that has ended from a right that is missing: Vault answers 403 to both."""
        from hvac.exceptions import VaultError
        from requests import RequestException

        try:
            known = self._session.client.is_authenticated()
        except (VaultError, RequestException):
            known = True  # it cannot be told now, and a missing right is what people meet more often
        if not known:
            return (
                f"Vault does not know the token of the Airflow connection {self.vault_conn_id!r}, with which "
                f"to {capability} {self.where}: it has ended or was revoked. Enter a new one, or let Airflow log "
                "in by itself (auth_type approle, kubernetes, …)."
            )
        return (
            f"Vault does not allow the login of {self.vault_conn_id!r} to {capability} {self.where}. Its policy "
            "needs the capabilities create, read and update on that path (on KV v2 with /data/ after the mount point)."
        )


def _log_in(conn_id: str, vault_conn_id: str) -> Session:
    """Log in with everything that ``VaultHook`` knows.

    :raises StoreNotWritable: the Airflow connection is missing or wrong.
    :raises StoreUnavailable: Vault does not let us in, for now or for good.
    """
    from airflow.providers.hashicorp.hooks.vault import VaultHook
    from hvac.exceptions import VaultError
    from requests import RequestException

    class StrictVaultHook(VaultHook):
        """Tells a connection that is not defined from one that cannot be looked up now."""

        @classmethod
        def get_connection(cls, vault_conn_id: str) -> Any:
            connection = connections.get_connection(vault_conn_id)
            _check_is_vault(conn_id, vault_conn_id, connection)
            return connection

    try:
        hook = StrictVaultHook(vault_conn_id)
    except sdk.AirflowNotFoundException:
        raise StoreNotWritable(
            f"it keeps its tokens in Vault, but its vault_conn_id {vault_conn_id!r} is not defined in Airflow.",
            conn_id=conn_id,
        ) from None
    except (VaultError, ValueError, TypeError) as error:
        hint = str(error.args[0]) if isinstance(error, VaultError) and error.args else type(error).__name__
        raise StoreNotWritable(f"The Airflow connection {vault_conn_id!r} is wrong: {hint}") from None
    vault = hook.vault_client
    vault.kwargs.setdefault("timeout", TIMEOUT)  # unless the connection's client_kwargs say otherwise
    try:
        client = hook.get_conn()
    except (VaultError, RequestException) as error:
        raise StoreUnavailable(
            f"The login at Vault with the Airflow connection {vault_conn_id!r} failed: {_reason(error)}."
        ) from None
    except Exception as error:  # noqa: BLE001 - each way to log in has its own errors
        raise StoreUnavailable(
            f"The login at Vault with the Airflow connection {vault_conn_id!r} failed ({type(error).__name__})."
        ) from None
    return Session(client, vault.mount_point or "secret", int(vault.kv_engine_version))


def _check_is_vault(conn_id: str, vault_conn_id: str, connection: Any) -> None:
    """Refuse what ``VaultHook`` would only stumble over later."""
    named = f"it keeps its tokens in Vault, but its vault_conn_id {vault_conn_id!r} is"
    if connection.conn_type not in _VAULT_TYPES:
        raise StoreNotWritable(
            f"{named} an Airflow connection of the type {connection.conn_type!r}. Name one of the type 'vault' "
            "(Hashicorp Vault).",
            conn_id=conn_id,
        )
    if "://" in (connection.host or ""):
        raise StoreNotWritable(
            f"{named} an Airflow connection with the host {show_url(connection.host)!r}. Enter the name alone, "
            "without http:// or https://, the port in its own field, and use_tls in its extra.",
            conn_id=conn_id,
        )


def _reason(error: Exception) -> str:
    """Return what went wrong, without what was sent: errors of requests and hvac may quote it."""
    return {
        "VaultDown": "it is sealed, in maintenance or not there (HTTP status 503)",
        "RateLimitExceeded": "too many requests (HTTP status 429)",
        "InternalServerError": "HTTP status 500",
        "BadGateway": "HTTP status 502",
        "VaultNotInitialized": "it is not initialized (HTTP status 501)",
    }.get(type(error).__name__, type(error).__name__)


def _redact(error: Exception, hidden: Mapping[str, Any]) -> str:
    """Return Vault's message, cut, and without any of the values that were sent."""
    message = str(error.args[0] if error.args else type(error).__name__)
    for value in hidden.values():
        if isinstance(value, str) and len(value) > 3:  # a shorter one would tear words apart
            message = message.replace(value, "***")
    return message[:300]
