"""A person's session with the pages: what a forged, foreign, old or changed request gets."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import HTTPException, Request
from starlette.responses import Response

from airflow_oauth_provider.api_server import session

SESSION = "s" * 43


class User:
    def __init__(self, name="ada"):
        self.name = name

    def get_name(self):
        return self.name


@pytest.fixture(autouse=True)
def airflow(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/team/")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "the same for all workers")


def request(cookies=None, **headers):
    lines = {"host": "internal:8080", **{name.replace("_", "-"): value for name, value in headers.items()}}
    cookies = {session.SESSION_COOKIE: SESSION} if cookies is None else cookies
    if cookies:
        lines["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    raw = [(name.encode(), value.encode()) for name, value in lines.items()]
    return Request(
        {"type": "http", "method": "POST", "path": "/", "headers": raw, "scheme": "http", "query_string": b""}
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a client that sends neither: the form token decides
        {"origin": "https://airflow.example"},  # behind a proxy, as people see it
        {"origin": "http://internal:8080", "sec_fetch_site": "same-origin"},
    ],
)
def test_a_form_of_ones_own_is_taken(headers):
    ours = request(**headers)

    session.check_form(ours, session.form_token(ours, User()), User())


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "https://airflow.example.evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"origin": "https://airflow.example", "sec_fetch_site": "cross-site"},
    ],
)
def test_a_form_of_another_site_is_refused_even_with_the_right_token(headers):
    forged = request(**headers)

    with pytest.raises(HTTPException) as refusal:
        session.check_form(forged, session.form_token(forged, User()), User())
    assert refusal.value.status_code == 403


def test_a_token_is_bound_to_the_session_and_the_person():
    ours = request()
    token = session.form_token(ours, User())

    for foreign, user, sent in (
        (ours, User("eve"), token),
        (request(cookies={session.SESSION_COOKIE: "t" * 43}), User(), token),
        (request(cookies={}), User(), token),
        (ours, User(), ""),
        (ours, User(), token[:-1]),
        (ours, User(), "ä"),
    ):
        with pytest.raises(HTTPException):
            session.check_form(foreign, sent, user)


def test_a_session_of_a_wrong_length_is_replaced():
    asked, answer = request(cookies={session.SESSION_COOKIE: "short"}), Response()

    session.keep_session(asked, answer)

    assert f"{session.SESSION_COOKIE}={session.session_id(asked)}; " in answer.headers["set-cookie"]
    kept = Response()
    session.keep_session(request(), kept)
    assert "set-cookie" not in kept.headers


def test_a_bearer_token_needs_no_form_token():
    session.check_form(request(authorization="Bearer x"), "", User())


def test_another_secret_makes_other_tokens(monkeypatch):
    ours = request()
    token = session.form_token(ours, User())
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "another")

    with pytest.raises(HTTPException):
        session.check_form(ours, token, User())


def test_a_seal_opens_for_its_purpose_only_and_unchanged():
    sealed = session.seal("a purpose", {"state": "x"})

    assert session.unseal("a purpose", sealed, 60) == {"state": "x"}
    assert "state" not in sealed
    for purpose, text, lifetime in (
        ("another", sealed, 60),
        ("a purpose", sealed[:-2] + "xx", 60),
        ("a purpose", "", 60),
        ("a purpose", None, 60),
        ("a purpose", sealed, -1),
        ("a purpose", session.seal("a purpose", ["a list"]), 60),  # type: ignore[arg-type]
    ):
        assert session.unseal(purpose, text, lifetime) is None


def test_cookies_are_for_these_pages_and_no_script():
    response = Response()
    session.keep_session(request(cookies={}), response)

    cookie = response.headers["set-cookie"].lower()
    for part in ("httponly", "secure", "samesite=lax", "path=/team/oauth2-grants"):
        assert part in cookie


def test_without_a_secret_nothing_is_sealed(monkeypatch):
    monkeypatch.setattr(session.api_server, "signing_secret", lambda: "")

    with pytest.raises(HTTPException) as refusal:
        session.seal("a purpose", {})
    assert refusal.value.status_code == 503


async def read(body):
    sent = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        return next(sent)

    return await session.read_form(Request({**request().scope}, receive))


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"connection=a%20b&form_token=t", {"connection": "a b", "form_token": "t"}),
        (b"connection=first&connection=second", {"connection": "first"}),
        (b"connection=", {"connection": ""}),
        (b"", {}),
    ],
)
def test_forms_are_read(body, form):
    assert asyncio.run(read(body)) == form


@pytest.mark.parametrize(("body", "status"), [(b"a=" + b"b" * 20_000, 413), (b"\xff=1", 400), (b"a=1&" * 60, 400)])
def test_forms_that_are_none_are_refused(body, status):
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(read(body))
    assert refusal.value.status_code == status
