"""A JSON document with tokens in places of their own, and the record beside them; see :mod:`.shared_places`."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable
from airflow_oauth_provider.stores.json_layout import BadPath, Layout, format_expiry, parse_expiry
from airflow_oauth_provider.stores.json_places import Plain, entered, first_record, may_replace
from airflow_oauth_provider.stores.parsing import stored
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.store import StoredRecord


@dataclass(frozen=True, slots=True)
class TokenDocument:
    """Reads and changes such documents.

    :param layout: where things stand.
    :param where: what the document is called in errors.
    """

    layout: Layout
    where: str

    def record_in(self, document: dict[str, Any]) -> StoredRecord:
        """Return the record in ``document``, and its version."""
        value = self.layout.get(document, "record")
        text = None if value in (None, "") else value if isinstance(value, str) else _compact(value)
        place = ".".join(map(str, self.layout.places["record"]))
        return stored(text, f"The member {place!r} of {self.where}")

    def read(self, document: dict[str, Any]) -> StoredRecord:
        """Return the record in ``document``; where it has none, one that is made of the tokens as entered."""
        found = self.record_in(document)
        return found if found.record is not None else StoredRecord(first_record(self._plain(document)), None)

    def secrets(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return what stands beside the record: the client's id, secret and keys, and a refresh token as entered."""
        kept: dict[str, Any] = {name: self.layout.text(document, name) for name in ("client_id", "client_secret")}
        kept |= {name: self.layout.get(document, name) for name in ("private_key", "dpop_private_key")}
        record = self.record_in(document).record
        if record is not None:
            kept["refresh_token"] = entered(self._plain(document), record)
        return {name: value for name, value in kept.items() if value}

    def update(self, document: dict[str, Any], new: Record) -> None:
        """Put ``new`` into ``document``, and its tokens where other programs look for them.

        :raises StoreNotWritable: the document has no place for one of them. With the lease already: a later look would
            be one after the refresh token was spent.
        """
        replaces = may_replace(self._plain(document), self.record_in(document).record, new)
        try:
            self._check_room(document, new)
            # As an object, which people can read; from text, so that what is read again is what was written.
            self.layout.set(document, "record", json.loads(new.to_json()))
            if replaces:
                self.layout.set(document, "refresh_token", new.refresh_token)
            if new.access_token:
                self.layout.set(document, "access_token", new.access_token)
                if new.expires_at is not None:
                    like = self.layout.get(document, "expires_at")
                    self.layout.set(document, "expires_at", format_expiry(new.expires_at, like))
        except BadPath as error:
            raise StoreNotWritable(f"{self.where} does not fit file_map: {error}.") from None

    def _check_room(self, document: dict[str, Any], new: Record) -> None:
        """Raise BadPath where a token could not be written that ``new``, or what follows it, brings."""
        trial = copy.deepcopy(document)
        for name in ("access_token", "expires_at", *(["refresh_token"] if new.refresh_token else [])):
            self.layout.set(trial, name, "")

    def _plain(self, document: dict[str, Any]) -> Plain:
        return Plain(
            self.layout.text(document, "refresh_token"),
            self.layout.text(document, "access_token"),
            parse_expiry(self.layout.get(document, "expires_at")),
        )


def read_layout(conn_id: str, paths: dict[str, str] | None) -> Layout:
    """Return the layout that a connection's ``file_map`` describes.

    :raises ConfigurationError: it is wrong.
    """
    try:
        return Layout.parse(paths or {})
    except BadPath as error:
        raise ConfigurationError(
            f"Connection {conn_id!r}: the key 'file_map' of its extra is wrong: {error}."
        ) from None


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
