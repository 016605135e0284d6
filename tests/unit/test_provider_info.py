"""What Airflow is told of this package."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

import airflow_oauth_provider
from airflow_oauth_provider.compat.extra_json import RECORD_MEMBER
from airflow_oauth_provider.connection.fields import FIELDS, STANDARD_FIELDS
from airflow_oauth_provider.get_provider_info import get_provider_info
from airflow_oauth_provider.oauth2.redaction import MASK

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]
FORM = CONNECTION["conn-fields"]
SHOWN = [field for field in FIELDS if field.in_form]


def test_it_fits_airflows_schema():
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())

    jsonschema.validate(INFO, schema)


def test_it_is_plain_json():
    assert json.loads(json.dumps(INFO)) == INFO


def test_it_is_new_at_each_call():
    get_provider_info()["connection-types"].clear()

    assert get_provider_info() == INFO


def test_it_is_the_entry_point():
    (found,) = [
        entry
        for entry in importlib.metadata.entry_points(group="apache_airflow_provider")
        if entry.value.startswith("airflow_oauth_provider")
    ]

    assert found.load() is get_provider_info
    assert found.dist.metadata["Name"] == INFO["package-name"]


def test_modules_and_classes_exist():
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for group in INFO[kind]:
            for name in group["python-modules"]:
                assert importlib.util.find_spec(name), name
    module, _, name = CONNECTION["hook-class-name"].rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)
    for path in INFO["cli"]:
        module, _, name = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_every_operator_and_sensor_is_listed():
    package = Path(airflow_oauth_provider.__file__).parent
    for kind in ("operators", "sensors"):
        there = {
            f"airflow_oauth_provider.{kind}.{path.stem}"
            for path in (package / kind).glob("*.py")
            if not path.stem.startswith("_")
        }
        assert {name for group in INFO[kind] for name in group["python-modules"]} == there


def test_the_hook_agrees():
    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

    assert OAuth2Hook.conn_type == CONNECTION["connection-type"] == "oauth2"
    assert OAuth2Hook.hook_name == CONNECTION["hook-name"]


def test_the_form_has_the_table_in_its_order():
    assert list(FORM) == [field.key for field in SHOWN]


@pytest.mark.parametrize("field", SHOWN, ids=lambda field: field.key)
def test_a_field_of_the_form(field):
    found = FORM[field.key]
    schema = found["schema"]

    assert found["label"] == field.title
    assert found["description"] == field.description
    assert schema["section"] == field.section
    assert schema["type"][1] == "null", "nothing is required"
    assert (schema.get("format") == "password") == field.secret
    assert schema.get("minimum") == field.minimum
    if choices := ("true", "false") if field.kind == "boolean" else field.choices:
        assert schema["enum"] == [None, *choices]
        assert schema["values_display"] == {"null": field.unchosen, **field.labels}
    if not field.kept:
        assert "default" not in schema, "a default that a form stores cannot be told from a choice"


def test_the_record_is_sent_back_by_every_form_and_shown_by_none():
    assert FORM[RECORD_MEMBER]["schema"]["const"] == FORM[RECORD_MEMBER]["schema"]["default"] == MASK


def test_standard_fields_are_relabelled():
    behaviour = CONNECTION["ui-field-behaviour"]

    assert behaviour["relabeling"] == {"host": "API base URL", "login": "Client ID", "password": "Client secret"}
    assert behaviour["hidden-fields"] == ["schema", "port"]
    assert behaviour["placeholders"].keys() == {field.name for field in STANDARD_FIELDS if field.placeholder}


def test_settings_are_airflow_settings():
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    manager.initialize_providers_configuration()
    options = dict(manager.provider_configs)["airflow-oauth-provider"]["oauth2"]["options"]

    assert {"fallback_path", "callback_prefixes", "token_store_route"} <= options.keys()
    assert "Fernet" not in options["fallback_path"]["description"], "the key is made from the spent refresh token"
    assert all(option["description"] and option["version_added"] for option in options.values())


def test_a_default_with_braces_is_not_for_airflow_to_format():
    """Up to 3.2 Airflow formats each default that is no template, and ends at a name that it does not know."""
    options = get_provider_info()["config"]["oauth2"]["options"]

    templates = {name for name, option in options.items() if option.get("is_template")}
    assert templates == {name for name, option in options.items() if "{" in option["default"]} != set()
