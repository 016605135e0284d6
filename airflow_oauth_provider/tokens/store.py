"""What every token store does: read a record, and replace exactly the version that was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_oauth_provider.tokens.record import Record


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record and the version it was read at.

    :param record: the record; None where none has been written yet.
    :param version: opaque, good for ``if_version`` of the next write; None where there is no record.
    :param kept: what people keep in the same place beside the record: ``client_id``, ``client_secret``, keys, and a
        ``refresh_token`` that a person has entered. None: this kind of store keeps nothing else.
    :param where: what to call that place in a sentence, such as ``the file '/opt/airflow/xero.json'``.
    :param settle_time: seconds for which a new lease has to stay in the place before it counts. 0: the place can
        compare and set, so a lease counts at once.
    """

    record: Record | None
    version: str | None
    kept: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    where: str = field(default="", compare=False)
    settle_time: float = field(default=0.0, compare=False)


class TokenStore(Protocol):
    """Where the tokens of one connection live.

    An implementation is for one connection. Its methods may be called from any thread, one at a time.
    """

    #: The value of the connection's ``store`` that chooses this implementation.
    name: str

    @property
    def sealed_with(self) -> tuple[str, ...]:
        """Names of the secrets that open what was last read or written, each by itself; none where it is in clear."""

    def read(self) -> StoredRecord:
        """Return the newest record.

        :raises StoreUnavailable: when it cannot be told whether there is one. "There is none" must be certain:
            taking a failed read for an empty store would spend a refresh token that is long rotated.
        :raises StoreNotWritable: when the place does not exist or cannot be the home of tokens at all.
        """

    def write(self, record: Record, *, if_version: str | None) -> str:
        """Replace the record that was read as ``if_version`` (None: there was none), or change nothing.

        :param record: what to keep.
        :param if_version: the version that may be replaced.
        :return: the version of what was written.
        :raises StaleVersion: the store holds another version; nothing was changed.
        :raises StoreUnavailable: the store did not take the record, or its answer was lost and it may have.
        :raises StoreNotWritable: this connection's record can never be written here.
        """


class FallbackStore(Protocol):
    """Where tokens go when their store stays away after the refresh token was spent.

    What is kept is ciphertext already; see :mod:`airflow_oauth_provider.stores.fallback`.
    """

    def save(self, key: str, ciphertext: str) -> None:
        """Keep ``ciphertext`` under ``key``; raise StoreUnavailable when that failed."""

    def load(self, key: str) -> str | None:
        """Return what is kept under ``key``, or None; raise StoreUnavailable when that cannot be told."""

    def remove(self, key: str) -> None:
        """Forget ``key``; it may be gone already. Raise StoreUnavailable when that failed."""
