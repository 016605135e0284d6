"""The table of the connection's fields keeps its own rules."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from airflow_oauth_provider.compat.extra_json import GUARD_MEMBER, KEY_MEMBER, RECORD_MEMBER, get_member
from airflow_oauth_provider.connection.extra import Extra
from airflow_oauth_provider.connection.fields import ALIASES, FIELDS, FIELDS_BY_KEY, STANDARD_FIELDS, STORE
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.oauth2.redaction import MASK
from airflow_oauth_provider.stores.backend import StoreOptions

ids = {"ids": lambda field: field.key}
KINDS = {"string", "password", "boolean", "integer", "number", "object", "list", "pairs"}
# Keys of HttpHook that Airflow stars without need; the names are HttpHook's.
STARRED_BY_NAME = {"proxies"}


def airflow_hides(key: str) -> bool:
    from airflow.sdk._shared.secrets_masker import should_hide_value_for_key

    return should_hide_value_for_key(key)


def test_keys_are_unique():
    assert len(FIELDS_BY_KEY) == len(FIELDS)


def test_what_stores_read_are_the_fields_about_stores():
    """So a store asks for no option that a connection cannot have, and none is left out."""
    rows = [field for field in FIELDS if field.section == STORE and not field.kept]
    assert not any(field.secret for field in rows)
    unset = {"pairs": {}}
    assert asdict(StoreOptions()) == {
        field.key: unset.get(field.kind) if field.default is None else field.default for field in rows
    }


def test_a_connection_gives_its_stores_every_option():
    given = {
        field.key: f"refresh_token=the {field.key}" if field.kind == "pairs" else f"the {field.key}"
        for field in FIELDS
        if field.section == STORE and not field.kept and not field.choices
    }
    columns = dict.fromkeys(("host", "schema", "port", "login", "password"))
    connection = SimpleNamespace(conn_type="oauth2", extra=json.dumps({**given, "store": "vault"}), **columns)
    options = asdict(read_settings("xero", connection).store_options)
    assert options.pop("store") == "vault"
    pairs = {key: {"refresh_token": f"the {key}"} for key in ("file_map", "keyvault_names")}
    assert options == {**given, **pairs}


@pytest.mark.parametrize("field", FIELDS, **ids)
def test_airflow_hides_exactly_the_secrets(field):
    assert airflow_hides(field.key) == (field.secret or field.key in STARRED_BY_NAME)
    assert field.secret == (field.kind == "password")


@pytest.mark.parametrize("field", FIELDS, **ids)
def test_a_row_is_complete(field):
    assert field.kind in KINDS
    assert field.title
    assert field.section
    assert field.help.endswith(".")
    assert "Default" not in field.help, "`default` or `unset` says it"
    if field.choices:
        assert field.default in (None, *field.choices)


@pytest.mark.parametrize("field", FIELDS, **ids)
def test_help_says_the_default_and_the_example(field):
    if field.kept:
        return
    if said := field.default_text or field.unset:
        assert f"Default: {said}." in field.description
    if field.placeholder:
        assert field.description.endswith(f"Example: {field.placeholder}")


@pytest.mark.parametrize("field", [field for field in FIELDS if field.choices and field.in_form], **ids)
def test_help_explains_each_choice(field):
    if field.key == "provider":
        return  # names of vendors
    assert [choice for choice in field.choices if choice not in field.help] == []


@pytest.mark.parametrize("field", [field for field in FIELDS if field.default is not None and not field.kept], **ids)
def test_a_default_can_be_entered(field):
    extra = Extra("c", json.dumps({field.key: field.default_text}))

    assert extra.get(field.key) == Extra("c", None).get(field.key) == field.default


@pytest.mark.parametrize("field", [field for field in FIELDS if field.placeholder], **ids)
def test_an_example_can_be_entered(field):
    assert Extra("c", json.dumps({field.key: field.placeholder})).get(field.key)


@pytest.mark.parametrize("empty", [None, "", MASK])
@pytest.mark.parametrize("field", FIELDS, **ids)
def test_what_a_form_stores_for_an_empty_field_is_not_set(field, empty):
    extra = Extra("c", json.dumps({field.key: empty}))

    assert not extra.is_set(field.key)
    assert extra.get(field.key) == field.default


@pytest.mark.parametrize("empty", [None, "", MASK])
def test_no_record_is_in_a_connection_that_was_just_entered(empty):
    assert get_member(json.dumps({RECORD_MEMBER: empty})) is None


def test_what_the_program_keeps_stands_last():
    assert [field.key for field in FIELDS if field.kept] == [RECORD_MEMBER, KEY_MEMBER, GUARD_MEMBER]


def test_aliases_lead_to_keys():
    assert set(ALIASES.values()) <= set(FIELDS_BY_KEY)
    assert not set(ALIASES) & set(FIELDS_BY_KEY)


def test_sections_are_not_interleaved():
    sections = [field.section for field in FIELDS if field.in_form and not field.kept]
    starts = [one for one, before in zip(sections, [None, *sections], strict=False) if one != before]

    assert len(starts) == len(set(starts)), "the form would show a section's fields together all the same"


def test_standard_fields_are_airflows():
    assert {field.name for field in STANDARD_FIELDS} <= {"host", "schema", "login", "password", "port", "extra"}


def test_the_table_imports_nothing_of_airflow():
    code = (
        "import sys, airflow_oauth_provider.get_provider_info as info; info.get_provider_info(); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'airflow', 'requests', 'wtforms', 'hvac'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
