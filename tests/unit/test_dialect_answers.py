"""Whatever a server answers in whatever dialect: a token, or one of the package's own errors."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_oauth_provider.oauth2 import errors, expressions
from airflow_oauth_provider.oauth2.client import PLACEABLE, STANDARD_CODES, Dialect, ErrorMark
from airflow_oauth_provider.oauth2.times import LONGEST
from airflow_oauth_provider.oauth2.token_response import parse_token_response
from airflow_oauth_provider.oauth2.transport import HttpResponse

NAMES = st.sampled_from([*PLACEABLE, "ok", "data", "errors", "code"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(STANDARD_CODES)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
PATHS = st.sampled_from(["$", "$.data", "$.data.code", "$.errors[0].code", "$['data'].access_token", "$.ok[3]"])
DIALECTS = st.builds(
    Dialect,
    paths=st.dictionaries(st.sampled_from(PLACEABLE), PATHS, max_size=4),
    milliseconds=st.booleans(),
    default_expires_in=st.none() | st.just(60.0),
    accepted_types=st.sampled_from([(), ("bearer",)]),
    error_codes=st.dictionaries(st.text(max_size=5), st.sampled_from(STANDARD_CODES), max_size=2),
    error_mark=st.none() | st.builds(ErrorMark, PATHS, st.sampled_from(["^false$", "Denied|^x", "1"])),
    scope_separator=st.sampled_from(" ,;"),
)


@settings(max_examples=300, deadline=None)
@given(
    members=st.dictionaries(NAMES, VALUES, max_size=8),
    status=st.sampled_from([200, 201, 302, 400, 401, 403, 429, 500, 503]),
    date=st.sampled_from(["", "Sat, 21 Nov 2026 09:00:00 GMT", "nonsense", "Sat, 99 Nov 2026 09:00:00 GMT"]),
    dialect=DIALECTS,
)
def test_a_token_or_a_typed_error(members, status, date, dialect):
    headers = {"content-type": "application/json", **({"date": date} if date else {})}
    answer = HttpResponse("https://login.example.com/token", status, headers, json.dumps(members).encode())
    try:
        token = parse_token_response(answer, ["a secret that is long"], dialect)
    except errors.OAuth2ProtocolError as error:
        assert str(error).startswith("https://login.example.com/token answered")  # noqa: PT017
    else:
        assert 200 <= status < 300
        assert token.access_token.isprintable()
        assert token.expires_in is None or 0 < token.expires_in <= LONGEST


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", {"a": [{"b": 1}], "c d": 2, "n": None}),
        ("$.a[0].b", 1),
        ("$['a'][0]['b']", 1),
        ('$["c d"]', 2),
        ("$.a[1].b", None),
        ("$.a.b", None),
        ("$.n.x", None),
        ("$.zzz", None),
    ],
)
def test_plain_paths_need_no_library(path, found, monkeypatch):
    monkeypatch.setattr(expressions, "_compile", lambda _: pytest.fail("asked the library"))
    assert expressions.find(path, {"a": [{"b": 1}], "c d": 2, "n": None}) == found


DOCUMENT = {
    "tokens": [{"type": "id", "value": "the id"}, {"type": "access", "value": "the token"}],
    "deep": {"access_token": "further down"},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.tokens[?(@.type=='access')].value", "the token"),
        ('$.tokens[?(@.type == "access")].value', "the token"),
        ("$.tokens[*].value", "the id"),
        ("$.tokens[-1].value", "the token"),
        ("$..access_token", "further down"),
        ("$.tokens[?(@.type=='refresh')].value", None),
    ],
)
def test_other_paths_are_the_librarys(path, found):
    expressions.check_path(path)
    assert expressions.find(path, DOCUMENT) == found


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonpath_ng.ext.parser", None)
    expressions._compile.cache_clear()
    yield
    expressions._compile.cache_clear()


def test_without_the_library_the_error_names_the_extra(no_library):
    with pytest.raises(expressions.BadPathError, match=r"install 'airflow-oauth-provider\[jsonpath\]'"):
        expressions.check_path("$.tokens[0:2].value")


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("path", ["a", "a.b", "$..[", "$.a[", "$.a['x", ""])
def test_what_is_no_path_says_so(path, library, request):
    if not library:
        request.getfixturevalue("no_library")
    with pytest.raises(expressions.BadPathError):
        expressions.check_path(path)


class TestTokensElsewhere:
    """An answer that came whole and has the tokens where nobody looked: nothing of it may be lost."""

    def parsed(self, body):
        answer = HttpResponse("https://login.example.com/token", 200, {}, json.dumps(body).encode())
        with pytest.raises(errors.UnexpectedResponse) as caught:
            parse_token_response(answer)
        return caught.value

    @pytest.mark.parametrize(
        ("body", "place"),
        [
            ({"data": {"access_token": "at", "refresh_token": "rt-2"}}, "$.data.access_token"),
            ({"data": [{"x": 1}, {"access_token": "at", "refresh_token": "rt-2"}]}, "$.data[1].access_token"),
            ({"the-tokens": {"access_token": "at", "refresh_token": "rt-2"}}, "$['the-tokens'].access_token"),
        ],
    )
    def test_the_error_says_where_and_keeps_the_refresh_token(self, body, place):
        failure = self.parsed(body)
        assert f"A token stands at {place}" in str(failure)
        assert failure.refresh_token == "rt-2"
        assert failure.is_whole
        assert "rt-2" not in str(failure)
        assert expressions.find(place, body) == "at"

    def test_a_refresh_token_that_stands_alone_is_not_taken_for_one(self):
        """It may be the name of a field with a message."""
        failure = self.parsed({"errors": {"refresh_token": "is not allowed here"}})
        assert failure.refresh_token is None
        assert failure.is_whole

    def test_a_redirect_without_a_body_says_so(self):
        answer = HttpResponse(
            "https://login.example.com/token", 302, {"location": "https://new.example.com/t?secret=1"}, b""
        )
        with pytest.raises(errors.UnexpectedResponse, match=r"redirects to https://new\.example\.com/t, and") as caught:
            parse_token_response(answer)
        assert "secret" not in str(caught.value)
