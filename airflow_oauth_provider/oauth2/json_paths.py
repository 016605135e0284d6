"""JSONPath (RFC 9535), as far as configuration needs it.

Plain paths, which are all that presets and nearly all that people use, are followed here; whatever is beyond them
(wildcards, filters) goes to ``jsonpath-ng``, an extra of this package, whose import takes longer than a token request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

_STEP = re.compile(r"\.([^\W\d][\w-]*)|\[(\d+)\]|\['([^'\\]*)'\]|\[\"([^\"\\]*)\"\]")


class BadPathError(ValueError):
    """No JSONPath; the message says why."""


def check(path: str) -> None:
    """Raise :class:`BadPathError` unless ``path`` is a JSONPath."""
    if plain_steps(path) is None:
        _compiled(path)


def find(path: str, document: Any) -> Any:
    """Return the first value at ``path`` in ``document``; None where there is none, or a null.

    :raises BadPathError: when ``path`` is no JSONPath.
    """
    steps = plain_steps(path)
    if steps is None:
        found = _compiled(path).find(document)
        return found[0].value if found else None
    return follow(document, steps)


def follow(document: Any, steps: Iterable[str | int]) -> Any:
    """Return what stands at the end of ``steps`` in ``document``; None where nothing does."""
    for step in steps:
        if isinstance(document, dict) and isinstance(step, str):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int):
            document = document[step] if step < len(document) else None
        else:
            return None
    return document


@cache
def plain_steps(path: str) -> tuple[str | int, ...] | None:
    """Return the names and indices of a plain path; None for one that is not plain."""
    if not path.startswith("$"):
        return None
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            return None
        name, index, single, double = match.groups()
        steps.append(int(index) if index is not None else next(x for x in (name, single, double) if x is not None))
        position = match.end()
    return tuple(steps)


@cache
def _compiled(path: str) -> Any:
    if not path.startswith("$"):
        raise BadPathError("is no JSONPath: it does not begin with $")
    try:
        from jsonpath_ng.ext.parser import parse
    except ImportError:
        raise BadPathError(
            "is no plain path such as $.data.items[0].value; for wildcards and filters install "
            "'airflow-oauth-provider[jsonpath]'"
        ) from None
    try:
        return parse(path)
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception, and errors of its lexer
        raise BadPathError(f"is no JSONPath: {str(error)[:100]}") from None
