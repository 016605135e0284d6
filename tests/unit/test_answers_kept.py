"""What of an answer is kept beside the tokens: no more than stores take, and only text that every place can hold."""

from __future__ import annotations

import json
import logging

import pytest

from airflow_oauth_provider.oauth2.token_response import MAX_OTHERS, TokenResponse, parse_token_response
from airflow_oauth_provider.oauth2.transport import HttpResponse
from airflow_oauth_provider.tokens.record import Record

TOKENS = {"access_token": "access-1", "refresh_token": "refresh-1"}


def parsed(**members: object) -> TokenResponse:
    return of_body(json.dumps({**TOKENS, **members}))


def of_body(body: str) -> TokenResponse:
    headers = {"content-type": "application/json"}
    return parse_token_response(HttpResponse("https://login.example/token", 200, headers, body.encode()))


def test_what_fits_is_kept_as_it_came(caplog):
    members = {"id_token": "i" * 3000, "user": {"roles": ["r" * 100] * 100}, "instance_url": "https://eu.example"}
    assert parsed(**members).others == members
    assert caplog.records == []


def test_the_largest_members_go_and_the_log_names_them(caplog):
    with caplog.at_level(logging.WARNING):
        answer = parsed(permissions=["p" * 100] * 500, groups="g" * 20_000, tenant="acme", n=1)
    assert dict(answer.others) == {"tenant": "acme", "n": 1}
    assert (answer.access_token, answer.refresh_token) == ("access-1", "refresh-1")
    (line,) = caplog.messages
    assert "https://login.example/token" in line
    assert line.endswith("Not kept: permissions, groups")


def test_no_more_goes_than_has_to():
    assert set(parsed(a="a" * 12_000, b="b" * 3000, c="c" * 3000).others) == {"b", "c"}


def test_what_is_named_a_token_goes_last():
    assert set(parsed(id_token="i" * 9000, photo="x" * 8000).others) == {"id_token"}


@pytest.mark.parametrize("members", [{f"m{n}": n for n in range(5000)}, {"id_token": "i" * 900_000}, {"ü": "ü" * 9000}])
def test_the_record_stays_below_what_stores_take(members):
    answer = parsed(**members)
    assert len(json.dumps(answer.others)) <= MAX_OTHERS
    kept = Record(access_token="a" * 3000, refresh_token="r" * 2000, response_parameters=answer.others)
    assert len(kept.to_json()) < 25_600


def test_a_secret_in_a_members_name_is_not_logged(caplog):
    parsed(**{"access-1 is the token": "x" * 20_000})
    assert len(caplog.messages) == 1
    assert "access-1" not in caplog.text


@pytest.mark.parametrize("half", ["\\ud800", "\\uDFFF", "\\ude00\\ud83d"])
def test_halves_of_characters_are_replaced(half):
    answer = of_body(f'{{"access_token": "at", "refresh_token": "r{half}", "id_token": "a{half}b", "n{half}": [1.5]}}')
    record = Record(refresh_token=answer.refresh_token, response_parameters=answer.others)
    record.to_json().encode()
    assert str(answer.others["id_token"]).encode().startswith(b"a")
    assert "\N{REPLACEMENT CHARACTER}" in answer.others["id_token"]
    assert (answer.refresh_token or "").encode().decode().startswith("r")
    assert [value for name, value in answer.others.items() if name.startswith("n")] == [[1.5]]


def test_whole_characters_stay():
    assert of_body('{"access_token": "at", "name": "\\ud83d\\ude00 ü"}').others == {"name": "\N{GRINNING FACE} ü"}
