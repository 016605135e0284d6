"""Reading the keys of a connection: by the table, and with errors that help."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from airflow_oauth_provider.connection.extra import Extra
from airflow_oauth_provider.connection.fields import FIELDS
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.exceptions import ConfigurationError

SECRET = "s3cr3t-refresh-token-value"


def extra(**members):
    return Extra("xero", json.dumps(members))


def test_every_field_has_its_default_in_an_empty_connection():
    empty = Extra("xero", None)
    assert {field.key: empty.get(field.key) for field in FIELDS} == {field.key: field.default for field in FIELDS}


@pytest.mark.parametrize("unset", [None, "", "   ", "***"])
def test_what_a_form_stores_for_an_empty_field_is_the_default(unset):
    assert extra(leeway=unset).get("leeway") == 60
    assert extra(refresh_token=unset).get("refresh_token") is None


@pytest.mark.parametrize(("given", "read"), [(30, 30.0), ("30", 30.0), (2.5, 2.5), (" 45 ", 45.0)])
def test_numbers_may_be_text(given, read):
    assert extra(timeout=given).get("timeout") == read


@pytest.mark.parametrize(("given", "read"), [(True, True), ("false", False), ("No", False), ("on", True), (0, False)])
def test_booleans_may_be_text(given, read):
    assert extra(resend_lost_response=given).get("resend_lost_response") is read


def test_lists_and_objects_may_be_text():
    assert extra(allowed_hosts="a.example, b.example,").get("allowed_hosts") == ["a.example", "b.example"]
    assert extra(headers='{"Accept": "text/csv"}').get("headers") == {"Accept": "text/csv"}


def test_an_alias_gives_way_to_the_key_itself():
    assert extra(token_url="https://a/t").get("oauth_url") == "https://a/t"
    assert extra(token_url="https://a/t", oauth_url="https://b/t").get("oauth_url") == "https://b/t"
    assert extra(oauth_url="https://b/t", token_url="https://a/t").get("oauth_url") == "https://b/t"


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("timeout", "soon", "has to be a number of at least 1"),
        ("timeout", 0, "of at least 1"),
        ("timeout", True, "has to be a number"),
        ("timeout", "nan", "has to be a number"),
        ("grant_type", "implicit", "has to be one of refresh_token, client_credentials"),
        ("auth_method", "basic", "client_secret_basic, client_secret_post, none"),
        ("resend_lost_response", "perhaps", "has to be true or false"),
        ("error_in_200", "[1]", "has to be a JSON object"),
        ("max_redirects", 1.5, "has to be a whole number"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(key, value, right):
    with pytest.raises(ConfigurationError) as caught:
        extra(**{key: value}).check()
    message = str(caught.value)
    assert "'xero'" in message
    assert f"{key!r}" in message
    assert right in message
    assert json.dumps(value) in message


WRONG = {
    "string": (["s3cr3t"], "has to be text"),
    "password": (["s3cr3t"], "has to be text"),
    "boolean": ("s3cr3t", "has to be true or false"),
    "integer": ("s3cr3t", "has to be a whole number"),
    "number": ("s3cr3t", "has to be a number"),
    "object": ("s3cr3t", "has to be a JSON object"),
    "list": ({"a": "s3cr3t"}, "has to be a list, or text with commas between the items"),
    "pairs": ("s3cr3t", "has to be a list of name=value, or text with commas between them"),
}


@pytest.mark.parametrize("field", [field for field in FIELDS if not field.kept], ids=lambda field: field.key)
def test_each_field_says_what_is_wrong_with_it_and_quotes_no_secret(field):
    value, right = WRONG[field.kind]
    with pytest.raises(ConfigurationError) as caught:
        extra(**{field.key: value}).check()
    message = str(caught.value)
    assert message.startswith(f"Connection 'xero': the key {field.key!r} of its extra")
    assert right in message
    assert ("s3cr3t" in message) is not (field.secret or field.mixed)


@pytest.mark.parametrize("field", [field for field in FIELDS if field.choices], ids=lambda field: field.key)
def test_each_choice_says_what_there_is_to_choose_from(field):
    with pytest.raises(ConfigurationError) as caught:
        extra(**{field.key: "nonsense"}).check()
    assert [choice for choice in field.choices if choice not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("headers", "X-Api-Key: s3cr3t"),
        ("extra_headers", "Authorization=Basic s3cr3t"),
        ("extra_headers", "X Key=s3cr3t"),
        ("extra_params", "s3cr3t"),
        ("proxies", "http://me:s3cr3t@proxy.example.com"),
        ("oauth_url", "http://me:s3cr3t@login.example.com/token?key=s3cr3t"),
        ("allowed_hosts", "ftp://me:s3cr3t@files.example.com"),
    ],
)
def test_a_secret_in_a_wrong_place_is_not_quoted(key, value):
    given = {"oauth_url": "https://login.example.com/token", key: value}
    connection = SimpleNamespace(
        conn_type="oauth2",
        host="https://a.example",
        schema=None,
        port=None,
        login="id",
        password="x",
        extra=json.dumps(given),
    )
    with pytest.raises(ConfigurationError, match=f"'xero'.*'{key}'") as caught:
        read_settings("xero", connection).grant_configuration()
    assert "s3cr3t" not in str(caught.value)


def test_a_wrong_secret_is_not_quoted():
    with pytest.raises(ConfigurationError) as caught:
        extra(refresh_token=[SECRET]).check()
    assert "'refresh_token'" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ['{"refresh_token": "' + SECRET, '["' + SECRET + '"]', SECRET])
def test_an_extra_that_is_no_object_is_not_quoted(text):
    with pytest.raises(ConfigurationError, match="'xero'") as caught:
        Extra("xero", text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_unknown_keys_are_listed():
    assert extra(scopes="a", leeway=5).unknown == ["scopes"]
