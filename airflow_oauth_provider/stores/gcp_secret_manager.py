"""Tokens in Google Secret Manager, with the identity of the worker or of an Airflow connection."""

from __future__ import annotations

import contextlib
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
from airflow_oauth_provider.stores.json_document import JsonDocument, Layout, read_layout
from airflow_oauth_provider.stores.record_store import RecordStore, is_leased
from airflow_oauth_provider.tokens.json_members import parse_object

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
#: Seconds that one request may take; the library's own limit is 60, longer than a lease.
_TIMEOUT = 10
#: Seconds for which a request that changes nothing is tried again.
_PATIENCE = 8
#: Bytes of a version, by Google's limits.
_LARGEST = 64 * 1024

#: By the status in Google's answer (google.rpc.Code).
_HINTS = {
    "PERMISSION_DENIED": "the worker's identity needs the roles 'Secret Manager Secret Accessor' and 'Secret Manager "
    "Secret Version Manager' on it; Google says so too where the project does not exist or has the API switched off",
    "UNAUTHENTICATED": "Google does not take this worker's credentials",
    "RESOURCE_EXHAUSTED": "the project's quota is used up (by default 600 writes a minute; a refresh takes 4)",
}
#: The library's loggers that write whole requests and answers at DEBUG, with what is secret in them.
_TALKATIVE = ("google.cloud.secretmanager_v1", "google.auth.transport.requests")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a secret.

    :param number: counts from 1, one a version; Google gives each number once.
    :param data: what is in it; None where it is disabled or destroyed.
    """

    number: int
    data: bytes | None = field(repr=False)


class GcpSecret:
    """Reads, adds and destroys versions; each method raises StoreUnavailable where Google cannot be had.

    :param name: ``projects/…/secrets/…`` or ``projects/…/locations/…/secrets/…``.
    :param endpoint: host of the service; None for the secret's own.
    :param where: what the secret is called in errors.
    :param identity: whom to act as; None for the worker's own identity.
    """

    def __init__(self, name: str, endpoint: str | None, where: str, identity: CloudIdentity | None = None) -> None:
        self._identity = identity
        self._name = name
        self._endpoint = endpoint or _endpoint_of(name)
        self._where = where
        self._client: Any = None

    def newest(self) -> Version:
        """Return the version that Google takes for the newest one; it may lag behind.

        :raises StoreNotWritable: there is no such secret, or it has no version.
        """
        found = self._access("latest")
        if found is None:
            raise StoreNotWritable(
                f"{self._where} could not be read: NOT_FOUND. Create it, with a version, if only {{}}, or check the "
                "key 'gcp_name'."
            )
        return found

    def version(self, number: int) -> Version | None:
        """Return a version, None where there is none of that number. Google promises that this does not lag."""
        return self._access(str(number))

    def add(self, data: bytes) -> int | None:
        """Add a version and return its number; None where Google says that another request came in between.

        :raises StoreNotWritable: there is no such secret, or ``data`` is too large.
        :raises StoreUnavailable: Google did not take it, or its answer was lost and it may have.
        """
        import google_crc32c

        if len(data) > _LARGEST:
            raise StoreNotWritable(
                f"{self._where} would have {len(data)} bytes, and Google takes {_LARGEST}: keep less beside the tokens."
            )
        payload = {"data": data, "data_crc32c": google_crc32c.value(data)}
        try:
            request = {"parent": self._name, "payload": payload}
            answer = self._call(
                "written", "add_secret_version", request, repeat=False, expected=("ABORTED", "NOT_FOUND")
            )
        except _Refused as refused:
            if str(refused) == "ABORTED":
                return None
            raise StoreNotWritable(f"{self._where} could not be written: NOT_FOUND. Has it been deleted?") from None
        return _number(answer.name)

    def readable(self, most: int) -> list[int]:
        """Return the numbers of the newest ``most`` versions that are neither disabled nor destroyed."""
        request = {"parent": self._name, "filter": "state:ENABLED", "page_size": most}
        pages = self._call("listed", "list_secret_versions", request).pages
        return [_number(version.name) for version in next(iter(pages)).versions]

    def destroy(self, number: int) -> None:
        """Destroy a version: it costs nothing any more, and nobody can read it."""
        with contextlib.suppress(_Refused):  # somebody else has destroyed it
            request = {"name": self._at(str(number))}
            self._call("tidied", "destroy_secret_version", request, repeat=False, expected=("FAILED_PRECONDITION",))

    def _at(self, version: str) -> str:
        return f"{self._name}/versions/{version}"

    def _access(self, version: str) -> Version | None:
        import google_crc32c

        request = {"name": self._at(version)}
        try:
            answer = self._call("read", "access_secret_version", request, expected=("FAILED_PRECONDITION", "NOT_FOUND"))
        except _Refused as refused:
            if str(refused) == "NOT_FOUND":
                return None
            if version == "latest":  # what is known of a version can be had when the version itself cannot
                version = self._call("read", "get_secret_version", request).name
            return Version(_number(version), None)
        data = bytes(answer.payload.data)
        if "data_crc32c" in answer.payload and answer.payload.data_crc32c != google_crc32c.value(data):
            raise StoreUnavailable(f"{self._where} could not be read: what came does not have the checksum it should.")
        return Version(_number(answer.name), data)

    def _call(
        self, what: str, method: str, request: dict[str, Any], *, repeat: bool = True, expected: tuple[str, ...] = ()
    ) -> Any:
        """Send one request.

        :param what: what could not be done, for the error.
        :param method: of Google's client.
        :param repeat: send it again when that may help, because it changes nothing.
        :param expected: the statuses that the caller knows what to do with.
        """
        from google.api_core.exceptions import GoogleAPIError, RetryError
        from google.api_core.retry import Retry
        from google.auth.exceptions import GoogleAuthError, TransportError
        from requests.exceptions import RequestException

        said = f"{self._where} could not be {what}"
        again = Retry(initial=0.2, maximum=2.0, timeout=_PATIENCE) if repeat else None
        try:
            if self._client is None:
                self._client = _new_client(self._endpoint, self._identity and _log_in(self._identity))
            return getattr(self._client, method)(request, timeout=_TIMEOUT, retry=again)
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            # The message may quote what was sent.
            cause = error.cause if isinstance(error, RetryError) else error
            kind = type(cause).__name__
            if isinstance(cause, TransportError | RequestException):
                raise StoreUnavailable(f"{said}: no answer of {self._endpoint or 'Google'} ({kind}).") from None
            if isinstance(cause, GoogleAuthError):
                raise StoreUnavailable(f"{said}: Google knows no identity of this worker ({kind}).") from None
            status = _status_of(cause)
            if status in expected:
                raise _Refused(status) from None
            hint = f"; {_HINTS[status]}" if status in _HINTS else ""
            raise StoreUnavailable(f"{said}: {status or kind}{hint}.") from None


class _Refused(Exception):
    """Google has answered with an error; as text, it is the name of its status (google.rpc.Code)."""


def _status_of(error: Any) -> str:
    """Return the status in Google's answer, "" where it has none. Its class tells only the HTTP status."""
    try:
        status = error.response.json()["error"]["status"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    return status if isinstance(status, str) else ""


def _number(name: str) -> int:
    return int(name.rpartition("/")[2])


def _endpoint_of(name: str) -> str | None:
    """Return the host for a secret: a regional one is known to its region only. None for Google's default."""
    parts = name.split("/")
    return f"secretmanager.{parts[3]}.rep.googleapis.com" if parts[2] == "locations" else None


def _log_in(identity: CloudIdentity) -> Any:
    """Return the credentials of an Airflow connection."""
    return identity.log_in(
        "google",
        "airflow.providers.google.common.hooks.base_google",
        lambda hooks, named: hooks.GoogleBaseHook(gcp_conn_id=named).get_credentials(),
    )


def _new_client(endpoint: str | None, credentials: Any = None) -> Any:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

    # Not gRPC: Airflow forks its tasks, and gRPC does not always live through a fork.
    options = {"api_endpoint": endpoint} if endpoint else None
    client = SecretManagerServiceClient(credentials=credentials, transport="rest", client_options=options)
    for name in _TALKATIVE:  # after the library has set them up as its own environment variable says
        logging.getLogger(name).setLevel(logging.INFO)
    return client


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
                document = parse_object(version.data)
                if document is None:
                    raise StoreNotWritable(
                        f"Version {number} of {self.where} is not a JSON object. Add one that is, if only {{}}."
                    )
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
            older = self._secret.version(number)
            if older is None:
                # Whatever it is that has got that number, it may yet turn up, and count.
                raise StoreUnavailable(f"{self.where} has no version {number}, but later ones.")
            version = older
        # We destroy what comes before a version that counts. If that one is among these, what is gone did not count.
        if gone and self._secret.version(newest.number + 1) is not None:
            return None
        return heads[counts]

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
                document = parse_object(version.data) if version else None
                if document and _stamp_of(document):
                    self._secret.destroy(number)
        except StoreUnavailable as failure:
            log.warning("Connection %r: the record is written, but older versions stay: %s", self._conn_id, failure)


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
