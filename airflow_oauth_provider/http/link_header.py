"""The header ``Link`` (RFC 8288 section 3, parsed as in its appendix B.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TARGET = re.compile(r"<([^<>]*)>")
_NAME = re.compile(r"[^\s=;,\"<>]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\s;,\"<>]*")
#: A name, or a URI (RFC 8288 section 3.3).
_RELATION = re.compile(r"[a-z0-9._-]+|[a-z][a-z0-9+.-]*:[!-~]*")
_BLANKS = re.compile(r"[ \t]*")


@dataclass(frozen=True, slots=True)
class Link:
    """One link.

    :param target: the URL, perhaps a relative one.
    :param parameters: by name in lower case; of a name that comes twice the first counts. "" where it has no value.
    """

    target: str
    parameters: dict[str, str]

    def has_relation(self, relation: str) -> bool:
        """Tell whether ``relation`` is one of the link's, in any case, also between single quotation marks.

        :raises LinkHeaderError: when it seems to be meant, but stands in what is no relation, such as "next,prev".
        """
        relation, own = relation.lower(), self.parameters.get("rel", "").strip("'").lower().split()
        if relation in own:
            return True
        if any(relation in other and not _RELATION.fullmatch(other) for other in own):
            raise LinkHeaderError(f"a link has {relation!r} within a relation that is none")
        return False


class LinkHeaderError(ValueError):
    """No Link header; the message says where, and quotes nothing of it."""


def parse_links(header: str) -> list[Link]:
    """Return the links of a header, whose fields may have been joined by commas.

    :raises LinkHeaderError: when it cannot be read.
    """
    return list(_Reader(header).links())


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def links(self) -> Iterator[Link]:
        while True:
            self._blanks()
            if self._accept(","):
                continue  # an empty member of the list (RFC 9110 section 5.6.1)
            if self._at == len(self._text):
                return
            yield Link(self._expect(_TARGET, "a URL in angle brackets").strip(), self._parameters())
            self._blanks()
            if self._at < len(self._text) and not self._accept(","):
                raise self._error("a comma or a semicolon")

    def _parameters(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._accept(";"):
            self._blanks()
            if self._at == len(self._text) or self._text[self._at] in ";,":
                continue
            name = self._expect(_NAME, "a parameter's name").lower()
            found.setdefault(name, self._value() if self._accept("=") else "")
        if "rel*" in found and "rel" not in found:
            raise LinkHeaderError("a link has 'rel*', which is no relation, and has no 'rel'")
        return found

    def _value(self) -> str:
        self._blanks()
        if self._text.startswith('"', self._at):
            return re.sub(r"\\(.)", r"\1", self._expect(_QUOTED, "a quotation mark at the end of a value"))
        return self._expect(_BARE, "a value")

    def _blanks(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _accept(self, character: str) -> bool:
        self._blanks()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def _expect(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._error(what)
        self._at = match.end()
        return match[match.lastindex or 0]

    def _error(self, what: str) -> LinkHeaderError:
        return LinkHeaderError(f"at its character {self._at + 1} {what} is missing")
