"""JSON that comes from an API and goes to a file: what was read is what is written, digit by digit (RFC 8259)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

#: Halves of characters, which a JSON document can escape and UTF-8 cannot hold.
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Where there may be an integer that ``int`` would write as 0; a text that looks so costs only time.
_MINUS_ZERO = re.compile(r"-0(?=[\s,\]}]|\Z)")


@dataclass(slots=True, unsafe_hash=True)
class Number:
    """A number that Python's ``float`` and ``int`` cannot hold exactly, or would write in another way."""

    #: As it stands in the document.
    text: str

    def __str__(self) -> str:
        return self.text


def decode(content: bytes, charset: str | None = None) -> Any:
    """Return the value of a JSON document; a number that does not fit is a :class:`Number`.

    :param charset: as the answer states it; without one it is found out, by a byte order mark too.
    :raises ValueError: when it is no JSON, or nested too deeply.
    """
    text = _text(content, charset)
    try:
        # Many pages have no minus at all, which is seen much faster.
        has_minus_zero = "-" in text and _MINUS_ZERO.search(text)
        return (_exact_decoder if has_minus_zero else _decoder).decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _exact_decoder.decode(text)  # an integer of thousands of digits, which int() refuses
    except RecursionError:
        raise ValueError("nested too deeply") from None


def encode(value: Any) -> str:
    """Return ``value`` as JSON on one line; see :func:`encode_lines`."""
    return encode_lines([value])[:-1]


def encode_lines(values: list[Any]) -> str:
    """Return each of ``values`` as JSON on a line of its own. What JSON does not know is written as its text.

    :raises ValueError: when one holds NaN or Infinity, which JSON does not have.
    """
    try:
        text = "".join([f"{_encode(value)}\n" for value in values])
    except _ExactError:
        text = "".join([f"{_encode_exactly(value)}\n" for value in values])
    except ValueError:
        raise ValueError("it holds NaN or Infinity, which JSON does not have") from None
    return text if text.isascii() else _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _text(content: bytes, charset: str | None) -> str:
    found = json.detect_encoding(content)
    for encoding in (charset if charset and found == "utf-8" else found, found):
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return content.decode("latin-1")  # loses no byte


def _fraction(text: str) -> float | Number:
    value = float(text)
    return value if repr(value) == text else Number(text)


def _integer(text: str) -> int | Number:
    return int(text) if len(text) < 4000 and text != "-0" else Number(text)


_decoder = json.JSONDecoder(parse_float=_fraction)
_exact_decoder = json.JSONDecoder(parse_float=_fraction, parse_int=_integer)


class _ExactError(Exception):
    """The encoder met a number that it would write in another way."""


def _default(value: Any) -> Any:
    if isinstance(value, Number | Decimal):
        raise _ExactError
    return str(value)


# Made once: json.dumps with arguments makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default).encode


def _encode_exactly(value: Any) -> str:
    if isinstance(value, dict):
        members = (f"{_key(name)}:{_encode_exactly(member)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_encode_exactly, value)) + "]"
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError("it holds NaN or Infinity, which JSON does not have")
    return str(value) if isinstance(value, Number | Decimal) else encode(value)


def _key(name: Any) -> str:
    return _encode({name: 0})[1:-3]
