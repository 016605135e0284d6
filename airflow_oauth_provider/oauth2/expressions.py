"""What a connection says to look for in answers: JSONPath (RFC 9535) and regular expressions.

Plain ones, which are all that presets and nearly all that people use, are followed here. What is beyond them goes to a
library that is an extra of this package:

* Paths with filters, slices or descendants to ``jsonpath-ng``, whose import takes longer than a token request.
* Expressions of more than plain text, ``^``, ``$``, ``|`` and a leading ``(?i)`` to RE2, which takes time linear in the
  text. Python's own engine backtracks: 27 bytes of a response keep ``^(a+)+$``, and the process, busy for seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, cast

_STEP = re.compile(
    r"\.([^\W\d][\w-]*)|\[(?P<index>-?\d+)\]|\['([^'\\]*)'\]|\[\"([^\"\\]*)\"\]|(?P<all>\.\*|\[\*\])",
)


class Wildcard(Enum):
    """The step that takes all members of a list or an object."""

    ALL = "*"


#: A name, an index, or all members.
Step = str | int | Wildcard


# Quoted names and filters, in which anything may stand.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\?\([^()]*\)|\?[^\]]*")
# What jsonpath-ng reads in a way of its own, so that it leads to nothing: "$.@odata.nextLink", "$.items[name]".
_MISREAD = re.compile(r"[.\[]\s*(@[\w.-]*)|\[\s*([A-Za-z_][\w-]*)\s*\]")

# What jsonpath-ng hands to Python's own regular expressions.
_EXPRESSION = re.compile(r"=~|`\s{0,9}(?:sub|split)\s{0,9}\(")


class BadPathError(ValueError):
    """No JSONPath; the message says why."""


def check_path(path: str) -> None:
    """Raise :class:`BadPathError` unless ``path`` is a JSONPath."""
    if parse_steps(path) is None:
        _compile(path)


def is_path(path: str) -> bool:
    """Tell whether ``path`` is a JSONPath."""
    try:
        check_path(path)
    except BadPathError:
        return False
    return True


def find(path: str, document: Any) -> Any:
    """Return the first value at ``path`` in ``document``; None where there is none, or a null.

    :raises BadPathError: when ``path`` is no JSONPath.
    """
    found = find_all(path, document)
    return found[0] if found else None


def find_all(path: str, document: Any) -> list[Any]:
    """Return all values at ``path`` in ``document``, in the order in which they stand there.

    :raises BadPathError: when ``path`` is no JSONPath.
    """
    steps = parse_steps(path)
    if steps is None:
        return [match.value for match in _compile(path).find(document)]
    values = [document]
    for step in steps:
        values = [member for value in values for member in _members(value, step)]
    return values


def follow(document: Any, steps: Iterable[str | int]) -> Any:
    """Return what is at the end of ``steps`` in ``document``; None where nothing is."""
    for step in steps:
        document = next(iter(_members(document, step)), None)
    return document


def _members(value: Any, step: Step) -> list[Any]:
    if isinstance(value, dict):
        if step is Wildcard.ALL:
            return list(value.values())
        return [value[step]] if isinstance(step, str) and step in value else []
    if isinstance(value, list):
        if step is Wildcard.ALL:
            return value
        return [value[step]] if isinstance(step, int) and -len(value) <= step < len(value) else []
    return []


def plain_steps(path: str) -> tuple[str | int, ...] | None:
    """Return the names and indices of a path to one place; None for another path."""
    steps = parse_steps(path)
    return None if steps is None or Wildcard.ALL in steps else cast("tuple[str | int, ...]", steps)


@lru_cache(maxsize=256)
def parse_steps(path: str) -> tuple[Step, ...] | None:
    """Return the steps of a plain path; None for one that is not plain."""
    if not path.startswith("$"):
        return None
    steps: list[Step] = []
    position = 1
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or match.lastindex is None:
            return None
        text = match[match.lastindex]
        step = int(text) if match.lastgroup == "index" else text
        steps.append(Wildcard.ALL if match.lastgroup == "all" else step)
        position = match.end()
    return tuple(steps)


@lru_cache(maxsize=256)
def _compile(path: str) -> Any:
    if not path.startswith("$"):
        raise BadPathError("is no JSONPath: it does not begin with $")
    if misread := _MISREAD.search(_QUOTED.sub("", path)):
        name = misread[1] or misread[2]
        raise BadPathError(f"is no JSONPath: a name such as {name} is written ['{name}']")
    try:
        from jsonpath_ng.ext.parser import parse
    except ImportError:
        raise BadPathError(
            "is no plain path such as $.data.items[0].value; for filters and slices install "
            "'airflow-oauth-provider[jsonpath]'"
        ) from None
    if _EXPRESSION.search(path):
        raise BadPathError("has a regular expression in it, which can hold up a process for hours: filter by ==")
    try:
        return parse(path)
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception, and errors of its lexer
        raise BadPathError(f"is no JSONPath: {str(error)[:100]}") from None


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
