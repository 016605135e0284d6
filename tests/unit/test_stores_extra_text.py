"""One member of a JSON text is replaced, the rest stays as the person typed it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_oauth_provider.compat.extra_json import (
    NotAnObjectError,
    get_key,
    get_member,
    is_guarded,
    prepare_extra,
    set_guard,
    set_member,
    without_member,
    without_provisions,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
VALUE = '{"a":"\\"ü\\n"}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, '{"token_record": "v"}'),
        ("", '{"token_record": "v"}'),
        ("  ", '{"token_record": "v"}'),
        ("{}", '{"token_record": "v"}'),
        ("{ }", '{"token_record": "v" }'),
        ('{"a": 1.50}', '{"a": 1.50, "token_record": "v"}'),
        ('{\n  "b": "\\u00e4", "a": 1e3\n}\n', '{\n  "b": "\\u00e4", "a": 1e3, "token_record": "v"\n}\n'),
        ('{"token_record":null ,"a":1}', '{"token_record":"v" ,"a":1}'),
        (
            '{"a": {"token_record": "x}"}, "token_record" : "old" }',
            '{"a": {"token_record": "x}"}, "token_record" : "v" }',
        ),
        ('{"token_record": "1", "token_record": "2"}', '{"token_record": "1", "token_record": "v"}'),
        ('{"a": "}"}', '{"a": "}", "token_record": "v"}'),
        ('{"a": "\\"token_record\\": 1"}', '{"a": "\\"token_record\\": 1", "token_record": "v"}'),
    ],
)
def test_everything_else_stays_character_for_character(before, after):
    assert set_member(before, "v") == after
    assert get_member(after) == "v"


@given(st.dictionaries(st.text(), JSON, max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_any_object_keeps_its_members_and_their_order(members, indent, ascii_only):
    text = json.dumps(members, indent=indent, ensure_ascii=ascii_only)
    once = set_member(text, VALUE)
    assert list(json.loads(once).items())[: len(members)] == [
        (name, VALUE if name == "token_record" else value) for name, value in members.items()
    ]
    assert get_member(once) == VALUE
    assert set_member(set_member(once, "other"), VALUE) == once


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, None),
        ("", ""),
        ('{ "a":1.50 }', '{ "a":1.50 }'),
        ('{"a": {"token_record": 1}}', '{"a": {"token_record": 1}}'),
        ('{"token_record": "v", "a": 1, "token_record": "w"}', '{"a": 1}'),
        ('{"token_record": null}', "{}"),
    ],
)
def test_a_member_is_removed(before, after):
    assert without_member(before) == after


@pytest.mark.parametrize(
    "text", ["no json refresh-secret", "[1]", '"text"', "1", "null", "{", '{"a": 1,}', "[" * 100_000]
)
def test_what_is_no_object_is_refused_and_not_quoted(text):
    for call in (lambda: get_member(text), lambda: set_member(text, "v"), lambda: without_member(text)):
        with pytest.raises(NotAnObjectError) as failure:
            call()
        assert "secret" not in str(failure.value)


@pytest.mark.parametrize("text", [None, "", "{}", '{"token_record": null}', '{"token_record": ""}', '{"a": 1}'])
def test_no_record_is_none(text):
    assert get_member(text) is None


def test_a_record_that_is_no_string_is_refused():
    with pytest.raises(NotAnObjectError):
        get_member('{"token_record": {"a": 1}}')


# --------------------------------------------------------------------------------------------- guard and key


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, '{"use_oauth2_hook": {}}'),
        ("", '{"use_oauth2_hook": {}}'),
        ("{ }", '{"use_oauth2_hook": {} }'),
        ('{"a": 1.50}', '{"use_oauth2_hook": {}, "a": 1.50}'),
        ('{\n  "a": 1.50\n}', '{"use_oauth2_hook": {},\n  "a": 1.50\n}'),
        ('{"a":1,"use_oauth2_hook":{}}', '{"use_oauth2_hook": {}, "a":1}'),
        ('{"use_oauth2_hook": null, "a":1}', '{"use_oauth2_hook": {}, "a":1}'),
        ('{"use_oauth2_hook":{"a": "secret"},"a":1}', '{"use_oauth2_hook": {}, "a":1}'),
        ('{"use_oauth2_hook":{},"a":1,"use_oauth2_hook":"x"}', '{"use_oauth2_hook": {}, "a":1}'),
        ('{ "use_oauth2_hook" : {}, "a":1}', '{ "use_oauth2_hook" : {}, "a":1}'),
        ('{"use_oauth2_hook": {}}', '{"use_oauth2_hook": {}}'),
    ],
)
def test_the_guard_is_empty_and_first(before, after):
    assert set_guard(before) == after
    assert is_guarded(after)
    assert set_guard(after) == after


@given(st.dictionaries(st.text(), JSON, max_size=5), st.sampled_from([None, 2]))
def test_any_object_gets_guard_and_key_and_keeps_the_rest(members, indent):
    text = json.dumps(members, indent=indent)
    prepared = prepare_extra(text, with_key=True)
    found = json.loads(prepared)
    assert next(iter(found.items())) == ("use_oauth2_hook", {})
    assert len(get_key(prepared)) == 43
    assert prepare_extra(prepared, with_key=True) == prepared
    own = ("use_oauth2_hook", "token_record_key", "token_record")
    rest = {name: value for name, value in members.items() if name not in own}
    assert json.loads(without_provisions(prepared)) == rest


def test_no_key_where_none_is_needed_and_each_time_another():
    assert prepare_extra("{}", with_key=False) == '{"use_oauth2_hook": {}}'
    assert get_key(prepare_extra("{}", with_key=True)) != get_key(prepare_extra("{}", with_key=True))


@pytest.mark.parametrize("value", [None, "", "***", "short", 5, {"a": 1}, ["k" * 43]])
def test_what_was_not_minted_is_no_key(value):
    text = json.dumps({"token_record_key": value})
    assert get_key(text) is None
    assert len(get_key(prepare_extra(text, with_key=True))) == 43
