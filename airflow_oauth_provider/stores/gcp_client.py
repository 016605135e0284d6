"""One secret of Google Secret Manager: its numbered versions, with Google's own client library and errors of ours."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.cloud_identity import CloudIdentity

#: Seconds that one request may take; the library's own limit is 60, longer than a lease.
_TIMEOUT = 10
#: Seconds for which a request that changes nothing is tried again.
_PATIENCE = 8
#: Bytes of a version, by Google's limits.
_LARGEST = 64 * 1024

#: By the status in Google's answer (google.rpc.Code).
_ADVICE = {
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
    """Reads, adds and destroys versions.

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

    def _log_in(self) -> Any:
        """Return the credentials to log in with; None for what the library finds itself."""
        if self._identity is None:
            return None
        return self._identity.log_in(
            "google",
            "airflow.providers.google.common.hooks.base_google",
            lambda hooks, named: hooks.GoogleBaseHook(gcp_conn_id=named).get_credentials(),
        )

    def newest(self) -> Version:
        """Return the version that Google takes for the newest one; it may lag behind.

        :raises StoreNotWritable: there is no such secret, or it has no version.
        :raises StoreUnavailable: it could not be read.
        """
        found = self._access("latest")
        if found is None:
            raise StoreNotWritable(
                f"{self._where} could not be read: NOT_FOUND. Create it, with a version, if only {{}}, or check the "
                "key 'gcp_name'."
            )
        return found

    def version(self, number: int) -> Version | None:
        """Return a version, None where there is none of that number. Google promises that this does not lag.

        :raises StoreUnavailable: it could not be read.
        """
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
            answer = self._call(
                "written",
                lambda client, more: client.add_secret_version(parent=self._name, payload=payload, **more),
                repeat=False,
                expected=("ABORTED", "NOT_FOUND"),
            )
        except _Refused as refused:
            if refused.status == "ABORTED":
                return None
            raise StoreNotWritable(f"{self._where} could not be written: NOT_FOUND. Has it been deleted?") from None
        return _number(answer.name)

    def readable(self, most: int) -> list[int]:
        """Return the numbers of the newest ``most`` versions that are neither disabled nor destroyed.

        :raises StoreUnavailable: they could not be had.
        """
        asked = {"parent": self._name, "filter": "state:ENABLED", "page_size": most}
        pages = self._call("listed", lambda client, more: client.list_secret_versions(asked, **more).pages)
        return [_number(version.name) for version in next(iter(pages)).versions]

    def destroy(self, number: int) -> None:
        """Destroy a version: it costs nothing any more, and nobody can read it.

        :raises StoreUnavailable: that failed.
        """
        with contextlib.suppress(_Refused):  # somebody else has destroyed it
            self._call(
                "tidied",
                lambda client, more: client.destroy_secret_version(name=self._at(str(number)), **more),
                repeat=False,
                expected=("FAILED_PRECONDITION",),
            )

    def _at(self, version: str) -> str:
        return f"{self._name}/versions/{version}"

    def _access(self, version: str) -> Version | None:
        import google_crc32c

        name = self._at(version)
        try:
            answer = self._call(
                "read",
                lambda client, more: client.access_secret_version(name=name, **more),
                expected=("FAILED_PRECONDITION", "NOT_FOUND"),
            )
        except _Refused as refused:
            if refused.status == "NOT_FOUND":
                return None
            if version == "latest":  # what is known of a version can be had when the version itself cannot
                version = self._call("read", lambda client, more: client.get_secret_version(name=name, **more)).name
            return Version(_number(version), None)
        data = bytes(answer.payload.data)
        if "data_crc32c" in answer.payload and answer.payload.data_crc32c != google_crc32c.value(data):
            raise StoreUnavailable(f"{self._where} could not be read: what came does not have the checksum it should.")
        return Version(_number(answer.name), data)

    def _call(
        self,
        what: str,
        operation: Callable[[Any, dict[str, Any]], Any],
        *,
        repeat: bool = True,
        expected: tuple[str, ...] = (),
    ) -> Any:
        """Send one request.

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
                self._client = _new_client(self._endpoint, self._log_in())
            return operation(self._client, {"timeout": _TIMEOUT, "retry": again})
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
            advice = f"; {_ADVICE[status]}" if status in _ADVICE else ""
            raise StoreUnavailable(f"{said}: {status or kind}{advice}.") from None


class _Refused(Exception):
    """Google has answered with an error.

    :param status: its name (google.rpc.Code).
    """

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


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


def _new_client(endpoint: str | None, credentials: Any = None) -> Any:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

    # Not gRPC: Airflow forks its tasks, and gRPC does not always live through a fork.
    options = {"api_endpoint": endpoint} if endpoint else None
    client = SecretManagerServiceClient(credentials=credentials, transport="rest", client_options=options)
    for name in _TALKATIVE:  # after the library has set them up as its own environment variable says
        logging.getLogger(name).setLevel(logging.INFO)
    return client
