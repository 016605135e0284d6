"""Tokens in HashiCorp Vault or OpenBao, by way of Airflow's own ``VaultHook`` and with all its ways to log in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_oauth_provider.compat import connections, masking, sdk
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2.redaction import show_url
from airflow_oauth_provider.stores import timed_claim
from airflow_oauth_provider.stores.parsing import mask_record, stored
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord

if TYPE_CHECKING:
    import hvac

_T = TypeVar("_T")

#: The key of the secret that holds the record.
RECORD_KEY = "token_record"
#: The connection types that ``VaultHook`` takes.
_VAULT_TYPES = frozenset({"vault", "vaults", "http", "https"})
#: Seconds that one request may take; hvac's own limit is 30, longer than a lease.
TIMEOUT = 10.0
#: How often a write is tried anew when somebody changes other keys of the secret between its read and its
#: write.
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret as read.

    :param data: its keys.
    :param cas: the number of its current version on KV v2, deleted or not; 0 where it never existed.
    """

    data: Mapping[str, Any] = field(repr=False)
    cas: int = 0

    @property
    def text(self) -> str | None:
        value = self.data.get(RECORD_KEY)
        if value is None or value == "":
            return None
        # A person who copies a secret by hand may turn the string into the object that it spells.
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    @property
    def version(self) -> str | None:
        return version_of(self.text)


class VaultStore:
    """Keeps the record under the key ``token_record`` of one secret, beside whatever people put there.

    On KV v2 a write is Vault's own check-and-set (``cas``). KV v1 has none: there a lease is taken by a timed
    claim, see :mod:`airflow_oauth_provider.stores.timed_claim`. The record's version is its hash and not the
    secret's version number, so that a change of other keys makes no record stale, and is not lost either.

    :param conn_id: the connection whose tokens these are.
    :param vault_conn_id: the Airflow connection to Vault.
    :param path: the secret's path below the mount point.
    :param mount_point: where the secrets engine is mounted; None for what the Vault connection says.
    :param claim_delay: on KV v1, seconds after which another worker's write must have become visible.
    :param sleep: waits so many seconds.
    """

    name = "vault"

    def __init__(
        self,
        conn_id: str,
        vault_conn_id: str,
        path: str,
        mount_point: str | None = None,
        *,
        claim_delay: float = timed_claim.DEFAULT_DELAY,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._conn_id = conn_id
        self._vault_conn_id = vault_conn_id
        self._path = path.strip("/")
        self._mount_point = mount_point
        self._claim_delay = claim_delay
        self._sleep = sleep
        self._session: _Session | None = None
        self._known: _Secret | None = None

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        return stored(self._fetch().text, f"The key {RECORD_KEY!r} of {self.where}")

    def secrets(self) -> dict[str, Any]:
        """Return the secret's other keys (client id, client secret, the refresh token as entered).

        They come from the newest read or write of this store, and cost a request only where there was none.

        :raises StoreUnavailable: Vault cannot be asked.
        """
        known = self._known or self._fetch()
        return {name: value for name, value in known.data.items() if name != RECORD_KEY}

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        mask_record(record)
        text = record.to_json()
        new_version = version_of(text)
        assert new_version is not None  # noqa: S101 - a text always has a version
        if self._open().kv_version == 1:
            return timed_claim.swap(
                read_version=lambda: self._fetch().version,
                write=lambda: self._put(text),
                new_version=new_version,
                if_version=if_version,
                leased=record.lease is not None,
                delay=self._claim_delay,
                sleep=self._sleep,
            )
        return self._check_and_set(text, new_version, if_version)

    def _check_and_set(self, text: str, new_version: str, if_version: str | None) -> str:
        # What was read last mostly is what is there now. Vault says when it is not, so there is no need to
        # ask.
        secret = self._known or self._fetch()
        for _ in range(_ATTEMPTS):
            if secret.version != if_version:
                secret = self._fetch()
                if secret.version == new_version:
                    return new_version  # our own write, whose answer was lost
                if secret.version != if_version:
                    raise StaleVersion(f"The record in {self.where} was changed by another worker.")
            if self._put(text, secret):
                return new_version
            secret = self._fetch()
        raise StoreUnavailable(f"{self.where} is being changed all the time; the record was not written.")

    def _put(self, text: str, secret: _Secret | None = None) -> bool:
        """Write the record beside the other keys; on KV v2 return False where the secret has changed meanwhile."""
        secret = secret or self._known or self._fetch()
        data = {**secret.data, RECORD_KEY: text}
        if self._open().kv_version == 1:
            self._call(
                "create or update",
                lambda client, mount: client.secrets.kv.v1.create_or_update_secret(
                    path=self._path, secret=data, mount_point=mount, method="POST"
                ),
                hidden=data,
            )
            self._known = _Secret(data)
            return True
        self._known = None
        answer = self._call(
            "create and update",
            lambda client, mount: client.secrets.kv.v2.create_or_update_secret(
                path=self._path, secret=data, mount_point=mount, cas=secret.cas
            ),
            hidden=data,
        )
        if answer is _CHANGED:
            return False
        try:
            number = int(answer["data"]["version"])
        except (KeyError, TypeError, ValueError):
            raise self._wrong_engine(2) from None
        self._known = _Secret(data, number)
        return True

    def _fetch(self) -> _Secret:
        if self._open().kv_version == 1:
            answer = self._call(
                "read",
                lambda client, mount: client.secrets.kv.v1.read_secret(path=self._path, mount_point=mount),
            )
            secret = self._absent(answer.json, 1) if isinstance(answer, _NotFound) else _Secret(answer["data"])
        else:
            answer = self._call(
                "read",
                lambda client, mount: client.secrets.kv.v2.read_secret_version(
                    path=self._path, mount_point=mount, raise_on_deleted_version=True
                ),
            )
            if isinstance(answer, _NotFound):
                secret = self._absent(answer.json, 2)
            else:
                try:
                    secret = _Secret(answer["data"]["data"] or {}, int(answer["data"]["metadata"]["version"]))
                except (KeyError, TypeError, ValueError):
                    raise self._wrong_engine(2) from None
        for name, value in secret.data.items():
            if isinstance(value, str) and name not in (RECORD_KEY, "client_id"):
                masking.mask_secret(value)
        self._known = secret
        return secret

    def _absent(self, answer: Any, kv_version: int) -> _Secret:
        """Tell a secret that is not there from a place where no secret can be."""
        answer = answer if isinstance(answer, dict) else {}
        if answer.get("errors"):
            raise StoreNotWritable(
                f"Vault has no secrets engine at the mount point of {self.where}. Set 'vault_mount_point' in the "
                f"extra of {self._conn_id!r}, or the schema of the Airflow connection {self._vault_conn_id!r}."
            )
        if answer.get("warnings") and kv_version == 1:
            raise self._wrong_engine(1)
        self._check_path(kv_version)
        metadata = (answer.get("data") or {}).get("metadata") or {}
        # A deleted or destroyed version counts on: the next write has to name its number.
        return _Secret({}, int(metadata.get("version", 0)))

    def _check_path(self, kv_version: int) -> None:
        """Refuse the paths that other tools have of a secret: a new one would be written deeper than anybody looks.

        Only where there is no secret: one that is really called so may stay.
        """
        mount = (self._mount_point or self._open().mount_point).strip("/")
        below = self._path.removeprefix(f"{mount}/")
        below = below.removeprefix("data/") if kv_version == 2 else below
        if below != self._path:
            raise StoreNotWritable(
                f"The connection {self._conn_id!r} has the vault_path {self._path!r}, but there is no such secret "
                f"below the mount point {mount!r}. The path begins after the mount point, and has no data/ before it: "
                f"enter {below!r}."
            )

    def _wrong_engine(self, assumed: int) -> StoreNotWritable:
        other = 3 - assumed
        return StoreNotWritable(
            f"{self.where} is not in a KV version {assumed} engine. Set kv_engine_version to {other} in the extra "
            f"of the Airflow connection {self._vault_conn_id!r}."
        )

    @property
    def where(self) -> str:
        """What the secret is called."""
        mount = self._mount_point or (self._session.mount_point if self._session else None)
        return f"the Vault secret {mount + '/' if mount else ''}{self._path}"

    # ------------------------------------------------------------------------------------------ talking to
    # Vault

    def _open(self, *, again: bool = False) -> _Session:
        if self._session is None or again:
            self._session = None
            self._session = _log_in(self._conn_id, self._vault_conn_id)
        return self._session

    def _call(
        self,
        capability: str,
        operation: Callable[[hvac.Client, str], _T],
        hidden: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send one request, once more after a new login where Vault refuses the token.

        :param capability: what the policy must allow, for the error.
        :param hidden: what must not be in an error.
        :return: the answer, ``_CHANGED`` or a ``_NotFound``.
        """
        from hvac import exceptions
        from requests import RequestException

        try:
            session = self._open()
            try:
                return operation(session.client, self._mount_point or session.mount_point)
            except (exceptions.Forbidden, exceptions.Unauthorized):
                # The token may have run out or been revoked: tokens live shorter than triggerers do.
                session = self._open(again=True)
                return operation(session.client, self._mount_point or session.mount_point)
        except exceptions.InvalidPath as error:
            return _NotFound(error.json)
        except (exceptions.Forbidden, exceptions.Unauthorized):
            raise StoreUnavailable(self._why_forbidden(capability)) from None
        except exceptions.InvalidRequest as error:
            message = _scrub(error, hidden or {})
            if "check-and-set" in message:
                return _CHANGED
            raise StoreNotWritable(f"Vault refused to {capability} {self.where}: {message}") from None
        except exceptions.VaultError as error:
            raise StoreUnavailable(f"Vault could not {capability} {self.where}: {_reason(error)}.") from None
        except RequestException as error:
            raise StoreUnavailable(
                f"Vault did not answer ({type(error).__name__}) when asked to {capability} {self.where}."
            ) from None

    def _why_forbidden(self, capability: str) -> str:
        """Tell a token that has ended from a right that is missing: Vault answers 403 to both."""
        from hvac.exceptions import VaultError
        from requests import RequestException

        try:
            known = self._session is not None and self._session.client.is_authenticated()
        except (VaultError, RequestException):
            known = True  # it cannot be told now, and a missing right is what people meet more often
        if not known:
            return (
                f"Vault does not know the token of the Airflow connection {self._vault_conn_id!r}, with which "
                f"to {capability} {self.where}: it has ended or was revoked. Enter a new one, or let Airflow log "
                "in by itself (auth_type approle, kubernetes, …)."
            )
        return (
            f"Vault does not allow the login of {self._vault_conn_id!r} to {capability} {self.where}. Its policy "
            "needs the capabilities create, read and update on that path (on KV v2 with /data/ after the mount point)."
        )


class _Changed:
    """What stands for an answer when the secret is not at the version that a write names."""


_CHANGED = _Changed()


@dataclass(frozen=True, slots=True)
class _NotFound:
    json: Any


@dataclass(frozen=True, slots=True)
class _Session:
    """A login at Vault, and what the Airflow connection says about the secrets engine."""

    client: hvac.Client
    mount_point: str
    kv_version: int


def _log_in(conn_id: str, vault_conn_id: str) -> _Session:
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
            f"The connection {conn_id!r} keeps its tokens in Vault, but its vault_conn_id {vault_conn_id!r} is not "
            "defined in Airflow."
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
    return _Session(client, vault.mount_point or "secret", int(vault.kv_engine_version))


def _check_is_vault(conn_id: str, vault_conn_id: str, connection: Any) -> None:
    """Refuse what ``VaultHook`` would only stumble over later."""
    named = f"The connection {conn_id!r} keeps its tokens in Vault, but its vault_conn_id {vault_conn_id!r} is"
    if connection.conn_type not in _VAULT_TYPES:
        raise StoreNotWritable(
            f"{named} an Airflow connection of the type {connection.conn_type!r}. Name one of the type 'vault' "
            "(Hashicorp Vault)."
        )
    if "://" in (connection.host or ""):
        raise StoreNotWritable(
            f"{named} an Airflow connection with the host {show_url(connection.host)!r}. Enter the name alone, "
            "without http:// or https://, the port in its own field, and use_tls in its extra."
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


def _scrub(error: Exception, hidden: Mapping[str, Any]) -> str:
    """Return Vault's message, cut, and without any of the values that were sent."""
    message = str(error.args[0] if error.args else type(error).__name__)
    for value in hidden.values():
        if isinstance(value, str) and len(value) > 3:  # a shorter one would tear words apart
            message = message.replace(value, "***")
    return message[:300]
