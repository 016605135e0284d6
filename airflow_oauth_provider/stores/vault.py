"""Tokens in a secret of HashiCorp Vault or OpenBao, by way of Airflow's own ``VaultHook`` with all its logins."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_oauth_provider.compat import connections, deployment, masking, sdk
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.stores.allowed_places import (
    MEMBER,
    Permit,
    check_connection,
    check_form,
    read_named,
    secret_permit,
)
from airflow_oauth_provider.stores.backend import Fetched, StoreOptions
from airflow_oauth_provider.stores.json_document import to_text
from airflow_oauth_provider.stores.record_store import RecordStore, TimedLeaseStore

if TYPE_CHECKING:
    import hvac

_T = TypeVar("_T")

#: The key of the secret that holds the record.
RECORD_KEY = "token_record"
_MOUNT_POINT = re.compile(r"/?\w[\w.-]*(/\w[\w.-]*)*/?", re.ASCII)
#: The connection types that ``VaultHook`` takes.
_VAULT_TYPES = frozenset({"vault", "vaults", "http", "https"})
#: Seconds that one request may take; hvac's own limit is 30, longer than a lease.
TIMEOUT = 10.0


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
        self._hvac, default_mount_point, self.kv_version = _log_in(conn_id, vault_conn_id)
        self.mount_point = mount_point or default_mount_point
        #: The secret, as the methods of hvac take it.
        self.at = {"path": path, "mount_point": self.mount_point}
        #: What to call the secret in a sentence.
        self.where = f"the Vault secret {self.mount_point}/{path}"

    def call(
        self, capability: str, operation: Callable[[hvac.Client], _T], hidden: Mapping[str, Any] | None = None
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
                return operation(self._hvac)
            except (exceptions.Forbidden, exceptions.Unauthorized):
                # The token may have run out or been revoked: tokens live shorter than triggerers do.
                self._hvac, _, _ = _log_in(self.conn_id, self.vault_conn_id)
                return operation(self._hvac)
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
            known = self._hvac.is_authenticated()
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


def _log_in(conn_id: str, vault_conn_id: str) -> tuple[hvac.Client, str, int]:
    """Log in with everything that ``VaultHook`` knows.

    :return: the client; mount point and KV version, as the Airflow connection says.
    :raises StoreNotWritable: the Airflow connection is missing or wrong.
    :raises StoreUnavailable: Vault does not let us in, for now or for good.
    """
    from airflow.providers.hashicorp.hooks.vault import VaultHook
    from hvac.exceptions import VaultError

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
    except Exception as error:  # noqa: BLE001 - each way to log in has its own errors
        raise StoreUnavailable(
            f"The login at Vault with the Airflow connection {vault_conn_id!r} failed: {_reason(error)}."
        ) from None
    return client, vault.mount_point or "secret", int(vault.kv_engine_version)


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


def _to_fetched(data: Mapping[str, Any], number: int = 0) -> Fetched:
    """Return what a store learns from a secret.

    :param data: its keys.
    :param number: of its current version on KV v2, deleted or not; 0 where it never existed.
    """
    kept = {name: value for name, value in data.items() if name not in (RECORD_KEY, MEMBER)}
    for name, value in kept.items():
        if isinstance(value, str) and name != "client_id":
            masking.mask_secret(value)
    return Fetched(to_text(data.get(RECORD_KEY)), (data, number), kept, connections=read_named(data.get(MEMBER)))


class _VaultPlace:
    """What both versions of the engine have in common."""

    name = "vault"

    def __init__(self, client: VaultClient) -> None:
        self._client = client
        self.where = client.where
        self.record_where = f"the key {RECORD_KEY!r} of {client.where}"


class KvV2Backend(_VaultPlace):
    """Keeps the record under the key ``token_record`` of one secret, beside whatever people put there.

    A write is Vault's own check-and-set (``cas``): it names the number of the version that it replaces.
    """

    def fetch(self) -> Fetched:
        """Return what the secret holds; see :meth:`Backend.fetch`."""
        client = self._client
        answer = client.call(
            "read",
            lambda hvac: hvac.secrets.kv.v2.read_secret_version(**client.at, raise_on_deleted_version=True),
        )
        if isinstance(answer, NotFound):
            metadata = (client.check_absent(answer).get("data") or {}).get("metadata") or {}
            # A deleted or destroyed version counts on: the next write has to name its number.
            return _to_fetched({}, int(metadata.get("version", 0)))
        try:
            return _to_fetched(answer["data"]["data"] or {}, int(answer["data"]["metadata"]["version"]))
        except (KeyError, TypeError, ValueError):
            raise client.wrong_engine() from None

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """Write a version in place of the one that was read; see :meth:`Backend.replace`."""
        client, (data, number) = self._client, fetched.token
        data = {**data, RECORD_KEY: text}
        try:
            answer: Any = client.call(
                "create and update",
                lambda hvac: hvac.secrets.kv.v2.create_or_update_secret(**client.at, secret=data, cas=number),
                hidden=data,
            )
        except Changed:
            return None
        try:
            return _to_fetched(data, int(answer["data"]["version"]))
        except (KeyError, TypeError, ValueError):
            raise client.wrong_engine() from None


class KvV1Backend(_VaultPlace):
    """The same on KV v1, which has no check-and-set."""

    def fetch(self) -> Fetched:
        """Return what the secret holds; see :meth:`Backend.fetch`."""
        client = self._client
        answer = client.call("read", lambda hvac: hvac.secrets.kv.v1.read_secret(**client.at))
        if isinstance(answer, NotFound):
            client.check_absent(answer)
            return _to_fetched({})
        return _to_fetched(answer["data"])

    def put(self, fetched: Fetched, text: str) -> None:
        """Write the secret; see :meth:`PlainBackend.put`."""
        client, (data, _) = self._client, fetched.token
        data = {**data, RECORD_KEY: text}
        client.call(
            "create or update",
            lambda hvac: hvac.secrets.kv.v1.create_or_update_secret(**client.at, secret=data, method="POST"),
            hidden=data,
        )


def _path(options: StoreOptions) -> str:
    return (options.vault_path or "").strip("/")


def find_permit(conn_id: str, options: StoreOptions) -> Permit:
    """Return whether the connection may use the secret that it names; nothing is sent."""
    return secret_permit(conn_id, "vault_path", _path(options), deployment.allowed_secrets())


def open_store(
    conn_id: str,
    options: StoreOptions,
    *,
    settle_time: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> RecordStore | TimedLeaseStore:
    """Log in, and return the store of a connection with ``store: vault``; for the times see :class:`TimedLeaseStore`.

    :raises ConfigurationError: a key is missing or wrong.
    :raises StoreUnavailable: Vault does not let us in.
    """
    path = check_form(conn_id, "vault_path", _path(options), "the path of a secret, without the mount point")
    check_connection(conn_id, "vault_conn_id", options.vault_conn_id, deployment.allowed_connections())
    permit = find_permit(conn_id, options)
    mount_point = options.vault_mount_point
    if mount_point:
        right = "the name of a secrets engine, such as kv or team/kv"
        check_form(conn_id, "vault_mount_point", mount_point, right, _MOUNT_POINT)
    client = VaultClient(conn_id, options.vault_conn_id, path, mount_point)
    if client.kv_version == 1:
        return TimedLeaseStore(KvV1Backend(client), permit=permit, settle_time=settle_time, sleep=sleep)
    return RecordStore(KvV2Backend(client), permit=permit)
