"""Who is told of what: listeners of the deployment, Airflow's metrics, and the log of the task."""

from __future__ import annotations

import logging
import sys
import types

import pytest

from airflow_oauth_provider.compat import api_server, sdk
from airflow_oauth_provider.compat.api_server import grant_url
from airflow_oauth_provider.connection.notices import handle_event, log_what_to_do
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.doctor.grants import Grant, report_dead_grants
from airflow_oauth_provider.exceptions import (
    ConfigurationError,
    InvalidClient,
    ReauthorizationRequired,
    StoreUnavailable,
    TokenRequestError,
)
from airflow_oauth_provider.tokens import decision, messages
from airflow_oauth_provider.tokens.events import KINDS, GrantEvent
from airflow_oauth_provider.tokens.grant_state import GrantState, State
from airflow_oauth_provider.tokens.manager import TokenManager
from airflow_oauth_provider.tokens.record import DeadGrant, Record, fingerprint
from airflow_oauth_provider.triggers.events import error_event, raise_error_of

BASE = "https://airflow.example/team"
PAGE = f"{BASE}/oauth2-grants/grant?connection=xero"
CONNECTION = types.SimpleNamespace(
    conn_type="oauth2",
    host="https://api.example.com",
    schema=None,
    port=None,
    login="client",
    password="secret",
    extra='{"oauth_url": "https://login.example.com/token"}',
)


@pytest.fixture(autouse=True)
def base_url(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"{BASE}/")


@pytest.fixture
def told(monkeypatch):
    """What the deployment's listeners heard."""
    heard = []
    module = types.ModuleType("listeners_of_the_test")
    module.first = heard.append
    module.broken = lambda notice: 1 / 0
    module.last = heard.append
    monkeypatch.setitem(sys.modules, module.__name__, module)
    paths = [f"{module.__name__}:{name}" for name in ("first", "broken", "last")]
    monkeypatch.setenv("AIRFLOW__OAUTH2__LISTENERS", ", ".join(paths))
    return heard


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """What went to Airflow's metrics."""
    found = []

    class Stats:
        @staticmethod
        def incr(name, tags):
            found.append(("incr", name, tags))

        @staticmethod
        def timing(name, value, tags):
            found.append(("timing", name, value, tags))

        @staticmethod
        def gauge(name, value, tags):
            found.append(("gauge", name, value, tags))

    monkeypatch.setattr(sdk, "Stats", Stats, raising=False)
    return found


def event(kind, **more):
    return GrantEvent(kind, "xero", 1_800_000_000.0, **{"actor": "dag/task", **more})


@pytest.mark.parametrize(
    ("happened", "words"),
    [
        (event("ends_soon", seconds=3 * 86400.0), "ends in 3 days"),
        (event("sign_in_again"), "Sign in again"),
        (event("sign_in_again", detail="waits"), "A run waits for that: dag/task"),
        (event("works_again"), "works again"),
        (event("rotation_not_saved", detail="fallback"), "fallback store"),
        (event("rotation_not_saved", detail="lost"), "could not be written anywhere"),
    ],
)
def test_listeners_hear_what_concerns_people_and_one_that_fails_harms_nobody(told, caplog, happened, words):
    handle_event(happened)

    assert len(told) == 2  # the broken one is between them
    notice = told[0]
    assert (notice.kind, notice.conn_id, notice.url, notice.actor) == (happened.kind, "xero", PAGE, "dag/task")
    assert "'xero'" in notice.text
    assert words in str(notice)
    assert str(notice).endswith(PAGE)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "kind", sorted(set(KINDS) - {"ends_soon", "sign_in_again", "works_again", "rotation_not_saved"})
)
def test_listeners_hear_of_nothing_else(told, kind):
    handle_event(event(kind, seconds=1.0))

    assert told == []


def test_a_listener_that_cannot_be_imported_is_named(monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__OAUTH2__LISTENERS", "no_such_module:f, json:no_such_function")

    handle_event(event("works_again"))

    assert "no_such_module:f" in caplog.text
    assert "json:no_such_function" in caplog.text


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        (
            event("refreshed", seconds=0.25),
            [("incr", "oauth2.refreshes", {}), ("timing", "oauth2.refresh_duration", 250.0, {})],
        ),
        (event("failed", detail="InvalidClient"), [("incr", "oauth2.refresh_failures", {"cause": "InvalidClient"})]),
        (event("waited", seconds=2.0), [("timing", "oauth2.lease_wait_duration", 2000.0, {})]),
        (event("ends_soon", seconds=60.0), [("gauge", "oauth2.refresh_token_seconds_left", 60.0, {})]),
        (event("sign_in_again"), [("incr", "oauth2.dead_grants", {})]),
        (event("signed_in"), [("incr", "oauth2.sign_ins", {})]),
        (event("revoked"), [("incr", "oauth2.revocations", {})]),
    ],
)
def test_everything_is_counted(counted, happened, expected):
    handle_event(happened)

    assert counted == [(*entry[:-1], {"conn_id": "xero", **entry[-1]}) for entry in expected]


def test_every_kind_of_event_has_a_metric(counted):
    for kind in KINDS:
        counted.clear()
        handle_event(event(kind, seconds=1.0))
        assert counted, kind


def test_the_grants_that_wait_for_a_person_are_a_gauge(monkeypatch):
    told = []
    gauge = types.SimpleNamespace(gauge=lambda name, value: told.append((name, value)))
    monkeypatch.setattr(sdk, "Stats", gauge)
    fresh, dead, unread = (
        Grant("x", "", "", GrantState(state, "")) for state in (State.FRESH, State.SIGN_IN_AGAIN, State.NOT_READ)
    )

    report_dead_grants([fresh, dead, dead])
    report_dead_grants([fresh])
    report_dead_grants([dead, unread])

    assert told == [("oauth2.grants_to_sign_in", 2), ("oauth2.grants_to_sign_in", 0)]


@pytest.mark.parametrize("when", ["refused", "at the next task", "nothing yet", "it ends soon"])
def test_what_a_person_reads_names_the_page(monkeypatch, when):
    configuration = read_settings("xero", CONNECTION).grant_configuration()
    page = configuration.sign_in_page
    assert page == PAGE
    record = Record(refresh_token="r", dead=DeadGrant(fingerprint("r"), "invalid_grant", 1.0))
    said = {
        "refused": messages.dead_grant(configuration, record.dead, "gone"),
        "at the next task": str(decision._check_refreshable(configuration, record)),
        "nothing yet": str(decision._check_refreshable(configuration, Record())),
        "it ends soon": messages.refresh_token_ends(configuration, 0.0, 60.0),
    }[when]

    assert f"ign in {'' if when == 'nothing yet' else 'again '}at {PAGE}, " in said
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    assert read_settings("xero", CONNECTION).grant_configuration().sign_in_page == ""


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ReauthorizationRequired("x"), f"a person has to sign in again: {PAGE}"),
        (ConfigurationError("x"), f"a person has to mend the connection: {PAGE}"),
        (InvalidClient("x"), f"a person has to mend the connection: {PAGE}"),
    ],
)
def test_what_a_person_has_to_do_stands_on_a_short_line(caplog, failure, words):
    log_what_to_do(failure, "xero")

    (line,) = [found.getMessage() for found in caplog.records]
    assert words in line
    assert len(line) < 150


@pytest.mark.parametrize("failure", [TokenRequestError("x"), StoreUnavailable("x")])
def test_what_passes_by_itself_needs_nobody(caplog, failure):
    log_what_to_do(failure, "xero")

    assert caplog.records == []


def test_without_pages_it_names_the_command(monkeypatch, caplog):
    monkeypatch.setattr(api_server, "HAS_PAGES", False)

    log_what_to_do(ReauthorizationRequired("x"), "xero")

    assert grant_url("xero") == ""
    assert "python -m airflow_oauth_provider authorize xero" in caplog.text


def test_a_name_is_encoded_in_the_address():
    assert grant_url("a b/c&d").endswith("grant?connection=a%20b%2Fc%26d")


def test_an_error_of_a_trigger_is_told_in_the_log_of_its_task(caplog):
    caplog.set_level(logging.ERROR)
    failed = error_event(ReauthorizationRequired("Connection 'xero': dead"), "xero")

    with pytest.raises(ReauthorizationRequired):
        raise_error_of(failed)

    assert PAGE in caplog.text


def test_the_manager_of_a_task_tells(caplog):
    from airflow_oauth_provider.http.access import _OutspokenTokenManager
    from airflow_oauth_provider.tokens.decision import TokenRequirements

    class Dead:
        def load(self):
            raise ReauthorizationRequired("Connection 'xero': dead")

    manager = _OutspokenTokenManager("xero", Dead())
    assert isinstance(manager, TokenManager)
    with pytest.raises(ReauthorizationRequired):
        manager.obtain(TokenRequirements())

    assert PAGE in caplog.text
