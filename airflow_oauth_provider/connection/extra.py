"""Read the keys of a connection's ``extra`` by the table of fields; an error names the key and what would be right."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from airflow_oauth_provider.connection.fields import ALIASES, FIELDS, FIELDS_BY_KEY, Field
from airflow_oauth_provider.connection.presets import URL_KEYS, PresetParameterError, is_unset, preset
from airflow_oauth_provider.exceptions import ConfigurationError

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Extra:
    """The values of one connection's ``extra``, each of the kind that its field has.

    :param text: ``extra`` as stored. Parsed here rather than by ``extra_dejson``, which would register the value of
        every key that looks secret as a mask, ``***`` and URLs included.
    :param columns: what the connection has in columns of its own under names that a preset knows as well (``host``).
    :raises ConfigurationError: when the text is no JSON object.
    """

    def __init__(self, conn_id: str, text: str | None, columns: Mapping[str, Any] | None = None) -> None:
        self.conn_id = conn_id
        self._from_preset: Mapping[str, Any] = {}
        self._parameters: Mapping[str, str] = {}
        given: dict[str, Any] = {}
        # An alias gives way to the key that it stands for, wherever in the text it is.
        for key, value in _parse(conn_id, text).items():
            if not is_unset(value):
                name = ALIASES.get(key, key)
                if key == name or name not in given:
                    given[name] = value
        self._given: Mapping[str, Any] = given
        if "provider" in given:
            self._read_preset(columns or {})

    @property
    def unknown(self) -> list[str]:
        """The keys that no field has, and no preset."""
        return sorted(self._given.keys() - FIELDS_BY_KEY.keys() - self._parameters.keys())

    @property
    def hint(self) -> str:
        """What to say of the unknown keys beside what is missing; empty where there are none."""
        meant = {key: nearest_key(key) for key in self.unknown}
        return "".join(
            f" The key {key!r} means nothing here.{f' Did you mean {near!r}?' if near else ''}"
            for key, near in meant.items()
        )

    def preset(self, key: str) -> Any:
        """Return what the connection's preset says under ``key``, a field's or not; None where it says nothing."""
        return self._from_preset.get(key)

    def _read_preset(self, columns: Mapping[str, Any]) -> None:
        found = preset(self.get("provider"))
        parameters = {**self._given, **(self.get("provider_params") or {})}
        given = {**columns, **self._given}
        # Addresses belong together: whoever names another server must not have a secret sent to the preset's.
        if "oauth_url" in given or "issuer" in given:
            given = {**{key: "another" for key in URL_KEYS if key != "host"}, **given}
        try:
            self._from_preset, self._parameters = found.resolve(parameters, given), found.parameters
        except PresetParameterError as error:
            raise ConfigurationError(
                f"{error} Give it as a key of extra, or under 'provider_params'.", conn_id=self.conn_id
            ) from None

    def check(self) -> None:
        """Read every key once, so that a mistake shows at once and not in the one branch that needs it."""
        for field in FIELDS:
            self.get(field.key)

    def is_set(self, key: str) -> bool:
        """Tell whether the connection, or its preset, says anything under ``key``."""
        return key in self._given or self.preset(key) is not None

    def get(self, key: str) -> Any:
        """Return the value under ``key``, or its default.

        :raises ConfigurationError: when the value is not of the field's kind, range or choices.
        """
        field = FIELDS_BY_KEY[key]
        raw = self._given.get(key, self.preset(key))
        if raw is None:
            return field.default
        value = _KINDS[field.kind][0](raw)
        if value is None:
            raise self.error(key, _say_what_is_right(field))
        if field.choices and value not in field.choices:
            raise self.error(key, "has to be one of " + ", ".join(field.choices) + _nearest(value, field.choices))
        if field.kind in ("integer", "number") and not _within(field, value):
            raise self.error(key, _say_what_is_right(field))
        return value

    def error(self, key: str, right: str) -> ConfigurationError:
        """Return the error for a wrong value.

        :param right: what would be right, as the end of a sentence.
        """
        value = self._given.get(key, self.preset(key))
        field = FIELDS_BY_KEY[key]
        hidden = value is None or field.secret or field.mixed
        shown = "" if hidden else f" is {json.dumps(value, default=str)[:100]}, but"
        return ConfigurationError(f"the key {key!r} of its extra{shown} {right}.", conn_id=self.conn_id)


def _parse(conn_id: str, text: str | None) -> dict[str, Any]:
    if not text or not text.strip():
        return {}
    try:
        members = json.loads(text)
    except ValueError:
        # The error of the parser quotes the text, which holds secrets.
        raise ConfigurationError("its extra is not valid JSON.", conn_id=conn_id) from None
    if not isinstance(members, dict):
        raise ConfigurationError("its extra has to be a JSON object.", conn_id=conn_id)
    return members


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value.strip() if isinstance(value, str) else None


def _secret_text(value: object) -> str | None:
    # A JWK is an object, and people enter it as one.
    return json.dumps(value) if isinstance(value, dict) else _text(value)


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
    if isinstance(value, list) and all(isinstance(item, str | int) and not isinstance(item, bool) for item in value):
        return [str(item).strip() for item in value if str(item).strip()]
    return None


def _pairs(value: object) -> dict[str, str] | None:
    """Return ``name=value`` items as a dictionary; an object is understood as well, but Airflow may star its values."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _object(value)
    if isinstance(value, dict):
        return {str(name): text for name, item in value.items() if (text := _text(item)) is not None}
    items = _list(value)
    if items is None or any("=" not in item.lstrip("=") for item in items):
        return None
    split = (item.partition("=") for item in items)
    return {name.strip(): text.strip() for name, _, text in split}


#: By the kind of a field: how it is read, and what it has to be.
_KINDS: Mapping[str, tuple[Callable[[object], Any], str]] = {
    "string": (_text, "has to be text"),
    "password": (_secret_text, "has to be text"),
    "boolean": (_boolean, "has to be true or false"),
    "integer": (_integer, "has to be a whole number"),
    "number": (_number, "has to be a number"),
    "object": (_object, "has to be a JSON object"),
    "list": (_list, "has to be a list, or text with commas between the items"),
    "pairs": (_pairs, "has to be a list of name=value, or text with commas between them"),
}


def _within(field: Field, number: float) -> bool:
    return (field.minimum is None or number >= field.minimum) and (field.maximum is None or number <= field.maximum)


def _say_what_is_right(field: Field) -> str:
    least = "" if field.minimum is None else f" of at least {field.minimum:g}"
    most = "" if field.maximum is None else f" of at most {field.maximum:g}"
    return _KINDS[field.kind][1] + least + most


def _nearest(value: object, choices: tuple[str, ...]) -> str:
    found = get_close_matches(str(value).strip().lower(), choices, n=1) if len(choices) > 10 else []
    return f" (did you mean {found[0]}?)" if found else ""


def nearest_key(key: str) -> str | None:
    """Return the key that somebody may have meant by ``key``."""
    found = get_close_matches(key.strip().lower().replace("-", "_"), [*FIELDS_BY_KEY, *ALIASES], n=1, cutoff=0.6)
    return found[0] if found else None
