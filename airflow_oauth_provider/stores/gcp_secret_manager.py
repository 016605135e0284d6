"""Tokens in Google Secret Manager, with the identity of the worker or of an Airflow connection."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import (
    Permit,
    check_form,
    check_host,
    is_secret_allowed,
    secret_permit,
)
from airflow_oauth_provider.stores.backend import Fetched, StoreOptions
from airflow_oauth_provider.stores.cloud_identity import CloudIdentity, check_packages, find_identity
from airflow_oauth_provider.stores.gcp_client import GcpSecret, Version
from airflow_oauth_provider.stores.json_document import JsonDocument, Layout, read_layout
from airflow_oauth_provider.stores.record_store import RecordStore, is_leased

log = logging.getLogger(__name__)

#: The member of the document that says which version it replaces, and that we wrote it.
STAMP = "written_by_airflow"
#: How often a look is tried anew when others write between its parts.
_ATTEMPTS = 10
#: How many versions are looked at for what is left over.
_TIDIED = 20

# A project's id may have the domain of its organization before it.
_NAME = re.compile(r"projects/([a-z0-9][a-z0-9.-]*:)?[a-z0-9][a-z0-9-]*(/locations/[a-z0-9-]+)?/secrets/[A-Za-z0-9_-]+")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")


@dataclass(frozen=True, slots=True)
class _Head:
    """The secret as read.

    :param newest: the number of its newest version.
    :param number: the number of the newest one that counts.
    :param document: what is in that.
    """

    newest: int
    number: int
    document: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What a version of ours says of those before it.

    :param follows: the one that it replaces: the newest one that counted.
    :param after: the newest one that its writer knew, and has looked at.
    """

    follows: int
    after: int


class GcpBackend:
    """Keeps the record in one member of a secret that is a JSON object, beside whatever people keep there.

    A write adds a version, and is a compare-and-set by the version's number, which Google gives in order and once:
    every version that we add names the one that it replaces, and of those that name the same one only the first
    counts. Its writer and every reader see that from the numbers alone. What a person adds always counts.

    Versions are read by number, since that is the one thing that Google promises to be up to date: ``latest``, aliases
    and the secret itself, whose etag would be the other way to compare and set, may lag for minutes. (Moving an alias
    under that etag would also need the right to change the secret, and overlook what people add.)

    :param conn_id: the connection whose tokens these are.
    :param name: ``projects/…/secrets/…``. It must exist, with a version: we may not even have the right to create it.
    :param layout: where things stand in it.
    :param endpoint: host of the service; None for the secret's own.
    :param identity: whom to act as; None for the worker's own identity.
    """

    name = "gcp_secret_manager"

    def __init__(
        self,
        conn_id: str,
        name: str,
        layout: Layout,
        endpoint: str | None = None,
        identity: CloudIdentity | None = None,
    ) -> None:
        self._conn_id = conn_id
        self._document = JsonDocument(layout, f"the Google secret {name!r} of connection {conn_id!r}")
        self.where, self.record_where = self._document.where, self._document.record_where
        self._secret = GcpSecret(name, endpoint, self.where, identity)

    def fetch(self) -> Fetched:
        """Return what the secret holds; see :meth:`Backend.fetch`."""
        for _ in range(_ATTEMPTS):
            newest = self._secret.newest()
            while (following := self._secret.version(newest.number + 1)) is not None:
                newest = following
            if newest.data is None:
                raise StoreUnavailable(
                    f"Version {newest.number} of {self.where}, its newest, is disabled or destroyed, or its "
                    "KMS key is. Enable it, or add a version."
                )
            head = self._that_counts(newest)
            if head is not None:
                return self._document.to_fetched(head.document, head)
        raise StoreUnavailable(f"{self.where} has no version that can be read and counts. Add one.")

    def _that_counts(self, newest: Version) -> _Head | None:
        """Return the newest version that counts; None where others have gone on meanwhile."""
        settled = counts = 0
        heads: dict[int, _Head] = {}  # what comes first after a version; one by hand comes after itself
        gone = False
        number, version = newest.number, newest
        while True:
            if version.data is None:
                gone = True
            else:
                document = self._document_of(version)
                head, stamp = _Head(newest.number, number, document), _stamp_of(document)
                if stamp is None:
                    heads.setdefault(number, head)
                    stamp = _Stamp(number, number)
                else:
                    heads[stamp.follows] = head
                settled, counts = max(settled, stamp.after), max(counts, stamp.follows)
            number -= 1
            if number <= settled:
                break
            version = self._version(number)
        # We destroy what comes before a version that counts. If that one is among these, what is gone did not count.
        if gone and self._secret.version(newest.number + 1) is not None:
            return None
        return heads[counts]

    def _version(self, number: int) -> Version:
        version = self._secret.version(number)
        if version is None:
            # Whatever it is that has got that number, it may yet turn up, and count.
            raise StoreUnavailable(f"{self.where} has no version {number}, but later ones.")
        return version

    def _document_of(self, version: Version) -> dict[str, Any]:
        document = _document_in(version)
        if document is None:
            raise StoreNotWritable(
                f"Version {version.number} of {self.where} is not a JSON object. Add one that is, if only {{}}."
            )
        return document

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """Add a version, which counts unless others were added meanwhile; see :meth:`Backend.replace`."""
        head: _Head = fetched.token
        document = self._document.with_record(head.document, text)
        stamp = _Stamp(head.number, head.newest)
        document[STAMP] = {"follows": stamp.follows, "after": stamp.after, "digest": _digest(document, stamp)}
        number = self._secret.add(json.dumps(document).encode())
        if number != head.newest + 1:
            return None
        if not is_leased(text):
            self._tidy(number)
        return self._document.to_fetched(document, _Head(number, number, document))

    def _tidy(self, current: int) -> None:
        """Destroy what we have written before: each version costs money while it can be read.

        The record is safe already. What people have added stays: only its stamp makes a version ours.
        """
        try:
            for number in self._secret.readable(_TIDIED):
                version = self._secret.version(number) if number < current else None
                document = _document_in(version) if version is not None else None
                if document is not None and _stamp_of(document) is not None:
                    self._secret.destroy(number)
        except StoreUnavailable as failure:
            log.warning("Connection %r: the record is written, but older versions stay: %s", self._conn_id, failure)


def _document_in(version: Version) -> dict[str, Any] | None:
    try:
        document = json.loads(version.data or b"")
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _digest(document: dict[str, Any], stamp: _Stamp) -> str:
    kept = {name: value for name, value in document.items() if name != STAMP}
    text = json.dumps([stamp.follows, stamp.after, kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp_of(document: dict[str, Any]) -> _Stamp | None:
    """Return the stamp of a version that we wrote; None where somebody else wrote it, from a copy perhaps."""
    text = document.get(STAMP)
    if not isinstance(text, dict):
        return None
    follows, after = text.get("follows"), text.get("after")
    if not isinstance(follows, int) or not isinstance(after, int):
        return None
    stamp = _Stamp(follows, after)
    return stamp if text.get("digest") == _digest(document, stamp) else None


def find_permit(conn_id: str, options: StoreOptions) -> Permit:
    """Return whether the connection may use the secret that it names; nothing is sent.

    The secret's own name counts, unless the deployment lists the whole of it.
    """
    name, patterns = options.gcp_name or "", deployment.allowed_secrets()
    named = name if is_secret_allowed(name, patterns, conn_id) else name.rpartition("/")[2]
    return secret_permit(conn_id, "gcp_name", named, patterns)


def open_store(conn_id: str, options: StoreOptions) -> RecordStore:
    """Return the store of a connection with ``store: gcp_secret_manager``.

    :param conn_id: the connection.
    :param options: what it says about stores.
    :raises ConfigurationError: a key is missing or wrong, or the package for Google is not installed.
    """
    right = (
        "the whole name of a secret, such as projects/my-project/secrets/xero or "
        "projects/my-project/locations/europe-west3/secrets/xero"
    )
    name = check_form(conn_id, "gcp_name", options.gcp_name, right, _NAME)
    endpoint = options.gcp_endpoint
    if endpoint:
        right = "a host, such as secretmanager-my-endpoint.p.googleapis.com"
        check_form(conn_id, "gcp_endpoint", endpoint, right, _HOST)
        check_host(conn_id, "gcp_endpoint", endpoint, deployment.allowed_endpoints())
    identity = find_identity(conn_id, "gcp_conn_id", options.gcp_conn_id)
    layout = read_layout(conn_id, options.file_map)
    check_packages(conn_id, "google", "google.cloud.secretmanager_v1", "google_crc32c")
    return RecordStore(GcpBackend(conn_id, name, layout, endpoint, identity), permit=find_permit(conn_id, options))
