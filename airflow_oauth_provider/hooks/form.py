"""The connection form for Airflow up to 3.1, made from the same table as the provider info.

Later versions read ``conn-fields`` of the provider info and do not call the hook. Two forms remain:

* Airflow 2.11 renders real wtforms fields, of four classes only; widgets do everything else.
* Airflow 3.0 and 3.1 replace the wtforms classes by their own while they call the hook, and turn them into
  JSON schemas: class, ``any_of`` (a drop-down), label, description and default are all that they see. 3.0 does
  so only where wtforms and Flask-AppBuilder are installed (``apache-airflow-providers-fab`` brings them).

So the functions import wtforms themselves, by the names that Airflow replaces.
"""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from airflow_oauth_provider.compat.sdk import AIRFLOW_V_3_0_PLUS
from airflow_oauth_provider.connection.fields import CONN_TYPE, FIELDS, STANDARD_FIELDS, Field

#: What Airflow 2.11's form sends back for a secret that nobody changed; it then keeps the stored one.
UNCHANGED = "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER"


def connection_form_widgets() -> dict[str, Any]:
    """Return one unbound wtforms field for each key of ``extra``, in the order of the table.

    :raises ImportError: wtforms is not installed; Airflow then shows a form without them.
    """
    make = _modern_field if AIRFLOW_V_3_0_PLUS else _classic_field
    return {field.key: make(field) for field in FIELDS if field.in_form}


def ui_field_behaviour() -> dict[str, Any]:
    """Return labels, examples and what is hidden, for ``OAuth2Hook.get_ui_field_behaviour``."""
    hidden = [field.name for field in STANDARD_FIELDS if field.hidden]
    if not AIRFLOW_V_3_0_PLUS:
        # Only this form can hide a field of extra.
        hidden += [f"extra__{CONN_TYPE}__{field.key}" for field in FIELDS if field.kept and field.in_form]
    return {
        "hidden_fields": hidden,
        "relabeling": {field.name: field.title for field in STANDARD_FIELDS if field.title},
        "placeholders": {field.name: field.placeholder for field in STANDARD_FIELDS if field.placeholder},
    }


def _modern_field(field: Field) -> Any:
    """Make the field for Airflow 3.0 and 3.1."""
    from wtforms import IntegerField, PasswordField, StringField
    from wtforms.validators import Optional, any_of

    classes = {"password": PasswordField, "integer": IntegerField, "number": IntegerField}
    choices = _choices(field)
    return classes.get(field.kind, StringField)(
        field.title,
        validators=[Optional(), any_of(list(choices))] if choices else [Optional()],
        description=field.description,
        default=field.default if field.kept else None,
    )


def _classic_field(field: Field) -> Any:
    """Make the field for Airflow 2.11.

    Numbers and booleans are text fields: they start out empty, which means the default that the help text names, and
    what was typed in comes back as it was.
    """
    from wtforms import PasswordField, StringField
    from wtforms.validators import Optional, any_of

    if field.secret:
        return PasswordField(field.title, description=field.description, widget=_SecretWidget(always=field.kept))
    choices = _choices(field)
    return StringField(
        field.title,
        validators=[Optional(), any_of(list(choices))] if choices else [Optional()],
        filters=[_Reader(field)],
        description=field.description,
        widget=_DropDownWidget(choices, field) if choices else _TextWidget(),
    )


class _Reader:
    """Turns what the form of Airflow 2.11 sent into the value to store: a wtforms filter.

    An unchanged value stays what it was: a number or a list does not become text. That form prefills only values that
    are true in Python, and takes an empty field for a deleted key: a ``false`` or a ``0`` that came by the API or the
    command line would be gone. So this reads the field "Extra", which still has it.
    """

    def __init__(self, field: Field) -> None:
        self._field = field

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        stored = self._stored()
        if stored is not None and value == (_as_text(stored) if stored else ""):
            return stored
        return self._object(value) if value and self._field.kind == "object" else value

    def _stored(self) -> Any:
        """Return the value in the form's field "Extra", which holds all keys; None for none."""
        from flask import has_request_context, request

        if not has_request_context():
            return None
        try:
            extra = json.loads(request.form.get("extra") or "{}")
        except ValueError:
            return None  # the form itself tells the person
        return extra.get(self._field.key) if isinstance(extra, dict) else None

    def _object(self, text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            message = f"{self._field.title} must be a JSON object, such as {self._field.placeholder}"
            raise ValueError(message)  # noqa: TRY004 - what wtforms shows beside the field
        return value


class _TextWidget:
    """A text field that shows an object or a number as JSON, not as Python."""

    def __call__(self, field: Any, **attributes: Any) -> Markup:
        return _tag("input", field, attributes, type="text", value=_as_text(field.data))


class _SecretWidget:
    """A password field that never holds the secret, only Airflow's mark for "unchanged"; ``always``: also if empty."""

    #: Airflow asks the *class* of the field for this; other code may ask the widget.
    input_type = "password"

    def __init__(self, *, always: bool) -> None:
        self._always = always

    def __call__(self, field: Any, **attributes: Any) -> Markup:
        mark = UNCHANGED if field.data or self._always else ""
        return _tag("input", field, attributes, type="password", value=mark, autocomplete="new-password")


class _DropDownWidget:
    """A drop-down over a text field: Airflow does not let a hook use a ``SelectField``."""

    def __init__(self, choices: tuple[str, ...], field: Field) -> None:
        self._options = (("", field.unchosen), *((choice, field.labels.get(choice, choice)) for choice in choices))

    def __call__(self, field: Any, **attributes: Any) -> Markup:
        current = _as_text(field.data)
        options = self._options
        if current not in dict(options):
            options = (*options, (current, current))  # stored by other means: show it rather than replace it
        return (
            _tag("select", field, attributes)
            + Markup("").join(
                Markup('<option value="{}"{}>{}</option>').format(
                    value, Markup(" selected") if value == current else "", label
                )
                for value, label in options
            )
            + Markup("</select>")
        )


def _tag(name: str, field: Any, attributes: dict[str, Any], **more: str) -> Markup:
    """Open an HTML element for ``field``; every value is escaped."""
    merged = {**attributes, "id": field.id, "name": field.name, "class": "form-control", **more}
    pairs = Markup(" ").join(Markup('{}="{}"').format(key, value) for key, value in merged.items())
    return Markup("<{} {}>").format(Markup(name), pairs)  # noqa: S704 - the names are this module's own


def _as_text(value: Any) -> str:
    """Return ``value`` as a person would type it."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _choices(field: Field) -> tuple[str, ...]:
    return ("true", "false") if field.kind == "boolean" else field.choices
