"""The connection form of the newest Airflow in a real browser: what is stored survives every save."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from playwright.sync_api import expect

from airflow_oauth_provider.compat.extra_json import GUARD_MEMBER, KEY_MEMBER, RECORD_MEMBER
from airflow_oauth_provider.connection.fields import FIELDS, STANDARD_FIELDS
from airflow_oauth_provider.oauth2.redaction import MASK
from airflow_oauth_provider.tokens.record import Record
from tests.e2e.connection_form import SECTIONS, SHOWN, Form
from tests.e2e.in_browser import PATIENCE
from tests.servers.browser import open_browser
from tests.servers.record_put import put_record

ALWAYS_THERE = ("Standard Fields", "Extra Fields JSON")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def page(airflow):
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, base_url=airflow.url)
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.goto("/")
        page.locator("input[name=username]").fill(airflow.username)
        page.locator("input[name=password]").fill(airflow.password)
        page.locator("button[type=submit]").click()
        expect(page.get_by_text("Home", exact=True).first).to_be_visible()
        yield page


@pytest.fixture
def conn_id():
    return f"form_{next(_numbers)}"


@pytest.fixture(scope="module")
def blank(page):
    """A form that nobody saves, for the tests that only look."""
    return Form.new(page, "never_saved")


def write_record_as_a_worker_does(airflow, conn_id: str, generation: int, if_version: str | None = None) -> tuple:
    record = Record(generation=generation, refresh_token=f"rotated-{generation}", access_token="a").to_json()
    key = airflow.connection(conn_id)["extra"]["token_record_key"]
    answer = put_record(airflow.url, conn_id, key, record, if_version)
    assert answer.ok, answer.text
    return record, answer.json()["version"]


def changes(before: dict, after: dict) -> dict:
    """What differs, key by key of the connection and of its extra."""
    before, after = ({**row.pop("extra"), **{f"column {k}": v for k, v in row.items()}} for row in (before, after))
    absent = "(absent)"
    return {
        key: (before.get(key, absent), after.get(key, absent))
        for key in before.keys() | after.keys()
        if before.get(key, absent) != after.get(key, absent)
    }


def test_a_new_form_has_every_field_in_its_section_with_its_help(blank):
    assert blank.sections() == [ALWAYS_THERE[0], *SECTIONS, ALWAYS_THERE[1]]
    for field in STANDARD_FIELDS:
        if field.hidden:
            expect(blank.standard(field.name)).to_have_count(0)
        else:
            expect(blank.dialog.get_by_text(field.title, exact=True)).to_be_visible()
            expect(blank.standard(field.name)).to_have_attribute("placeholder", field.placeholder)
    for field in SHOWN:
        blank.open(field.section)
        row = blank.row(field)
        expect(row).to_be_visible()
        expect(row).to_contain_text(field.description)
        if field.choices or field.kind == "boolean":
            expect(row.get_by_role("combobox")).to_be_visible()
            expect(row).to_contain_text(field.unchosen)
        if field.secret:
            expect(blank.input(field)).to_have_attribute("type", "password")


def test_what_the_program_keeps_is_not_shown(blank):
    for name in SECTIONS:
        blank.open(name)
        expect(blank.dialog.locator(f"#element_{RECORD_MEMBER}:visible")).to_have_count(0)
        expect(blank.dialog.get_by_text("Kept by Airflow")).to_have_count(0)


def test_a_drop_down_offers_every_choice_and_none(blank):
    field = next(field for field in SHOWN if field.key == "refresh_when")

    blank.input(field).click()

    expect(blank.page.get_by_role("option")).to_have_text(
        [field.unchosen, *(field.labels.get(choice, choice) for choice in field.choices)]
    )
    blank.page.keyboard.press("Tab")


def test_the_json_of_the_extra_is_reachable(blank):
    blank.open("Extra Fields JSON")

    expect(blank.dialog.locator(".monaco-editor").last).to_contain_text("oauth_url")


def test_create_reopen_edit_one_field_save_again(airflow, page, conn_id):
    form = Form.new(page, conn_id)
    form.standard("host").fill("https://api.example.com/v1")
    form.standard("login").fill("client-1")
    form.standard("password").fill("first client secret")
    entered = {
        "oauth_url": "https://login.example.com/oauth/token",
        "auth_method": "client_secret_post",
        "scope": "offline_access read",
        "refresh_token": "entered-refresh-1",
        "refresh_when": "unauthorized",
        "leeway": "90",
        "resend_lost_response": "false",
        "store": "connection",
        "allowed_hosts": "https://files.example.com, b.example.com:8443",
        "headers": '{"Accept": "application/json"}',
        "timeout": "12.5",
        "verify": "/etc/ssl/company.pem",
    }
    for key, value in entered.items():
        form.enter(key, value)
    form.save()

    created = airflow.connection(conn_id)
    assert created["host"] == "https://api.example.com/v1"
    assert created["login"] == "client-1"
    assert created["password"] == "first client secret"
    provisions = {RECORD_MEMBER, KEY_MEMBER, GUARD_MEMBER}  # of the API server
    stored = {key: value for key, value in created["extra"].items() if value is not None and key not in provisions}
    assert stored == {**entered, "leeway": 90, "timeout": 12.5}
    assert created["extra"].keys() == {field.key for field in FIELDS if field.in_form} | provisions

    # Nothing was rotated yet; while the form is open a worker writes the first record.
    form = Form.of(page, conn_id)
    form.open("Needed")
    record, version = write_record_as_a_worker_does(airflow, conn_id, 1)
    form.enter("audience", "https://api.example.com")
    form.save()

    edited = airflow.connection(conn_id)
    assert changes(created, edited) == {
        "audience": (None, "https://api.example.com"),
        RECORD_MEMBER: (MASK, record),
    }

    # And once more, with a record that is replaced while the form is open.
    edited = airflow.connection(conn_id)
    form = Form.of(page, conn_id)
    newer, _ = write_record_as_a_worker_does(airflow, conn_id, 2, version)
    form.enter("leeway", "30")
    form.save()

    assert changes(edited, airflow.connection(conn_id)) == {"leeway": (90, 30), RECORD_MEMBER: (record, newer)}


def test_a_person_enters_a_new_refresh_token(airflow, page, conn_id):
    form = Form.new(page, conn_id)
    form.enter("refresh_token", "entered-refresh-1")
    form.save()
    record, _ = write_record_as_a_worker_does(airflow, conn_id, 1)
    before = airflow.connection(conn_id)

    form = Form.of(page, conn_id)
    form.enter("refresh_token", "entered-refresh-2")
    form.save()

    after = airflow.connection(conn_id)
    assert after["extra"][RECORD_MEMBER] == record
    assert changes(before, after) == {"refresh_token": ("entered-refresh-1", "entered-refresh-2")}


def test_a_choice_is_taken_back(airflow, page, conn_id):
    form = Form.new(page, conn_id)
    form.enter("store", "vault")
    form.save()
    form = Form.of(page, conn_id)
    form.enter("store", next(field for field in SHOWN if field.key == "store").unchosen)
    form.save()

    assert airflow.connection(conn_id)["extra"]["store"] is None


def test_a_connection_made_elsewhere_keeps_its_values_and_their_types(airflow, page, conn_id):
    extra = {
        "token_url": "https://login.example.com/token",
        "refresh_token": "entered-refresh-1",
        "verify": False,
        "resend_lost_response": False,
        "leeway": 0,
        "headers": {"Accept": "text/csv", "X-Api-Token": "hush"},
        "allowed_hosts": ["https://a.example", "b.example"],
        "proxies": {"https": "http://user:word@proxy.example:3128"},
        "cert": ["/a.pem", "/a.key"],
        "my_own": {"a": [1, 2.5, None]},
        "stream": False,
    }
    columns = {"conn_type": "oauth2", "host": "api.example.com", "schema": "https", "port": 8443, "login": "c"}
    airflow.add_connection(conn_id, {**columns, "password": "a client secret", "extra": extra})
    write_record_as_a_worker_does(airflow, conn_id, 1)
    before = airflow.connection(conn_id)
    assert before["extra"].items() >= extra.items()

    form = Form.of(page, conn_id)
    form.enter("leeway", "15")
    form.save()

    assert changes(before, airflow.connection(conn_id)) == {"leeway": (0, 15)}


def test_the_first_record_is_written_while_a_form_that_never_saw_one_is_open(airflow, page, conn_id):
    extra = {"refresh_token": "entered-refresh-1", "leeway": 90}  # the form shows the keys that are there
    airflow.add_connection(conn_id, {"conn_type": "oauth2", "extra": extra})
    before = airflow.connection(conn_id)

    form = Form.of(page, conn_id)
    record, _ = write_record_as_a_worker_does(airflow, conn_id, 1)
    form.enter("leeway", "15")
    form.save()

    assert changes(before, airflow.connection(conn_id)) == {"leeway": (90, 15), RECORD_MEMBER: ("(absent)", record)}


def test_no_secret_reaches_the_page(airflow, page, conn_id):
    secrets = {"refresh_token": "refresh-of-test-9", "access_token": "access-of-test-9"}
    airflow.add_connection(
        conn_id, {"conn_type": "oauth2", "password": "client-secret-of-test-9", "extra": json.dumps(secrets)}
    )
    write_record_as_a_worker_does(airflow, conn_id, 9)
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    form = Form.of(page, conn_id)
    form.open("Needed")

    seen = page.content() + "".join(answer.text() for answer in answers if "/connections" in answer.url)
    assert re.findall("refresh-of-test|access-of-test|client-secret-of|rotated-9", seen) == []
