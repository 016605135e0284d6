"""The state of a grant is a pure function of connection, record and time."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from airflow_oauth_provider.doctor.grants import Grant, sort_by_urgency
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration, RefreshPolicy
from airflow_oauth_provider.tokens.grant_state import GrantState, State, determine_state, format_duration, read_name
from airflow_oauth_provider.tokens.record import DeadGrant, Record, fingerprint

NOW = 1_800_000_000.0
DAY = 86400.0
CONFIGURATION = GrantConfiguration("acme", Client("client", "https://as.example/token"))


def record(**changes):
    fields = {
        "generation": 3,
        "refresh_token": "rt-1",
        "access_token": "at-1",
        "issued_at": NOW - 60,
        "expires_in": 600,
    }
    return Record(**{**fields, **changes})


def dead(error="invalid_grant", token="rt-1"):
    return DeadGrant(CONFIGURATION.fingerprint_for_client(token), error, NOW - 5)


@pytest.mark.parametrize(
    ("stored", "state", "words"),
    [
        (record(), State.FRESH, "another 9 minutes"),
        (record(expires_in=None), State.FRESH, "did not say"),
        (record(expires_in=30), State.WILL_REFRESH, "the next task refreshes it"),
        (record(access_token=None, expires_in=None), State.WILL_REFRESH, "no access token yet"),
        (None, State.NEVER_SIGNED_IN, "nobody has signed in"),
        (record(refresh_token=None), State.NEVER_SIGNED_IN, "no refresh token"),
        (record(dead=dead()), State.SIGN_IN_AGAIN, "was refused (invalid_grant)"),
        (record(dead=DeadGrant(fingerprint("rt-1"), "revoked", NOW)), State.SIGN_IN_AGAIN, "was revoked"),
        (record(dead=dead(token="rt-0")), State.FRESH, "works"),  # of another refresh token
        (record(refresh_expires_at=NOW - 1), State.SIGN_IN_AGAIN, "The refresh token ended at"),
        (record(refresh_expires_at=NOW + 3 * DAY), State.ENDS_SOON, "in 3 days"),
        (record(refresh_expires_at=NOW + 30 * DAY), State.FRESH, "works"),
        # What a person has to do comes before what the next task does by itself.
        (record(expires_in=30, refresh_expires_at=NOW + DAY), State.ENDS_SOON, "in 24 hours"),
    ],
)
def test_states_of_a_grant_that_a_person_signs_in_for(stored, state, words):
    found = determine_state(CONFIGURATION, stored, NOW)

    assert found.state is state
    assert words in found.reason


def test_the_connection_says_how_early_a_person_hears_of_the_end():
    patient = replace(CONFIGURATION, policy=RefreshPolicy(warn_before=40 * DAY))

    assert determine_state(patient, record(refresh_expires_at=NOW + 30 * DAY), NOW).state is State.ENDS_SOON


@pytest.mark.parametrize(
    ("entered", "state"),
    [
        (EnteredTokens(access_token="at"), State.FRESH),
        (EnteredTokens(access_token="at", expires_at=NOW - 1), State.WRONG_CONFIGURATION),
        (EnteredTokens(), State.WRONG_CONFIGURATION),
    ],
)
def test_a_token_that_is_never_refreshed(entered, state):
    fixed = replace(CONFIGURATION, policy=RefreshPolicy(when="never"), entered=entered)

    assert determine_state(fixed, None, NOW).state is state


def test_a_grant_without_a_person_needs_no_sign_in():
    machine = replace(CONFIGURATION, grant_type="client_credentials")

    assert determine_state(machine, None, NOW).state is State.WILL_REFRESH


def test_who_refreshed_last():
    stored = record().with_event(NOW - 90, "refreshed", "dag/task").with_event(NOW - 5, "waited", "other/task")

    found = determine_state(CONFIGURATION, stored, NOW)

    assert (found.last_refresh.at, found.last_refresh.actor, found.refreshes) == (NOW - 90, "dag/task", 3)


def test_a_record_without_history_still_says_when():
    assert determine_state(CONFIGURATION, record(), NOW).last_refresh.at == NOW - 60
    assert determine_state(CONFIGURATION, record(generation=0), NOW).last_refresh is None


def id_token(claims):
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "signature"])


@pytest.mark.parametrize(
    ("response", "name"),
    [
        ({"id_token": id_token({"sub": "42", "email": "ada@example.com"})}, "ada@example.com"),
        ({"id_token": id_token({"sub": "42"}), "email": "other@example.com"}, "42"),
        ({"user_email": "ada@example.com"}, "ada@example.com"),
        ({"id_token": "not.a.token"}, ""),
        ({"id_token": "x"}, ""),
        ({"id_token": id_token(["a list"])}, ""),
        ({"email": "a\u0000\u202eb" * 100}, ("ab" * 100)[:100]),
        ({"email": 7}, ""),
        ({}, ""),
    ],
)
def test_who_has_signed_in(response, name):
    assert read_name(response) == name


def test_the_most_urgent_grant_comes_first():
    def grant(conn_id, state, until=None):
        return Grant(conn_id, "", "", GrantState(state, "", refresh_token_until=until))

    shuffled = [
        grant("fresh-b", State.FRESH),
        grant("fresh-a", State.FRESH),
        grant("soon-later", State.ENDS_SOON, NOW + 2),
        grant("never", State.NEVER_SIGNED_IN),
        grant("soon", State.ENDS_SOON, NOW + 1),
        grant("again", State.SIGN_IN_AGAIN),
    ]

    names = [found.conn_id for found in sort_by_urgency(shuffled)]
    assert names == ["again", "never", "soon", "soon-later", "fresh-a", "fresh-b"]


def test_a_line_of_the_list_holds_no_secret():
    stored = record(access_token="secret-at", refresh_token="secret-rt", response_parameters={"id_token": "secret-id"})
    state = determine_state(CONFIGURATION, stored, NOW)

    text = json.dumps(Grant("acme", "Acme", "connection", state).as_json()) + repr(state)

    assert "secret" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (-5, "0 seconds"), (119, "119 seconds"), (7200, "2 hours"), (2 * DAY, "2 days")],
)
def test_durations_for_people(seconds, text):
    assert format_duration(seconds) == text
