"""Where in a page something stands: a JSONPath (RFC 9535), or names with dots between them.

A path that cannot be followed is an error and not "nothing": a task that is green with records missing is worse than
one that is red. What holds nothing at all (``null``, an empty object, an empty list) has no records to lose. A path
that ends in ``?`` may be missing, for APIs that leave a member out when it is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from airflow_oauth_provider.oauth2 import expressions
from airflow_oauth_provider.oauth2.expressions import Step, Wildcard

#: The end of a JSONPath that names one member; another end (wildcard, filter, slice) selects members.
_NAMES_ONE = re.compile(r"(?:\.[^\W\d][\w-]*|\[-?\d+\]|\['[^'\\]*'\]|\[\"[^\"\\]*\"\])$")


class PathError(ValueError):
    """The path does not fit the document; the message says where and what is there instead, without data."""


class _AbsentError(PathError):
    """A member is missing; ``empty`` tells whether that in which it is missing holds nothing at all."""

    def __init__(self, text: str, *, empty: bool) -> None:
        super().__init__(text)
        self.empty = empty


def check_path(name: str, path: str | None) -> None:
    """Raise ValueError unless ``path``, the value of the argument ``name``, can be followed."""
    if path is None:
        return
    if not path.removesuffix("?"):
        raise ValueError(f"{name} is empty; leave it out, or give a path such as data.items or $.data.items")
    if path.startswith("$"):
        try:
            expressions.check_path(path.removesuffix("?"))
        except expressions.BadPathError as error:
            raise ValueError(f"{name} {path!r} {error}") from None


def look_up(path: str, document: Any) -> Any:
    """Return the one value at ``path`` in ``document``, None where there is none.

    ``$.data.next`` is a JSONPath. ``data.next`` and ``data.0.id`` are names and indices with dots between them; a name
    with a dot of its own (``@odata.nextLink``) needs no quoting.

    :raises PathError: when the path runs into something that has no members of that kind, or matches several values.
    """
    try:
        found = [value for value in _values(path.removesuffix("?"), document) if value is not None]
    except _AbsentError:
        return None
    if any(value != found[0] for value in found):
        raise PathError(f"{len(found)} different values are there, and one is needed")
    return found[0] if found else None


def is_missing(path: str, document: Any) -> bool:
    """Tell whether there is nothing at ``path``, not even a null, although it has no ``?`` at its end."""
    try:
        return not path.endswith("?") and not _values(path, document)
    except _AbsentError:
        return True


def collect(path: str, document: Any) -> list[Any]:
    """Return all records at ``path`` in ``document``.

    A path that ends in a name leads to a list, or to several whose records are put together. One that ends in a
    wildcard, a filter or a slice selects the records themselves.

    :raises PathError: when the path cannot be followed, or there is no list.
    """
    optional, path = path.endswith("?"), path.removesuffix("?")
    try:
        values = _values(path, document)
    except _AbsentError as error:
        if optional or error.empty:
            return []
        if "[" in path and not path.startswith("$"):
            raise PathError(f"{error}. A path with brackets begins with a $: write '$.{path}'") from None
        raise PathError(f"{error}. If the API leaves it out when there are no records, write '{path}?'") from None
    if path.startswith("$") and not _NAMES_ONE.search(path) and path != "$":
        return values
    lists = [value for value in values if isinstance(value, list)]
    others = [value for value in values if value not in ({}, None) and not isinstance(value, list)]
    if not others:
        return [record for value in lists for record in value]
    # Decided by the path, not by how many there are: a page with a single one is no error.
    if path.startswith("$") and expressions.plain_steps(path) is None and not lists:
        return others
    raise PathError(f"it leads to {describe(others[0])}, not to a list")


def describe(value: Any) -> str:
    """Return what ``value`` is, without its data."""
    if isinstance(value, dict):
        return f"an object with {len(value)} member{'' if len(value) == 1 else 's'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None:
        return "null"
    return "a boolean" if isinstance(value, bool) else "a text" if isinstance(value, str) else "a number"


def _values(path: str, document: Any) -> list[Any]:
    """Return what stands at ``path``; a member is missing if it is so everywhere, in a path with wildcards."""
    if not path.startswith("$"):
        return [_follow_names(path.split("."), document)]
    steps = expressions.parse_steps(path)
    if steps is None:
        return _selected(path, document)
    return _all_of(steps, document, "$")


def _all_of(steps: tuple[Step, ...], value: Any, at: str) -> list[Any]:
    for position, step in enumerate(steps):
        if step is Wildcard.ALL:
            return _branches(steps[position + 1 :], value, at)
        value, at = _member(value, step, at), f"{at}{_show(step)}"
    return [value]


def _branches(steps: tuple[Step, ...], value: Any, at: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | dict):
        raise PathError(f"{at} is {describe(value)}, which has no members")
    return _all_below(steps, value if isinstance(value, list) else value.values(), f"{at}[*]")


def _all_below(steps: tuple[Step, ...], members: Iterable[Any], at: str) -> list[Any]:
    found: list[Any] = []
    absent: _AbsentError | None = None
    for member in members:
        try:
            found += _all_of(steps, member, at)
        except _AbsentError as error:
            absent = error
    if absent is not None and not found:
        raise absent
    return found


def _member(value: Any, step: Step, at: str) -> Any:
    if isinstance(value, dict) and isinstance(step, str):
        if step in value:
            return value[step]
    elif isinstance(value, list) and isinstance(step, int):
        if -len(value) <= step < len(value):
            return value[step]
    elif value not in (None, []):  # an empty list may be what PHP makes of an empty object
        hint = f": write {at}[*]{_show(step)} to look into each" if isinstance(value, list) else ""
        raise PathError(f"{at} is {describe(value)}, which has no member {step!r}{hint}")
    raise _absent(value, step, at)


def _absent(value: Any, step: Step, at: str) -> _AbsentError:
    return _AbsentError(f"{at} is {describe(value)}, without {step!r}", empty=value in ({}, []))


def _show(step: Step) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _selected(path: str, document: Any) -> list[Any]:
    """Return the values of a path with filters, slices or descendants, which match nothing where they do not fit."""
    selector, rest = _split_plain_end(path)
    found = expressions.find_all(selector, document)
    if not found:
        plain = list(_beginnings(path))[-1]
        _values(plain, document)  # complains if the path does not even lead there
        if path.removeprefix(plain).startswith("..") and document:
            raise _AbsentError(f"nothing matches {path.removeprefix(plain)!r} below {plain}", empty=False)
    return _all_below(rest, found, selector)


@lru_cache(maxsize=256)
def _split_plain_end(path: str) -> tuple[str, tuple[Step, ...]]:
    """Return ``path`` up to its last filter, slice or descendant, and the steps behind that, which have to fit."""
    for end in range(2, len(path)):
        rest = expressions.parse_steps(f"${path[end:]}") if path[end] in ".[" else None
        if rest is not None and expressions.is_path(path[:end]):
            return path[:end], rest
    return path, ()


def _beginnings(path: str) -> Iterator[str]:
    """Yield the beginnings of ``path`` that are plain, the longest last."""
    for end in range(1, len(path)):
        if expressions.parse_steps(path[:end]) is not None and path[end] in ".[":
            yield path[:end]


def _follow_names(names: list[str], document: Any) -> Any:
    value, done = document, 0
    while done < len(names):
        name, at = names[done], _place(names[:done])
        if isinstance(value, dict):
            # The longest name first: one that has dots of its own.
            candidates = [(".".join(names[done:end]), end) for end in range(len(names), done, -1)]
            member, done = next((found for found in candidates if found[0] in value), (None, done))
            if member is None:
                raise _absent(value, name, at)
            value = value[member]
        elif value in (None, []):  # an empty list may be what PHP makes of an empty object
            raise _absent(value, name, at)
        elif isinstance(value, list):
            value = _at_index(value, names, done)
            done += 1
        else:
            raise PathError(f"{at} is {describe(value)}, which has no member {name!r}")
    return value


def _at_index(value: list[Any], names: list[str], done: int) -> Any:
    name, at = names[done], _place(names[:done])
    try:
        return value[int(name)]
    except IndexError:
        raise _absent(value, name, at) from None
    except ValueError:
        path = "$" + "".join(map(_show, names[:done])) + "[*]" + "".join(map(_show, names[done:]))
        raise PathError(
            f"{at} is {describe(value)}, which has no member {name!r}: write {path} to look into each"
        ) from None


def _place(names: list[str]) -> str:
    return repr(".".join(names)) if names else "the page"
