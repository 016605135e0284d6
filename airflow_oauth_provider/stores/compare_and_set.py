"""Writing a record into a document of which the store can replace exactly the version that was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from airflow_oauth_provider.compat.database import version_of
from airflow_oauth_provider.exceptions import StaleVersion, StoreUnavailable
from airflow_oauth_provider.stores.json_document import TokenDocument
from airflow_oauth_provider.stores.parsing import mask_record
from airflow_oauth_provider.tokens.record import Record

#: How often a write is tried anew when somebody changes other members of the document between its read and write.
_ATTEMPTS = 10


class Found(Protocol):
    """A document as read, with whatever the store has to know to replace exactly it."""

    @property
    def document(self) -> dict[str, Any]:
        """What was in it."""


F = TypeVar("F", bound=Found)


def swap(
    record: Record,
    *,
    if_version: str | None,
    of: TokenDocument,
    known: F | None,
    fetch: Callable[[], F],
    replace: Callable[[F, Record], bool],
) -> str:
    """Write ``record``; see :meth:`TokenStore.write`.

    :param if_version: the version of the record that may be replaced.
    :param of: knows the record's place in the document.
    :param known: what was read last; None: it has to be read.
    :param fetch: reads it.
    :param replace: puts the record into what was read; returns False, and changes nothing, where that is not what the
        store has by now.
    :return: the version of what was written.
    """
    mask_record(record)
    new_version = version_of(record.to_json())
    assert new_version is not None  # noqa: S101 - a text always has a version
    for _ in range(_ATTEMPTS):
        if known is None or of.record_in(known.document).version != if_version:
            known = fetch()
        version = of.record_in(known.document).version
        if version == new_version:
            return new_version  # our own write, whose answer was lost
        if version != if_version:
            raise StaleVersion(f"The record in {of.where} was changed by another worker.")
        if replace(known, record):
            return new_version
        known = None  # somebody wrote in between: the record, or only what stands beside it
    raise StoreUnavailable(f"{of.where} is being changed all the time; the record was not written.")
