"""What a trigger sends on its way to the database: nothing that is as good as a password, nothing it cannot take."""

from __future__ import annotations

import json

import pytest
from requests import Response
from requests.structures import CaseInsensitiveDict

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.triggers import events
from airflow_oauth_provider.triggers.http import OAuth2HttpEventTrigger, OAuth2HttpSensorTrigger, OAuth2HttpTrigger


def answer(headers=(), reason="OK", url="https://api.example.com/items", encoding="utf-8", history=()):
    response = Response()
    response._content, response.status_code = b"{}", 200
    response.reason, response.url, response.encoding = reason, url, encoding
    response.headers, response.history = CaseInsensitiveDict(headers), list(history)
    return response


@pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie", "SET-COOKIE", "Set-Cookie2"])
@pytest.mark.parametrize("is_redirect", [False, True])
@pytest.mark.parametrize("pack", [lambda response: events.pack_pages([response]), events.pack_page])
def test_a_cookie_stays_out_of_the_database(name, is_redirect, pack):
    with_cookie = answer({name: "session=as-good-as-a-password; HttpOnly", "Content-Type": "application/json"})
    packed = json.dumps(pack(answer(history=[with_cookie]) if is_redirect else with_cookie))
    assert "as-good-as-a-password" not in packed
    assert "application/json" in packed


@pytest.mark.parametrize("odd", ["\ud800", "caf\udce9", "\0", "\udfff\udfff"])
def test_what_no_database_takes_ends_no_triggerer(odd):
    """An event with a lone surrogate cannot be sent to the supervisor, and the triggerer would end."""
    response = answer({"X-Name": odd, f"X-{odd}": "a"}, reason=odd, url=f"https://api.example.com/{odd}", encoding=odd)
    sent = [*events.pack_pages([response]), events.pack_page(response), events.error_event(ApiError(odd), "xero")]
    for event in sent:
        text = json.dumps(event, ensure_ascii=False)
        assert text.encode("utf-8")
        assert "\\u0000" not in text


@pytest.mark.parametrize(
    ("trigger", "kept"),
    [
        (
            OAuth2HttpTrigger("xero", "GET", "/items", {"x": "y"}, output={"path": "s3://lake/x"}, concurrent_pages=3),
            {"oauth2_conn_id": "xero", "method": "GET", "headers": {"x": "y"}, "concurrent_pages": 3},
        ),
        (
            OAuth2HttpSensorTrigger(oauth2_conn_id="xero", poke_interval=5.0, wait_on=["404", "5"], first_pause=1.0),
            {"poke_interval": 5.0, "wait_on": ["404", "5"], "first_pause": 1.0, "method": "POST"},
        ),
        (
            OAuth2HttpEventTrigger("checks.ready", http_conn_id="xero", poll_interval=7.0, max_attempts=1),
            {"response_check_path": "checks.ready", "oauth2_conn_id": "xero", "method": "GET", "poll_interval": 7.0},
        ),
    ],
)
def test_a_trigger_is_made_again_from_what_it_serializes(trigger, kept):
    """Every argument goes to the database and comes back, that of a subclass too."""
    path, arguments = trigger.serialize()

    again = type(trigger)(**json.loads(json.dumps(arguments)))

    assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
    assert kept.items() <= arguments.items()
    assert again.serialize() == (path, arguments)
