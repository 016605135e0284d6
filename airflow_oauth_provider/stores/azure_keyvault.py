"""Tokens in Azure Key Vault, each in a secret of its own, with the deployment's own identity."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_oauth_provider.compat import masking
from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import timed_claim
from airflow_oauth_provider.stores.json_places import Plain, first_record
from airflow_oauth_provider.stores.parsing import mask_record, parse_record
from airflow_oauth_provider.tokens.record import Record, fingerprint
from airflow_oauth_provider.tokens.store import StoredRecord

log = logging.getLogger(__name__)

#: What is kept, and what its secret is called unless the connection says otherwise.
NAMES = ("client_id", "client_secret", "refresh_token", "access_token", "record")
#: What is kept there only where the connection names its secret: each name is a request more.
KEYS = ("private_key", "dpop_private_key")
#: The member of the record's JSON with the marks of refresh tokens that we have put into their own secret.
_OURS = "written_beside"
#: How many of them are remembered.
_REMEMBERED = 20
#: Bytes of a secret.
_LARGEST = 25_600
#: Seconds that one request may take; the SDK's own limit is 300, longer than a lease.
_TIMEOUT = 10


class KeyVaultStore:
    """Keeps the record in one secret, and refresh and access token in secrets of their own for everybody else.

    Key Vault cannot replace a secret only if it is unchanged, so a lease is taken by a timed claim; see
    :mod:`airflow_oauth_provider.stores.timed_claim` for what that does and does not promise.

    The record is written first, and is what counts. A crash before the other secrets are written leaves them
    old; the marks that the record carries tell such a left-over from a refresh token that a person has entered.

    :param conn_id: the connection whose tokens these are.
    :param url: the vault.
    :param names: names of secrets, by :data:`NAMES` and :data:`KEYS`.
    :param claim_delay: seconds after which another worker's write must have become visible.
    :param sleep: waits so many seconds.
    """

    name = "azure_keyvault"

    def __init__(
        self,
        conn_id: str,
        url: str,
        names: Mapping[str, str],
        *,
        claim_delay: float = timed_claim.DEFAULT_DELAY,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._conn_id = conn_id
        self._url = url
        self._names = names
        self._claim_delay = claim_delay
        self._sleep = sleep
        self._client: Any = None
        self._credentials: dict[str, str | None] | None = None
        self._ours: tuple[str, ...] = ()
        self._record: Record | None = None

    def read(self) -> StoredRecord:
        """Return the newest record; see :meth:`TokenStore.read`."""
        record, version = self._read_record()
        if record is None:
            plain = Plain(self._get("refresh_token"), self._get("access_token"))
            return StoredRecord(first_record(plain), None)
        return StoredRecord(record, version)

    def secrets(self) -> dict[str, Any]:
        """Return what stands beside the record: the client's id, secret and keys, and a refresh token as entered."""
        if self._credentials is None:
            self._credentials = {name: self._get(name) for name in ("client_id", "client_secret", *KEYS)}
        kept = dict(self._credentials)
        if self._record is not None:
            plain = self._get("refresh_token")
            kept["refresh_token"] = None if fingerprint(plain) in self._ours else plain
        return {name: value for name, value in kept.items() if value}

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version``; see :meth:`TokenStore.write`."""
        mask_record(record)
        new_version = version_of(record.to_json())
        assert new_version is not None  # noqa: S101 - a text always has a version
        plain = self._get("refresh_token")
        replaceable = self._may_replace(plain, record)
        timed_claim.swap(
            read_version=lambda: self._read_record()[1],
            write=lambda: self._put_record(record, plain if replaceable else None),
            new_version=new_version,
            if_version=if_version,
            leased=record.lease is not None,
            delay=self._claim_delay,
            sleep=self._sleep,
        )
        if record.lease is None:
            self._write_beside(record, plain if not replaceable else None)
        return new_version

    def _may_replace(self, plain: str | None, new: Record) -> bool:
        """Tell whether the refresh token's own secret holds one that ``new`` replaces, and not a person's new one."""
        marks = (*self._ours, new.entered_fingerprint, *new.superseded, fingerprint(new.refresh_token))
        return plain is None or fingerprint(plain) in marks

    def _read_record(self) -> tuple[Record | None, str | None]:
        text = self._get("record")
        if text is None:
            self._record, self._ours = None, ()
            return None, None
        record = parse_record(text, f"The secret {self._names['record']!r} of {self._url}")
        marks = json.loads(text).get(_OURS, [])
        self._record = record
        self._ours = tuple(mark for mark in marks if isinstance(mark, str)) if isinstance(marks, list) else ()
        return record, version_of(record.to_json())

    def _put_record(self, record: Record, replaced: str | None) -> None:
        marks = [*self._ours, fingerprint(replaced), fingerprint(record.refresh_token)]
        known = list(dict.fromkeys(mark for mark in marks if mark))[-_REMEMBERED:]
        members = json.loads(record.to_json()) | {_OURS: known}
        self._set("record", json.dumps(members, separators=(",", ":")))

    def _write_beside(self, record: Record, entered_by_somebody: str | None) -> None:
        """Write the tokens where other programs look for them. The record is safe already."""
        values = {"access_token": record.access_token}
        if entered_by_somebody is None:
            values["refresh_token"] = record.refresh_token
        for name, value in values.items():
            if value:
                try:
                    self._set(name, value)
                except (StoreUnavailable, StoreNotWritable) as failure:
                    log.warning("Connection %r: the record is written, but %s", self._conn_id, failure)

    def _get(self, name: str) -> str | None:
        from azure.core.exceptions import ResourceNotFoundError

        if not self._names.get(name):
            return None
        try:
            value = self._call("read", name, lambda client: client.get_secret(self._names[name]).value)
        except ResourceNotFoundError:
            return None
        value = (value or "").strip()  # tools leave a line's end behind a value that comes from a file
        if name != "client_id":
            masking.mask_secret(value)
        return value or None

    def _set(self, name: str, value: str) -> None:
        if not self._names.get(name):
            return
        self._call("written", name, lambda client: client.set_secret(self._names[name], value))

    def _call(self, what: str, name: str, operation: Callable[[Any], Any]) -> Any:
        from azure.core.exceptions import (
            AzureError,
            ClientAuthenticationError,
            HttpResponseError,
            ResourceNotFoundError,
        )

        where = f"the secret {self._names[name]!r} of {self._url}"
        try:
            if self._client is None:
                self._client = _new_client(self._url)
            return operation(self._client)
        except ClientAuthenticationError:
            raise StoreUnavailable(f"{where} could not be {what}: Azure knows no identity of this worker.") from None
        except ResourceNotFoundError as error:
            if what == "read" and getattr(error.error, "code", "") == "SecretNotFound":
                raise
            raise StoreUnavailable(f"{where} could not be {what}: HTTP status {error.status_code}.") from None
        except HttpResponseError as error:
            # The message may quote what was sent.
            said = f"{where} could not be {what}: HTTP status {error.status_code}"
            if error.status_code == 403:
                raise StoreUnavailable(
                    f"{said}. Give the worker's identity the role 'Key Vault Secrets Officer', and its network access."
                ) from None
            if error.status_code == 409:
                raise StoreNotWritable(f"{said}. Is there a deleted secret of that name?") from None
            if error.status_code == 400:
                raise StoreNotWritable(f"{said}. A secret has {_LARGEST:,} bytes at the most.") from None
            raise StoreUnavailable(f"{said}.") from None
        except AzureError as error:
            raise StoreUnavailable(f"{where} could not be {what} ({type(error).__name__}).") from None


def _new_client(url: str) -> Any:
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.secrets import SecretClient

    return SecretClient(
        url, DefaultAzureCredential(), connection_timeout=5, read_timeout=_TIMEOUT, retry_total=2, logging_enable=False
    )


def open_store(conn_id: str, options: Mapping[str, Any]) -> KeyVaultStore:
    """Return the store of a connection with ``store: azure_keyvault``.

    :param conn_id: the connection.
    :param options: the keys of its extra that concern stores.
    :raises ConfigurationError: a key is missing or wrong, or the package for Azure is not installed.
    """
    url = options.get("keyvault_url") or ""
    if not url.startswith("https://"):
        raise ConfigurationError(
            f"Connection {conn_id!r}: with store 'azure_keyvault', the key 'keyvault_url' of its extra has to be the "
            f"vault's address, such as https://my-vault.vault.azure.net{f', not {url!r}' if url else ''}."
        )
    names = dict(options.get("keyvault_names") or {})
    if unknown := [name for name in names if name not in (*NAMES, *KEYS)]:
        raise ConfigurationError(
            f"Connection {conn_id!r}: the key 'keyvault_names' of its extra has {unknown[0]!r} in it, which is none of "
            f"{', '.join((*NAMES, *KEYS))}."
        )
    prefix = re.sub(r"[^0-9A-Za-z-]", "-", conn_id)
    for name in NAMES:
        names.setdefault(name, f"{prefix}-{'token-record' if name == 'record' else name.replace('_', '-')}")
    if not names["record"]:
        raise ConfigurationError(f"Connection {conn_id!r}: in the key 'keyvault_names', 'record' needs a name.")
    try:
        import azure.identity
        import azure.keyvault.secrets  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            f"Connection {conn_id!r}: the store 'azure_keyvault' needs more packages: install "
            "airflow-oauth-provider[azure] where the tasks run."
        ) from None
    return KeyVaultStore(conn_id, url.rstrip("/"), names)
