"""Checks of JSON members: each takes what was parsed and returns it with its type, or raises ValueError.

No message quotes a value: the documents hold secrets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class WrongMember(ValueError):
    """A document or a member is not what it has to be."""


#: Midnight before the last day that ``datetime`` knows, in seconds since the epoch: every time can be shown.
LATEST_TIME = 253402214400.0
#: How deeply lists and objects may be nested.
MAX_DEPTH = 50


def parse(text: str) -> object:
    """Parse a JSON document (RFC 8259); NaN and infinite numbers are no JSON.

    :raises ValueError: it is no JSON, or too deeply nested.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # A JSON error quotes its document.
        raise WrongMember("is not JSON, or too deeply nested") from None


def parse_object(text: str | bytes | None) -> dict[str, Any] | None:
    """Return the JSON object in ``text``; None where that is no JSON, or something else."""
    try:
        value = json.loads(text or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_storable(value: object) -> bool:
    """Tell whether all numbers in ``value`` are finite and nothing is nested too deeply; looks without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            return False
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return True
    return False


def text(longest: int) -> Callable[[object], str]:
    """Check for a string of at most ``longest`` characters."""

    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise WrongMember(f"has to be a string of at most {longest} characters")
        return value

    return check


def number(lowest: float, highest: float) -> Callable[[object], float]:
    """Check for a finite number from ``lowest`` to ``highest``."""

    def check(value: object) -> float:
        # Compared before it is converted: a huge integer has no float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
            raise WrongMember(f"has to be a number from {lowest:g} to {highest:g}")
        return float(value)

    return check


def integer(lowest: int, highest: int) -> Callable[[object], int]:
    """Check for an integer from ``lowest`` to ``highest``."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise WrongMember(f"has to be an integer from {lowest} to {highest}")
        return value

    return check


def boolean(value: object) -> bool:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise WrongMember("has to be true or false")
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """Check for an object that is not nested too deeply and holds finite numbers."""
    if not isinstance(value, dict) or not all(is_storable(member) for member in value.values()):
        raise WrongMember(f"has to be an object that is nested no deeper than {MAX_DEPTH} levels")
    return value


def newest(most: int, check: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """Check for a list and return its last ``most`` items, each checked by ``check``."""

    def check_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise WrongMember("has to be a list")
        return tuple(check(item) for item in value[-most:])

    return check_list


def _refuse_constant(name: str) -> NoReturn:
    raise WrongMember(f"{name} is not JSON")


def _children(value: object) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []
