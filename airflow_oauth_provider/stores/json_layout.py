"""Where tokens stand in a JSON document that other programs read too: paths that name exactly one place each.

The paths are the part of JSONPath (RFC 9535) that is a *singular query*: ``$.tokens.refresh``,
``$['client id']``, ``$.accounts[0].key``. Only such a path says where to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_STEP = re.compile(r"""\.(?P<name>[\w-]+)|\[(?P<index>\d+)\]|\['(?P<single>[^']*)'\]|\["(?P<double>[^"]*)"\]""")

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

#: Numbers beyond this one are dates in milliseconds: as seconds they would be in the year 5138.
_MILLISECONDS_FROM = 1e11


class BadPath(ValueError):
    """A path names no place, or one that cannot be there."""


def parse_path(path: str) -> tuple[str | int, ...]:
    """Return the steps of a path.

    :param path: such as ``$.tokens[0].value``.
    :raises BadPath: it is no path to exactly one place.
    """
    if not path.startswith("$"):
        raise BadPath(f"{path!r} does not begin with $")
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise BadPath(f"{path!r} does not name exactly one place, as $.tokens.refresh or $.accounts[0] do")
        name = next((found[group] for group in ("name", "single", "double") if found[group] is not None), None)
        steps.append(int(found["index"]) if name is None else name)
        at = found.end()
    if not steps:
        raise BadPath(f"{path!r} names the whole document")
    return tuple(steps)


def get_at(document: Any, steps: Iterable[str | int]) -> Any:
    """Return what stands at the end of ``steps``, None where nothing does."""
    for step in steps:
        if isinstance(document, dict) and isinstance(step, str):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return None
    return document


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


def parse_expiry(value: Any) -> float | None:
    """Return a date in seconds since the epoch: from seconds, milliseconds or ISO 8601; None where it is none."""
    if isinstance(value, str):
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds / 1000 if seconds > _MILLISECONDS_FROM else seconds


def format_expiry(seconds: float, like: Any) -> Any:
    """Return a date in the form in which ``like`` gives one, so that whoever reads the document still can."""
    if isinstance(like, str):
        try:
            number = float(like)
        except ValueError:
            return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
        return str(int(seconds * 1000 if number > _MILLISECONDS_FROM else seconds))
    if isinstance(like, int | float) and like > _MILLISECONDS_FROM:
        return int(seconds * 1000)
    return int(seconds)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand in a document.

    :param places: path by name, of :data:`NAMES`.
    """

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
        """Return what ``document`` has for ``name``, None where it has nothing."""
        return get_at(document, self.places[name]) if name in self.places else None

    def text(self, document: Any, name: str) -> str | None:
        """Return the text that ``document`` has for ``name``, None where it has none.

        Without the line's end that tools leave behind a value that comes from a file.
        """
        value = self.get(document, name)
        return (value.strip() or None) if isinstance(value, str) else None

    def set(self, document: Any, name: str, value: Any) -> None:
        """Put ``value`` where ``name`` belongs, if it belongs anywhere."""
        if name in self.places:
            set_at(document, self.places[name], value)
