"""Read the keys of a connection's ``extra`` by the table of fields; an error names the key and what would be right."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.fields import ALIASES, FIELDS, FIELDS_BY_KEY, MASK, Field

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Extra:
    """The values of one connection's ``extra``, each of the kind that its field has.

    :param conn_id: the connection's name, for messages.
    :param text: ``extra`` as stored. Parsed here rather than by ``extra_dejson``, which would register the value of
        every key that looks secret as a mask, ``***`` and URLs included.
    :raises ConfigurationError: when the text is no JSON object.
    """

    def __init__(self, conn_id: str, text: str | None) -> None:
        self._conn_id = conn_id
        given: dict[str, Any] = {}
        # An alias gives way to the key that it stands for, wherever in the text it is.
        for key, value in _parse(conn_id, text).items():
            if _is_set(value):
                name = ALIASES.get(key, key)
                if key == name or name not in given:
                    given[name] = value
        self._given: Mapping[str, Any] = given

    @property
    def unknown(self) -> list[str]:
        """The keys that no field has."""
        return sorted(key for key in self._given if key not in FIELDS_BY_KEY)

    def check(self) -> None:
        """Read every key once, so that a mistake shows at once and not in the one branch that needs it."""
        for field in FIELDS:
            self.get(field.key)

    def is_set(self, key: str) -> bool:
        """Tell whether the connection says anything under ``key``."""
        return key in self._given

    def get(self, key: str) -> Any:
        """Return the value under ``key``, or its default.

        :raises ConfigurationError: when the value is not of the field's kind, range or choices.
        """
        field = FIELDS_BY_KEY[key]
        if key not in self._given:
            return field.default
        value = _READERS[field.kind](self._given[key])
        if value is None:
            raise self.error(key, _expected(field))
        if field.choices and value not in field.choices:
            raise self.error(key, "has to be one of " + ", ".join(field.choices))
        if field.kind in ("integer", "number") and not _within(field, value):
            raise self.error(key, _expected(field))
        return value

    def error(self, key: str, right: str) -> ConfigurationError:
        """Return the error for a wrong value.

        :param key: the key.
        :param right: what would be right, as the end of a sentence.
        """
        value = self._given.get(key)
        shown = "" if FIELDS_BY_KEY[key].secret else f" is {json.dumps(value, default=str)[:100]}, but"
        return ConfigurationError(f"Connection {self._conn_id!r}: the key {key!r} of its extra{shown} {right}.")


def _parse(conn_id: str, text: str | None) -> dict[str, Any]:
    if not text or not text.strip():
        return {}
    try:
        members = json.loads(text)
    except ValueError:
        # The error of the parser quotes the text, which holds secrets.
        raise ConfigurationError(f"Connection {conn_id!r}: its extra is not valid JSON.") from None
    if not isinstance(members, dict):
        raise ConfigurationError(f"Connection {conn_id!r}: its extra has to be a JSON object.")
    return members


def _is_set(value: object) -> bool:
    """Tell whether a form left the field empty: a new connection stores every field, as null, "" or ***."""
    return value is not None and value not in ("", MASK) and not (isinstance(value, str) and not value.strip())


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value.strip() if isinstance(value, str) else None


def _boolean(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _object(value: object) -> dict[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _list(value: object) -> list[str] | None:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [item.strip() for item in value if item.strip()]
    return None


_READERS: dict[str, Callable[[object], Any]] = {
    "string": _text,
    "password": _text,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "object": _object,
    "list": _list,
}


def _within(field: Field, number: float) -> bool:
    return (field.minimum is None or number >= field.minimum) and (field.maximum is None or number <= field.maximum)


def _expected(field: Field) -> str:
    kinds = {
        "string": "has to be text",
        "password": "has to be text",
        "boolean": "has to be true or false",
        "integer": "has to be a whole number",
        "number": "has to be a number",
        "object": "has to be a JSON object",
        "list": "has to be a list, or text with commas between the items",
    }
    least = "" if field.minimum is None else f" of at least {field.minimum:g}"
    most = "" if field.maximum is None else f" of at most {field.maximum:g}"
    return kinds[field.kind] + least + most
