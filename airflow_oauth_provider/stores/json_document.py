"""A JSON document that other programs share: tokens in places of their own, and the record beside them.

Places are named by the part of JSONPath (RFC 9535) that is a *singular query*: ``$.tokens.refresh``,
``$['client id']``, ``$.accounts[0].key``. Only such a path says where to write.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable
from airflow_oauth_provider.oauth2.expressions import follow, plain_steps
from airflow_oauth_provider.oauth2.times import MILLISECONDS_FROM, parse_time
from airflow_oauth_provider.stores.allowed_places import MEMBER, read_named
from airflow_oauth_provider.stores.backend import Fetched
from airflow_oauth_provider.tokens.record import Record, fingerprint

#: What a place can be for. ``record`` is where this package keeps the whole of what it knows.
NAMES = (
    "client_id",
    "client_secret",
    "private_key",
    "dpop_private_key",
    "refresh_token",
    "access_token",
    "expires_at",
    "record",
)


class BadPath(ValueError):
    """A path names no place, or one that cannot be there."""


def parse_path(path: str) -> tuple[str | int, ...]:
    """Return the steps of a path such as ``$.tokens[0].value``.

    :raises BadPath: it is no path to exactly one place.
    """
    if not path.startswith("$"):
        raise BadPath(f"{path!r} does not begin with $")
    steps = plain_steps(path)
    if steps is None:
        raise BadPath(f"{path!r} does not name exactly one place, as $.tokens.refresh or $.accounts[0] do")
    if not steps:
        raise BadPath(f"{path!r} names the whole document")
    return steps


def set_at(document: Any, steps: tuple[str | int, ...], value: Any) -> None:
    """Put ``value`` at the end of ``steps``; objects on the way there are made, items of arrays are not.

    :raises BadPath: the document has something else on the way.
    """
    for step, following in zip(steps, (*steps[1:], None), strict=True):
        if isinstance(document, dict) and isinstance(step, str):
            if following is None:
                document[step] = value
            elif isinstance(following, str) and document.get(step) is None:
                document[step] = {}
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            if following is None:
                document[step] = value
            document = document[step]
        else:
            raise BadPath(f"there is no place for the step {step!r} of a path")


def to_text(value: Any) -> str | None:
    """Return the text of a record that stands somewhere as text, or as the object that the text spells; None: none."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def format_expiry(seconds: float, like: Any) -> Any:
    """Return a date in the form in which ``like`` gives one, so that whoever reads the document still can."""
    if isinstance(like, str):
        try:
            number = float(like)
        except ValueError:
            return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
        return str(int(seconds * 1000 if number >= MILLISECONDS_FROM else seconds))
    if isinstance(like, int | float) and like >= MILLISECONDS_FROM:
        return int(seconds * 1000)
    return int(seconds)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand in a document: paths by name, of :data:`NAMES`."""

    places: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, paths: Mapping[str, str]) -> Layout:
        """Read paths by name; what they do not name stands at the top level under its own name.

        :param paths: such as ``$.tokens.refresh`` for ``refresh_token``. An empty path: it is nowhere.
        :raises BadPath: a name or a path is wrong.
        """
        places: dict[str, tuple[str | int, ...]] = {name: (name,) for name in NAMES}
        places["record"] = ("token_record",)
        for name, path in paths.items():
            if name not in NAMES:
                raise BadPath(f"{name!r} is none of {', '.join(NAMES)}")
            if path:
                places[name] = parse_path(path)
            elif name == "record":
                raise BadPath("'record' needs a place")
            else:
                del places[name]
        return cls(places)

    def get(self, document: Any, name: str) -> Any:
        """Return what ``document`` has for ``name``; None: nothing."""
        return follow(document, self.places[name]) if name in self.places else None

    def text(self, document: Any, name: str) -> str | None:
        """Return the text that ``document`` has for ``name``, without the line's end that tools leave; None: none."""
        value = self.get(document, name)
        return (value.strip() or None) if isinstance(value, str) else None

    def set(self, document: Any, name: str, value: Any) -> None:
        """Put ``value`` where ``name`` belongs, if it belongs anywhere."""
        if name in self.places:
            set_at(document, self.places[name], value)


@dataclass(frozen=True, slots=True)
class PlainTokens:
    """Tokens that stand beside the record, where people enter them and other programs read them.

    So a rotation writes both, and a refresh token that a person enters there is found.

    :param expires_at: seconds since the epoch at which the access token ends; None: not said.
    """

    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None

    def first_record(self) -> Record | None:
        """Return what counts as the record while nobody has written one: the tokens as entered, if any."""
        if not self.refresh_token and not self.access_token:
            return None
        return Record(
            entered_fingerprint=fingerprint(self.refresh_token),
            refresh_token=self.refresh_token,
            access_token=self.access_token,
            expires_in=self.expires_at,  # counted from issued_at, which is 0: the epoch
        )

    def is_replaced_by(self, new: Record, *ours: str | None) -> bool:
        """Tell whether the refresh token is one that the record ``new``, about to be written, replaces.

        One that a person has entered meanwhile stays: the next refresh begins with it.

        :param ours: fingerprints of refresh tokens that this package has written there.
        """
        if not self.refresh_token:
            return True
        marks = (*ours, new.entered_fingerprint, *new.superseded, fingerprint(new.refresh_token))
        return fingerprint(self.refresh_token) in marks


@dataclass(frozen=True, slots=True)
class JsonDocument:
    """Reads and changes such documents; ``where`` is what one is called in errors."""

    layout: Layout
    where: str

    @property
    def record_where(self) -> str:
        """What the record's own place is called in errors."""
        return f"the member {'.'.join(map(str, self.layout.places['record']))!r} of {self.where}"

    def record_text(self, document: dict[str, Any]) -> str | None:
        """Return the text of the record in ``document``, None where it has none."""
        return to_text(self.layout.get(document, "record"))

    def to_fetched(self, document: dict[str, Any], token: Any = None) -> Fetched:
        """Return what a store learns from ``document``, as read or written just now.

        :param token: what the backend needs to replace exactly this document.
        """
        text, plain = self.record_text(document), self._plain(document)
        kept: dict[str, Any] = {name: self.layout.text(document, name) for name in ("client_id", "client_secret")}
        kept |= {name: self.layout.get(document, name) for name in ("private_key", "dpop_private_key")}
        if text is not None and _refresh_token_in(text) != plain.refresh_token:
            kept["refresh_token"] = plain.refresh_token  # a person has entered it since
        kept = {name: value for name, value in kept.items() if value}
        return Fetched(text, token, kept, plain.first_record(), read_named(document.get(MEMBER)))

    def with_record(self, document: dict[str, Any], text: str) -> dict[str, Any]:
        """Return a copy of ``document`` with the record ``text``, and its tokens where other programs look for them.

        :raises StoreNotWritable: the document has no place for one of them. With the lease already: a later look would
            be one after the refresh token was spent.
        """
        document, new, plain = copy.deepcopy(document), Record.from_json(text), self._plain(document)
        old = _refresh_token_in(self.record_text(document) or "")
        try:
            trial = copy.deepcopy(document)  # all that this record, or what follows it, brings
            for name in ("access_token", "expires_at", *(["refresh_token"] if new.refresh_token else [])):
                self.layout.set(trial, name, "")
            # As an object, which people can read; from text, so that what is read again is what was written.
            self.layout.set(document, "record", json.loads(text))
            if new.refresh_token and plain.is_replaced_by(new, fingerprint(old)):
                self.layout.set(document, "refresh_token", new.refresh_token)
            if new.access_token:
                self.layout.set(document, "access_token", new.access_token)
                if new.expires_at is not None:
                    like = self.layout.get(document, "expires_at")
                    self.layout.set(document, "expires_at", format_expiry(new.expires_at, like))
        except BadPath as error:
            raise StoreNotWritable(f"{self.where} does not fit file_map: {error}.") from None
        return document

    def _plain(self, document: dict[str, Any]) -> PlainTokens:
        return PlainTokens(
            self.layout.text(document, "refresh_token"),
            self.layout.text(document, "access_token"),
            parse_time(self.layout.get(document, "expires_at")),
        )


def read_layout(conn_id: str, paths: Mapping[str, str]) -> Layout:
    """Return the layout that a connection's ``file_map`` describes; ConfigurationError where it is wrong."""
    try:
        return Layout.parse(paths)
    except BadPath as error:
        raise ConfigurationError(f"the key 'file_map' of its extra is wrong: {error}.", conn_id=conn_id) from None


def _refresh_token_in(text: str) -> str | None:
    """Return the refresh token of the record in ``text``; None where it has none, or is none."""
    try:
        return Record.from_json(text).refresh_token
    except ValueError:
        return None
