"""Regular expressions that a connection brings along, searched for in time linear in the text.

Python's own engine backtracks: 27 bytes of a response keep ``^(a+)+$`` busy for seconds, and with it the process.
Plain text, ``^``, ``$``, ``|`` and a leading ``(?i)`` are matched here. For everything else there is RE2, an extra of
this package.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

#: Characters of an expression that are taken.
MAX_PATTERN = 1000

_LITERAL = re.compile(r"(?:[^.*+?()\[\]{}\\^$|]|\\[^A-Za-z0-9])*+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_IGNORE_CASE = "(?i)"

#: Returns what matches in a text; None where nothing does.
Search = Callable[[str], str | None]


class BadPatternError(ValueError):
    """No expression that can be searched for; the message says why."""


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> Search:
    """Return what searches for ``pattern``.

    :param pattern: plain text and ``^``, ``$``, ``|``, ``(?i)``; or any expression of RE2, which knows neither
        look-around nor references back.
    :raises BadPatternError: when it is none, or needs RE2, which is not installed.
    """
    if len(pattern) > MAX_PATTERN:
        raise BadPatternError(f"has to be a regular expression of at most {MAX_PATTERN} characters")
    ignores_case = pattern.startswith(_IGNORE_CASE)
    parts = re.split(r"(?<!\\)\|", pattern.removeprefix(_IGNORE_CASE))
    literals = [literal for part in parts if (literal := _read_literal(part, ignores_case)) is not None]
    if len(literals) == len(parts):
        return lambda text: next((found for one in literals if (found := one.search(text)) is not None), None)
    expression = _compile_re2(pattern)

    def search(text: str) -> str | None:
        found = expression.search(text)
        return None if found is None else str(found[0])

    return search


@dataclass(frozen=True, slots=True)
class _Literal:
    text: str
    at_start: bool
    at_end: bool
    ignores_case: bool

    def search(self, text: str) -> str | None:
        searched, wanted = (text.casefold(), self.text.casefold()) if self.ignores_case else (text, self.text)
        # As with Python's own engine, a line end at the very end does not count.
        ends = (searched, searched.removesuffix("\n"))
        if self.at_start and self.at_end:
            is_there = wanted in ends
        elif self.at_start:
            is_there = searched.startswith(wanted)
        elif self.at_end:
            is_there = any(end.endswith(wanted) for end in ends)
        else:
            is_there = wanted in searched
        return self.text if is_there else None


def _read_literal(part: str, ignores_case: bool) -> _Literal | None:
    at_start = part.startswith("^")
    part = part.removeprefix("^")
    at_end = part.endswith("$") and not part.endswith("\\$")
    part = part.removesuffix("$") if at_end else part
    if not _LITERAL.fullmatch(part):
        return None
    return _Literal(_ESCAPE.sub(r"\1", part), at_start, at_end, ignores_case)


def _compile_re2(pattern: str) -> Any:
    try:
        import re2
    except ImportError:
        raise BadPatternError(
            "has to be a regular expression of plain text, ^, $ and |; for any other one install "
            "'airflow-oauth-provider[regex]'"
        ) from None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = str(error.args[0] if error.args else error)[:100]
        raise BadPatternError(f"has to be a regular expression, as RE2 knows them ({reason})") from None
