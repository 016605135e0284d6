"""The form for older Airflow, with wtforms and Flask played; tests/matrix has the real ones."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from airflow_oauth_provider.compat.extra_json import KEY_MEMBER, RECORD_MEMBER
from airflow_oauth_provider.connection.fields import FIELDS, FIELDS_BY_KEY
from airflow_oauth_provider.hooks import form
from airflow_oauth_provider.oauth2.redaction import MASK

SHOWN = [field for field in FIELDS if field.in_form]


class PlayedField:
    def __init__(self, label, validators=(), description="", default=None, widget=None, filters=()):
        self.__dict__.update(locals())


@pytest.fixture
def wtforms(monkeypatch):
    module, validators = ModuleType("wtforms"), ModuleType("wtforms.validators")
    for name in ("StringField", "IntegerField", "PasswordField"):
        setattr(module, name, type(name, (PlayedField,), {}))
    validators.Optional = lambda: "optional"
    validators.any_of = lambda choices: ("any of", choices)
    monkeypatch.setitem(sys.modules, "wtforms", module)
    monkeypatch.setitem(sys.modules, "wtforms.validators", validators)
    return module


@pytest.fixture(params=["modern", "classic"])
def fields(request, wtforms, monkeypatch):
    monkeypatch.setattr(form, "AIRFLOW_V_3_0_PLUS", request.param == "modern")
    return form.connection_form_widgets()


def test_the_form_is_the_table(fields):
    assert list(fields) == [field.key for field in SHOWN]


@pytest.mark.parametrize("field", SHOWN, ids=lambda field: field.key)
def test_a_field(fields, wtforms, field):
    found = fields[field.key]

    assert found.label == field.title
    assert found.description == field.description
    assert isinstance(found, wtforms.PasswordField) == field.secret
    if choices := ("true", "false") if field.kind == "boolean" else field.choices:
        assert found.validators == ["optional", ("any of", list(choices))]
    if not field.kept:
        assert found.default is None


@pytest.mark.parametrize("modern", [True, False])
def test_ui_field_behaviour(monkeypatch, modern):
    monkeypatch.setattr(form, "AIRFLOW_V_3_0_PLUS", modern)
    found = form.ui_field_behaviour()

    assert found["relabeling"]["login"] == "Client ID"
    assert found["placeholders"]["host"] == "https://api.example.com"
    kept = [] if modern else [f"extra__oauth2__{key}" for key in (RECORD_MEMBER, KEY_MEMBER)]
    assert found["hidden_fields"] == ["schema", "port", *kept]


def test_airflow_3_sends_the_record_back(wtforms, monkeypatch):
    monkeypatch.setattr(form, "AIRFLOW_V_3_0_PLUS", True)

    assert form.connection_form_widgets()[RECORD_MEMBER].default == MASK


@pytest.fixture
def posted(monkeypatch):
    """A request with this text in the form's field "Extra"."""

    def post(extra):
        flask = ModuleType("flask")
        flask.has_request_context = lambda: extra is not None
        flask.request = SimpleNamespace(form={"extra": extra})
        monkeypatch.setitem(sys.modules, "flask", flask)

    return post


def rendered(widget, data):
    return str(widget(SimpleNamespace(id="i", name="n", data=data), required=False))


def test_a_secret_is_never_in_the_page():
    page = rendered(form._SecretWidget(always=False), "a-secret")

    assert "a-secret" not in page
    assert form.UNCHANGED in page
    assert form.UNCHANGED not in rendered(form._SecretWidget(always=False), "")
    assert form.UNCHANGED in rendered(form._SecretWidget(always=True), "")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, ""),
        ("plain", "plain"),
        (12.5, "12.5"),
        (True, "true"),
        (["a", "b"], "a, b"),
        ({"A": 'x"<y'}, "{&#34;A&#34;: &#34;x\\&#34;&lt;y&#34;}"),
    ],
)
def test_text_shows_what_was_stored(data, shown):
    assert f'value="{shown}"' in rendered(form._TextWidget(), data)


def test_a_drop_down_shows_the_default_the_choices_and_what_else_is_stored():
    field = FIELDS_BY_KEY["auth_method"]
    widget = form._DropDownWidget(field.choices, field)

    assert '<option value="" selected>default (client_secret_basic)</option>' in rendered(widget, None)
    assert '<option value="none" selected>none</option>' in rendered(widget, "none")
    assert '<option value="later" selected>later</option>' in rendered(widget, "later")
    boolean = FIELDS_BY_KEY["resend_lost_response"]
    assert '<option value="true" selected>' in rendered(form._DropDownWidget(("true", "false"), boolean), True)


@pytest.mark.parametrize(
    ("key", "stored", "sent", "kept"),
    [
        ("leeway", 0, "", 0),  # the form does not show what is false in Python
        ("resend_lost_response", False, "", False),
        ("timeout", 12.5, "12.5", 12.5),
        ("allowed_hosts", ["a", "b"], "a, b", ["a", "b"]),
        ("headers", {"A": "x"}, '{"A": "x"}', {"A": "x"}),
        ("timeout", 12.5, "", ""),  # a person emptied it
        ("timeout", 12.5, "20", "20"),
        ("scope", None, "read", "read"),
        ("headers", None, '{"A": "x"}', {"A": "x"}),
        ("headers", {"A": "x"}, "", ""),
    ],
)
def test_what_nobody_changed_stays_what_it_was(posted, key, stored, sent, kept):
    posted(json.dumps({key: stored} if stored is not None else {}))
    found = form._Reader(FIELDS_BY_KEY[key])(sent)

    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize("extra", ["", "no json", "[1]"])
def test_an_unreadable_extra_is_for_the_form_to_tell(posted, extra):
    posted(extra)

    assert form._Reader(FIELDS_BY_KEY["scope"])("read") == "read"


def test_outside_of_a_request_the_text_is_the_value(posted):
    posted(None)

    assert form._Reader(FIELDS_BY_KEY["scope"])("read") == "read"
    assert form._Reader(FIELDS_BY_KEY["scope"])(None) is None


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_no_object_is_an_error_with_an_example(posted, text):
    posted("{}")
    with pytest.raises(ValueError, match="API headers must be a JSON object, such as"):
        form._Reader(FIELDS_BY_KEY["headers"])(text)
