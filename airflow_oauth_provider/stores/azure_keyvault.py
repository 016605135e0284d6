"""Tokens in Azure Key Vault, each in a secret of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_oauth_provider.compat import deployment, masking
from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import MEMBER, OWN, Permit, check_form, check_host, secret_permit
from airflow_oauth_provider.stores.backend import Fetched, StoreOptions
from airflow_oauth_provider.stores.cloud_identity import CloudIdentity, check_packages, find_identity
from airflow_oauth_provider.stores.json_document import PlainTokens
from airflow_oauth_provider.stores.record_store import TimedLeaseStore
from airflow_oauth_provider.tokens.json_members import parse_object
from airflow_oauth_provider.tokens.record import Record, fingerprint

log = logging.getLogger(__name__)

#: What is kept, and what its secret is called unless the connection says otherwise.
NAMES = ("client_id", "client_secret", "refresh_token", "access_token", "record")
#: What is kept there only where the connection names its secret: each name is a request more.
KEYS = ("private_key", "dpop_private_key")
#: What the name of each secret begins with, unless the connection names another.
PREFIX = "airflow-oauth2-"
_LONGEST_ID = 45
_PLAIN_ID = re.compile(rf"(?=.{{1,{_LONGEST_ID}}}\Z)[a-z0-9]+([_-][a-z0-9]+)*")
_NOT_IN_NAMES = re.compile(r"[^0-9a-z]+")
_URL = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?/?")
#: The member of the record's JSON with the marks of refresh tokens that we have put into their own secret.
_OURS = "written_beside"
#: How many of them are remembered.
_REMEMBERED = 20
#: Bytes of a secret.
_LARGEST = 25_600
#: Seconds that one request may take; the SDK's own limit is 300, longer than a lease.
_TIMEOUT = 10
#: By HTTP status: whether waiting does not help, and what does.
_HINTS = {
    400: (True, f" A secret has {_LARGEST:,} bytes at the most."),
    403: (False, " Give the worker's identity the role 'Key Vault Secrets Officer', and its network access."),
    409: (True, " Is there a deleted secret of that name?"),
}


class KeyVaultBackend:
    """Keeps the record in one secret, and refresh and access token in secrets of their own for everybody else.

    Key Vault cannot replace a secret only if it is unchanged: see :class:`TimedLeaseStore` for what that does and does
    not promise.

    The record is written first, and is what counts. A crash before the other secrets are written leaves them
    old; the marks that the record carries tell such a left-over from a refresh token that a person has entered.

    :param url: the vault.
    :param names: names of secrets, by :data:`NAMES` and :data:`KEYS`.
    :param permits: whether the connection may use each of them.
    :param identity: whom to act as; None for the worker's own identity.
    """

    name = "azure_keyvault"

    def __init__(
        self,
        conn_id: str,
        url: str,
        names: Mapping[str, str],
        permits: Mapping[str, Permit],
        identity: CloudIdentity | None = None,
    ) -> None:
        self.where = f"the key vault {url}"
        self.record_where = f"the secret {names['record']!r} of {url}"
        self._conn_id = conn_id
        self._url = url
        self._names = names
        self._permits = permits
        self._identity = identity
        self._tags: dict[str, Any] = {}
        self._client: Any = None
        self._credentials: dict[str, str | None] | None = None

    def fetch(self) -> Fetched:
        """Return what the vault holds; see :meth:`Backend.fetch`."""
        text, marks = _split(self._get("record"))
        if self._credentials is None:
            self._credentials = {name: self._get(name) for name in ("client_id", "client_secret", *KEYS)}
        refresh_token = self._get("refresh_token")
        plain = PlainTokens(refresh_token, None if text else self._get("access_token"))
        kept = dict(self._credentials)
        if text is not None and fingerprint(refresh_token) not in marks:
            kept["refresh_token"] = refresh_token  # a person has entered it since
        kept = {name: value for name, value in kept.items() if value}
        return Fetched(text, (plain, marks), kept, plain.first_record())

    def put(self, fetched: Fetched, text: str) -> None:
        """Write the record, and then the tokens for other programs; see :meth:`PlainBackend.put`."""
        record = Record.from_json(text)
        plain, marks = fetched.token
        replaces = plain.is_replaced_by(record, *marks)
        marks = (*marks, fingerprint(plain.refresh_token) if replaces else None, fingerprint(record.refresh_token))
        known = list(dict.fromkeys(mark for mark in marks if mark))[-_REMEMBERED:]
        self._set("record", json.dumps(json.loads(text) | {_OURS: known}, separators=(",", ":")))
        if record.lease is None:
            self._write_beside("access_token", record.access_token)
            if replaces:
                self._write_beside("refresh_token", record.refresh_token)

    def _write_beside(self, name: str, value: str | None) -> None:
        """Write a token where other programs look for it. The record is safe already."""
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
            secret = self._call("read", name, lambda client: client.get_secret(self._names[name]))
        except ResourceNotFoundError:
            self._permits[name].check(None)
            return None
        self._tags[name] = dict(secret.properties.tags or {})
        named = self._tags[name].get(MEMBER)  # a tag is text: names with commas between them
        self._permits[name].check(None if named is None else tuple(each.strip() for each in named.split(",")))
        value = (secret.value or "").strip()  # tools leave a line's end behind a value that comes from a file
        if name != "client_id":
            masking.mask_secret(value)
        return value or None

    def _set(self, name: str, value: str) -> None:
        if self._names.get(name):
            tags = self._tags.get(name)
            self._call("written", name, lambda client: client.set_secret(self._names[name], value, tags=tags))

    def _log_in(self) -> Any:
        """Return the credential to log in with."""
        if self._identity is None:
            from azure.identity import DefaultAzureCredential

            return DefaultAzureCredential()
        credential = self._identity.log_in(
            "microsoft-azure",
            "airflow.providers.microsoft.azure.hooks.base_azure",
            lambda hooks, named: hooks.AzureBaseHook(conn_id=named).get_credential(),
        )
        if not callable(getattr(credential, "get_token", None)):
            raise ConfigurationError(
                f"the Airflow connection {self._identity.named!r} gives credentials of an "
                "older kind. Set use_azure_identity_object to true in its extra.",
                conn_id=self._conn_id,
            )
        return credential

    def _call(self, what: str, name: str, operation: Callable[[Any], Any]) -> Any:
        from azure.core import exceptions

        said = f"the secret {self._names[name]!r} of {self._url} could not be {what}"
        try:
            if self._client is None:
                self._client = _new_client(self._url, self._log_in())
            return operation(self._client)
        except exceptions.ClientAuthenticationError:
            raise StoreUnavailable(f"{said}: Azure knows no identity of this worker.") from None
        except exceptions.HttpResponseError as error:
            is_missing = isinstance(error, exceptions.ResourceNotFoundError)
            if is_missing and what == "read" and getattr(error.error, "code", "") == "SecretNotFound":
                raise
            # The message may quote what was sent.
            lasting, hint = _HINTS.get(error.status_code or 0, (False, ""))
            kind = StoreNotWritable if lasting else StoreUnavailable
            raise kind(f"{said}: HTTP status {error.status_code}.{hint}") from None
        except exceptions.AzureError as error:
            raise StoreUnavailable(f"{said} ({type(error).__name__}).") from None


def _new_client(url: str, credential: Any) -> Any:
    from azure.keyvault.secrets import SecretClient

    limits = {"connection_timeout": 5, "read_timeout": _TIMEOUT, "retry_total": 2}
    return SecretClient(url, credential, **limits, logging_enable=False)


def _split(secret: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the record's text and the marks in its secret."""
    members = parse_object(secret)
    if members is None:
        return secret, ()
    marks = members.pop(_OURS, None)
    text = json.dumps(members, separators=(",", ":"))
    return text, tuple(mark for mark in marks if isinstance(mark, str)) if isinstance(marks, list) else ()


def _own_name(conn_id: str, name: str) -> str:
    """Return the name of a secret that is made of the connection's id: no two connections have the same.

    Azure knows letters, digits and ``-`` only, and does not tell upper from lower case. So ``_`` becomes ``--``, and
    what could meet another id has a hash behind ``---``.
    """
    end = {"record": "token-record", "dpop_private_key": "dpop-key"}.get(name, name.replace("_", "-"))
    if _PLAIN_ID.fullmatch(conn_id):
        return f"{PREFIX}{conn_id.replace('_', '--')}-{end}"
    digest = hashlib.sha256(conn_id.encode()).hexdigest()[:16]
    return f"{PREFIX}{_NOT_IN_NAMES.sub('-', conn_id.lower())[:_LONGEST_ID]}---{digest}-{end}"


def _permit(conn_id: str, name: str) -> Permit:
    """Return whether a connection may use a secret: its own ones, those that the deployment lists for everybody.

    A pattern with ``{conn_id}`` does not count: where a name has no parts, ``xero-*`` is also the place of ``xero-eu``.
    """
    own = [_own_name(conn_id, each) for each in (*NAMES, *KEYS)]
    listed = [pattern.lower() for pattern in deployment.allowed_secrets() if OWN not in pattern]
    # Azure does not tell upper from lower case in names.
    return secret_permit(conn_id, "keyvault_names", name.lower(), [*own, *listed])


def _read_names(conn_id: str, options: StoreOptions) -> dict[str, str]:
    """Return the names of the secrets: those of ``keyvault_names``, and one made of the connection for each other."""
    names = dict(options.keyvault_names)
    if unknown := [name for name in names if name not in (*NAMES, *KEYS)]:
        raise ConfigurationError(
            f"the key 'keyvault_names' of its extra has {unknown[0]!r} in it, which is none of "
            f"{', '.join((*NAMES, *KEYS))}.",
            conn_id=conn_id,
        )
    for name in NAMES:
        names.setdefault(name, _own_name(conn_id, name))
    if not names["record"]:
        raise ConfigurationError("in the key 'keyvault_names', 'record' needs a name.", conn_id=conn_id)
    return names


def find_permit(conn_id: str, options: StoreOptions) -> Permit:
    """Return whether the connection may use the secrets that it names, or the first refusal; nothing is sent."""
    permits = [_permit(conn_id, name) for name in options.keyvault_names.values() if name]
    return next((permit for permit in permits if permit.refusal is not None), Permit(conn_id))


def open_store(
    conn_id: str,
    options: StoreOptions,
    *,
    settle_time: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> TimedLeaseStore:
    """Return the store of a connection with ``store: azure_keyvault``; for the times see :class:`TimedLeaseStore`.

    :raises ConfigurationError: a key is missing or wrong, or the package for Azure is not installed.
    """
    right = "the vault's address, such as https://my-vault.vault.azure.net"
    url = check_form(conn_id, "keyvault_url", options.keyvault_url, right, _URL).rstrip("/")
    check_host(conn_id, "keyvault_url", url.removeprefix("https://"), deployment.allowed_endpoints())
    identity = find_identity(conn_id, "azure_conn_id", options.azure_conn_id)
    names = _read_names(conn_id, options)
    check_packages(conn_id, "azure", "azure.identity", "azure.keyvault.secrets")
    permits = {name: _permit(conn_id, called) for name, called in names.items()}
    backend = KeyVaultBackend(conn_id, url, names, permits, identity)
    return TimedLeaseStore(backend, settle_time=settle_time, sleep=sleep)
