"""Tokens in a secret of HashiCorp Vault or OpenBao."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.compat import deployment, masking
from airflow_oauth_provider.stores.allowed_places import (
    MEMBER,
    Permit,
    check_connection,
    check_form,
    read_named,
    secret_permit,
)
from airflow_oauth_provider.stores.backend import Fetched, StoreOptions
from airflow_oauth_provider.stores.record_store import RecordStore, TimedLeaseStore
from airflow_oauth_provider.stores.vault_client import Changed, NotFound, VaultClient

#: The key of the secret that holds the record.
RECORD_KEY = "token_record"
_MOUNT_POINT = re.compile(r"/?\w[\w.-]*(/\w[\w.-]*)*/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret as read.

    :param data: its keys.
    :param number: of its current version on KV v2, deleted or not; 0 where it never existed.
    """

    data: Mapping[str, Any] = field(repr=False)
    number: int = 0

    def to_fetched(self) -> Fetched:
        """Return what a store learns from it."""
        value = self.data.get(RECORD_KEY)
        if value is not None and not isinstance(value, str):
            # A person who copies a secret by hand may turn the string into the object that it spells.
            value = json.dumps(value, separators=(",", ":"))
        kept = {name: beside for name, beside in self.data.items() if name not in (RECORD_KEY, MEMBER)}
        for name, beside in kept.items():
            if isinstance(beside, str) and name != "client_id":
                masking.mask_secret(beside)
        return Fetched(value or None, self, kept, connections=read_named(self.data.get(MEMBER)))

    def data_with(self, text: str) -> dict[str, Any]:
        """Return the keys with a new record among them."""
        return {**self.data, RECORD_KEY: text}


class _VaultPlace:
    """What both versions of the engine have in common."""

    name = "vault"

    def __init__(self, client: VaultClient) -> None:
        self._client = client

    @property
    def where(self) -> str:
        """What to call the secret in a sentence."""
        return self._client.where

    @property
    def record_where(self) -> str:
        """What to call the record's key of the secret."""
        return f"the key {RECORD_KEY!r} of {self._client.where}"


class KvV2Backend(_VaultPlace):
    """Keeps the record under the key ``token_record`` of one secret, beside whatever people put there.

    A write is Vault's own check-and-set (``cas``): it names the number of the version that it replaces.

    :param client: talks to Vault.
    """

    def fetch(self) -> Fetched:
        """Return what the secret holds; see :meth:`Backend.fetch`."""
        client = self._client
        answer = client.call(
            "read",
            lambda hvac: hvac.secrets.kv.v2.read_secret_version(
                path=client.path, mount_point=client.mount_point, raise_on_deleted_version=True
            ),
        )
        if isinstance(answer, NotFound):
            metadata = (client.check_absent(answer).get("data") or {}).get("metadata") or {}
            # A deleted or destroyed version counts on: the next write has to name its number.
            return _Secret({}, int(metadata.get("version", 0))).to_fetched()
        try:
            return _Secret(answer["data"]["data"] or {}, int(answer["data"]["metadata"]["version"])).to_fetched()
        except (KeyError, TypeError, ValueError):
            raise client.wrong_engine() from None

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """Write a version in place of the one that was read; see :meth:`Backend.replace`."""
        client, secret = self._client, fetched.token
        data = secret.data_with(text)
        try:
            answer: Any = client.call(
                "create and update",
                lambda hvac: hvac.secrets.kv.v2.create_or_update_secret(
                    path=client.path, secret=data, mount_point=client.mount_point, cas=secret.number
                ),
                hidden=data,
            )
        except Changed:
            return None
        try:
            return _Secret(data, int(answer["data"]["version"])).to_fetched()
        except (KeyError, TypeError, ValueError):
            raise client.wrong_engine() from None


class KvV1Backend(_VaultPlace):
    """The same on KV v1, which has no check-and-set.

    :param client: talks to Vault.
    """

    def fetch(self) -> Fetched:
        """Return what the secret holds; see :meth:`Backend.fetch`."""
        client = self._client
        answer = client.call(
            "read", lambda hvac: hvac.secrets.kv.v1.read_secret(path=client.path, mount_point=client.mount_point)
        )
        if isinstance(answer, NotFound):
            client.check_absent(answer)
            return _Secret({}).to_fetched()
        return _Secret(answer["data"]).to_fetched()

    def put(self, fetched: Fetched, text: str) -> None:
        """Write the secret; see :meth:`PlainBackend.put`."""
        client = self._client
        data = fetched.token.data_with(text)
        client.call(
            "create or update",
            lambda hvac: hvac.secrets.kv.v1.create_or_update_secret(
                path=client.path, secret=data, mount_point=client.mount_point, method="POST"
            ),
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
    """Log in, and return the store of a connection with ``store: vault``.

    :param conn_id: the connection.
    :param options: what it says about stores.
    :param settle_time: see :class:`TimedLeaseStore`; None: as the deployment says.
    :param sleep: waits so many seconds.
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
