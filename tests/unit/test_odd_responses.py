"""A response that holds a token is never thrown away for something else in it; a refusal stays one as well."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_oauth_provider.oauth2 import errors, expressions, response_body
from airflow_oauth_provider.oauth2.client import Dialect, ErrorMark
from airflow_oauth_provider.oauth2.expressions import BadPatternError, compile_pattern
from airflow_oauth_provider.oauth2.response_body import MAX_DEPTH, parse_broken_objects, parse_json
from airflow_oauth_provider.oauth2.token_response import parse_error_response, parse_token_response
from airflow_oauth_provider.oauth2.transport import HttpResponse

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
TOKEN = {"token_type": "Bearer", "access_token": "new-access", "refresh_token": "new-refresh", "expires_in": 60}
REFUSAL = {"error_description": "it is dead", "error": "invalid_grant"}


def response(body: bytes | str, kind: str = JSON, status: int = 200) -> HttpResponse:
    body = body if isinstance(body, bytes) else body.encode()
    return HttpResponse("https://login.example.com/token", status, {"content-type": kind}, body)


def plus(text: str):
    """Put ``text`` into the object, before its last brace."""
    return lambda members: json.dumps(members)[:-1].encode() + b", " + text.encode("latin-1") + b"}"


#: What servers, gateways and frameworks do to a body that is right in itself.
ODD = {
    "Latin-1 in UTF-8": (plus('"name": "Jos\xe9"'), JSON),
    "half a UTF-8 character": (plus('"name": "\xe2\x82"'), "application/json; charset=utf-8"),
    "UTF-8 that claims ASCII": (plus('"name": "Jos\xc3\xa9"'), f"{JSON};charset=ascii"),
    "Latin-1 that says so": (plus('"name": "Jos\xe9"'), f"{JSON}; charset=iso-8859-1"),
    "UTF-16 that says so": (lambda m: json.dumps(m).encode("utf-16"), f'{JSON}; charset="utf-16"'),
    "UTF-16 that does not say so": (lambda m: json.dumps(m).encode("utf-16"), JSON),
    "UTF-16 without a mark": (lambda m: json.dumps(m).encode("utf-16-be"), "text/html; charset=utf-8"),
    "UTF-32": (lambda m: json.dumps(m).encode("utf-32-le"), f"{JSON}; charset=latin-1"),
    "a charset that is none": (lambda m: json.dumps(m) + " ", f"{JSON}; charset=klingon\x00"),
    "a byte order mark": (lambda m: b"\xef\xbb\xbf" + json.dumps(m).encode(), JSON),
    "an array around it": (lambda m: json.dumps([m]), JSON),
    "an array with others before": (lambda m: json.dumps([1, "x", {"ok": True}, m]), JSON),
    "an array within an array": (lambda m: json.dumps([[m]]), JSON),
    "a JSON string around it": (lambda m: json.dumps(json.dumps(m)), JSON),
    "two JSON strings around it": (lambda m: json.dumps(json.dumps(json.dumps(m))), "text/plain"),
    "a form": (lambda m: urlencode(m), FORM),
    "a form that says it is text": (lambda m: urlencode(m) + "\r\n", "text/plain;charset=UTF-8"),
    "a form that says it is JSON": (lambda m: urlencode(m), JSON),
    "a form with an odd field first": (lambda m: "&a[b]=1&" + urlencode(m), "text/html"),
    "a form with a name alone": (lambda m: "ok&" + urlencode(m), JSON),
    "a form with blanks in it": (lambda m: 'x="a b"&' + urlencode(m), "text/plain"),
    "a form with a question mark": (lambda m: "?" + urlencode(m), "text/plain"),
    "JSON that says it is a form": (lambda m: json.dumps(m), FORM),
    "blanks and NULs around it": (lambda m: "\r\n \x00" + json.dumps(m) + "\n\x00\x00", JSON),
    "not a number": (plus('"x": NaN, "y": -Infinity'), JSON),
    "a number beyond all bounds": (plus('"x": 1e999, "y": ' + "9" * 6000), JSON),
    "a line end within a string": (plus('"x": "a\nb\tc"'), JSON),
    "half a character": (plus('"x": "\\ud83d"'), JSON),
    "a deep member": (plus('"x": ' + "[" * 100_000 + "]" * 100_000), JSON),
    "a deep object": (plus('"x": ' + '{"a":' * 50_000 + "1" + "}" * 50_000), JSON),
    "a null later": (plus('"access_token": null, "error": null, "refresh_token": null'), JSON),
    "a comma at the end": (plus(""), JSON),
    "what is no JSON": (plus('"x": undefined, "y": 0123, "z": .5'), JSON),
    "text after it": (lambda m: json.dumps(m) + "\n<!-- 12 ms -->", JSON),
    "another object after it": (lambda m: json.dumps(m) + '{"access_token": 1}', JSON),
    "a guard before it": (lambda m: ")]}',\n" + json.dumps(m), JSON),
    "comments in it": (plus('/* "a", {b} */ "x": 1 /* , */, // y\n "z": 2'), JSON),
    "Python's notation": (lambda m: repr({**m, "x": "it's", "y": None, "z": True}), "text/plain"),
    "names without quotation marks": (
        lambda m: "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in m.items()) + "}",
        JSON,
    ),
    "another object before it": (lambda m: '{"ok": 1}\n' + json.dumps(m), JSON),
    "braces before it": (lambda m: "Notice: undefined {x} and { in line 3\n" + json.dumps(m), "text/plain"),
    "PHP's warning before it": (lambda m: "<br />\n<b>Notice</b>: x in <b>y</b>\n" + json.dumps(m), "text/html"),
    "a form with semicolons": (lambda m: urlencode(m).replace("&", "; "), FORM),
    "a form with a line for each field": (lambda m: urlencode(m).replace("&", "\r\n"), "text/plain"),
    "a byte order mark in a JSON string": (lambda m: json.dumps("\ufeff" + json.dumps(m) + "\0"), JSON),
    "a form in a JSON string": (lambda m: json.dumps(urlencode(m)), JSON),
    "a form in a list": (lambda m: json.dumps(["x", urlencode(m)]), JSON),
    "broken JSON in a JSON string": (lambda m: json.dumps(json.dumps(m)[:-1] + ",}"), JSON),
    "a warning before it": (lambda m: "<br />\n<b>Warning</b>: foo\n" + json.dumps(m), JSON),
}  # fmt: skip


@pytest.mark.parametrize(("make", "kind"), ODD.values(), ids=ODD)
def test_a_token_is_taken(make, kind):
    token = parse_token_response(response(make(TOKEN), kind))
    assert (token.access_token, token.refresh_token) == ("new-access", "new-refresh")
    assert token.expires_in == 60
    # What comes along can be kept, by every store.
    assert json.loads(json.dumps(token.others, allow_nan=False).encode("utf-8")) == token.others


@pytest.mark.parametrize("status", [200, 400, 401])
@pytest.mark.parametrize(("make", "kind"), ODD.values(), ids=ODD)
def test_a_refusal_is_one(make, kind, status):
    with pytest.raises(errors.InvalidGrantResponse, match=r"invalid_grant \(it is dead"):
        parse_token_response(response(make(REFUSAL), kind, status))


@pytest.mark.parametrize(("make", "kind"), ODD.values(), ids=ODD)
def test_a_refusal_of_another_endpoint_is_one(make, kind):
    assert isinstance(parse_error_response(response(make(REFUSAL), kind, 400)), errors.InvalidGrantResponse)


@pytest.mark.parametrize("token_type", ["Bearer ", " bearer", "BEARER\n", "", None, 5, ["Bearer"]])
def test_token_types(token_type):
    token = parse_token_response(response(json.dumps({**TOKEN, "token_type": token_type})))
    assert token.token_type.lower() == "bearer"


@pytest.mark.parametrize("access_token", ["abc\n", "\r\nabc", " abc "])
def test_line_ends_around_an_access_token(access_token):
    assert parse_token_response(response(json.dumps({**TOKEN, "access_token": access_token}))).access_token == "abc"


@pytest.mark.parametrize("access_token", ["a\nb", "a b", "ab\u0000", "é"])
def test_an_access_token_that_no_header_carries_leaves_the_refresh_token(access_token):
    with pytest.raises(errors.UnexpectedResponse, match="cannot stand in a header") as caught:
        parse_token_response(response(json.dumps({**TOKEN, "access_token": access_token})))
    assert caught.value.refresh_token == "new-refresh"


def test_a_body_that_was_cut_off_counts_with_both_tokens_in_it_only():
    whole = json.dumps({**TOKEN, "scope": "a b"})
    taken = []
    for end in range(len(whole)):
        try:
            token = parse_token_response(response(whole[:end]))
        except errors.UnexpectedResponse as failure:
            assert not failure.is_whole  # noqa: PT017 - it may be asked for once more
        else:
            assert (token.access_token, token.refresh_token) == ("new-access", "new-refresh")
            taken.append(end)
    assert taken == list(range(whole.index('"new-refresh"') + len('"new-refresh"'), len(whole)))


@pytest.mark.parametrize(
    "page", ['<html>{"access_token": "abc", "refresh_token": "d"}</html>', "<p>access_token=abc</p>"]
)
def test_a_page_that_quotes_a_token_is_none(page):
    with pytest.raises(errors.UnexpectedResponse, match="web page"):
        parse_token_response(response(page, "text/html"))


@pytest.mark.parametrize(
    "text",
    [
        '{"detail": {"error": "invalid_grant"}, x',
        '{"detail": [{"error": "invalid_grant"} {',
        "{detail: {'error': 'invalid_grant'}} }",
        '{"a": 1} {"detail": {"error": "invalid_grant"}} {',
    ],
)
def test_what_stands_within_a_broken_object_is_no_refusal(text):
    with pytest.raises(errors.UnexpectedResponse):
        parse_token_response(response(text, status=400))


def test_a_number_that_was_cut_off_is_none():
    whole = json.dumps({**TOKEN, "expires_in": 3600})
    for end in range(whole.index("3600") + 1, len(whole)):
        assert parse_token_response(response(whole[:end])).expires_in is None


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"data": json.dumps(TOKEN)}, r"\$\.data\.access_token"),
        ({"results": [{"text": json.dumps({"t": TOKEN})}]}, r"\$\.results\[0\]\.text\.t\.access_token"),
        ({"data": "\ufeff " + json.dumps([TOKEN])}, r"\$\.data\[0\]\.access_token"),
        ({"accessToken": "new-access", "refreshToken": "new-refresh"}, r"\$\.accessToken"),
        ({"ACCESS-TOKEN": "new-access", "Refresh_Token": "new-refresh"}, r"\$\['ACCESS-TOKEN'\]"),
        ({"a": {" access_token": "new-access", "refresh_token ": "new-refresh"}}, r"\$\.a\[' access_token'\]"),
    ],
)
def test_a_token_elsewhere_is_named_and_its_refresh_token_kept(body, place):
    with pytest.raises(errors.UnexpectedResponse, match=f"A token stands at {place}: say so") as caught:
        parse_token_response(response(json.dumps(body)))
    assert caught.value.refresh_token == "new-refresh"
    assert "new-access" not in str(caught.value)


def test_a_path_leads_into_a_json_text_and_no_token_is_kept_twice():
    body = {"data": json.dumps(TOKEN), "region": "eu"}
    paths = {"access_token": "$.data.access_token", "refresh_token": "$.data.refresh_token"}
    token = parse_token_response(response(json.dumps(body)), (), Dialect(paths=paths))
    assert (token.access_token, token.refresh_token) == ("new-access", "new-refresh")
    assert token.others == {"data": {"token_type": "Bearer", "expires_in": 60}, "region": "eu"}


@pytest.mark.parametrize(
    ("value", "kept"), [(12345, "12345"), (9**40, str(9**40)), (True, None), ([1], None), ({}, None)]
)
def test_a_refresh_token_that_is_no_text(value, kept, caplog):
    token = parse_token_response(response(json.dumps({**TOKEN, "refresh_token": value})))
    assert (token.access_token, token.refresh_token) == ("new-access", kept)
    assert ("no text" in caplog.text) is (kept is None and bool(value))


def test_a_lifetime_that_is_a_moment():
    served = {"date": "Tue, 01 Jan 2030 12:00:00 GMT", "content-type": JSON}
    for moment in (1893499260, "1893499260", 1893499260000, "1893499260.0"):
        body = json.dumps({**TOKEN, "expires_in": moment}).encode()
        answer = HttpResponse("https://login.example.com/token", 200, served, body)
        assert parse_token_response(answer).expires_in == 60


@pytest.mark.parametrize(
    ("body", "paths", "token"),
    [
        ('[{"t": "abc"}]', {"access_token": "$[0].t"}, "abc"),
        ('[{"x": {"t": "abc"}}]', {"access_token": "$.x.t"}, "abc"),
        ('["abc", "def"]', {"access_token": "$[0]", "refresh_token": "$[1]"}, "abc"),
        ('"abc"', {"access_token": "$"}, "abc"),
        ('"{\\"d\\": {\\"t\\": \\"abc\\"}}"', {"access_token": "$.d.t"}, "abc"),
        ("d=1&t=abc", {"access_token": "$.t"}, "abc"),
    ],
)
def test_response_map_on_any_json_value(body, paths, token):
    kind = FORM if "=" in body else JSON
    assert parse_token_response(response(body, kind), (), Dialect(paths=paths)).access_token == token


@pytest.mark.parametrize("body", ["5", "true", "null", "[]", "[1]", '"abc"', "{}"])
def test_response_map_that_leads_nowhere_is_a_typed_error(body):
    with pytest.raises(errors.UnexpectedResponse, match=r"answered 200: the (body|response|member)"):
        parse_token_response(response(body), (), Dialect(paths={"access_token": "$.data[0].token"}))


@pytest.mark.parametrize("status", [429, 500, 502, 503])
@pytest.mark.parametrize(("make", "kind"), [ODD["Latin-1 in UTF-8"], ODD["a form"], ODD["an array around it"]])
def test_a_failure_of_the_server_says_what_the_server_says(make, kind, status):
    with pytest.raises(errors.ServerFailure, match=r"invalid_grant \(it is dead") as caught:
        parse_token_response(response(make(REFUSAL), kind, status))
    assert caught.value.status == status
    assert "invalid_grant" in str(parse_error_response(response(make(REFUSAL), kind, status)))


def test_a_failure_of_the_server_says_no_secret():
    refusal = {"error": "server_error", "error_description": "you sent s3cr3t-value"}
    with pytest.raises(errors.ServerFailure) as caught:
        parse_token_response(response(json.dumps(refusal), status=500), ["s3cr3t-value"])
    assert "s3cr3t" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=30),
    st.integers(0, 10**6),
    st.sampled_from([JSON, FORM, "text/plain", "text/html; charset=utf-7"]),
)
def test_noise_within_a_member_never_costs_the_token(noise, place, kind):
    """Whatever bytes stand in some other string, or after the object."""
    noise = noise.replace(b'"', b"").replace(b"\\", b"")
    text = json.dumps(TOKEN)[:-1].encode()
    bodies = [b'{"x": "' + noise + b'", ' + text[1:] + b"}", text + b', "x": "' + noise + b'"}']
    if kind == JSON:
        bodies.append(text + b"}" + noise)
    for body in bodies:
        assert parse_token_response(response(body, kind)).refresh_token == "new-refresh"


class TestJson:
    @pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"a":[[{"b":'])
    @pytest.mark.parametrize("levels", [5, MAX_DEPTH, MAX_DEPTH + 1, 1000, 200_000])
    def test_depth_has_a_bound(self, opening, levels):
        closing = "".join({"[": "]", "{": "}"}[char] for char in reversed(opening) if char in "[{")
        value = parse_json(opening * levels + "1" + closing * levels)
        depth = 0
        while isinstance(value, list | dict) and value:
            value, depth = (next(iter(value.values())) if isinstance(value, dict) else value[0]), depth + 1
        assert depth <= MAX_DEPTH
        assert value == (1 if levels * len(closing) <= MAX_DEPTH else None)

    def test_brackets_in_strings_are_no_depth(self):
        text = json.dumps({"a": "[" * 100 + '"{' * 100, "b": 1})
        assert parse_json(text) == json.loads(text)

    @settings(max_examples=300, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
            max_leaves=30,
        )
    )
    def test_sound_json_is_read_as_python_reads_it(self, value):
        text = json.dumps(value)
        assert parse_json(text) == json.loads(text)
        if isinstance(value, dict):
            assert next(parse_broken_objects(text)) == ({k: v for k, v in value.items() if v is not None}, True)

    @pytest.mark.parametrize(
        "piece", ["[", "{", '{"a":', '"', "[]", '{"a":[1],', '"a":01,', "\\", ",", '{"a":"b"},', "1"]
    )
    def test_hostile_text_of_a_megabyte_ends(self, piece):
        text = "{" + (piece * 1_000_000)[:1_000_000]
        with pytest.raises(ValueError):
            parse_json(text)
        list(parse_broken_objects(text))

    def test_nothing_deep_comes_out(self, monkeypatch):
        """The bound is not Python's own, which differs from version to version."""
        monkeypatch.setattr(response_body, "MAX_DEPTH", 3)
        assert parse_json('{"a": {"b": {"c": {"d": 1}}}, "e": [[[[2]]]]}') == {"a": {"b": {"c": None}}, "e": [[None]]}


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "text", "found"),
        [
            ("^false$", "false", "false"), ("^false$", "falsehood", None), ("^false$", "false\n", "false"),
            ("Denied", "Access Denied.", "Denied"), ("^Acc|nied$", "x denied", "nied"), ("a\\.b", "a.b", "a.b"),
            ("a\\.b", "axb", None), ("\\$5", "costs $5", "$5"), ("a\\|b", "a|b", "a|b"),
            ("(?i)access DENIED", "ACCESS denied", "access DENIED"),
            ("", "anything", ""), ("^", "x", ""), ("b$", "ab", "b"), ("^b", "ab", None), ("x|", "y", ""),
        ],
    )  # fmt: skip
    def test_plain_ones_need_nothing(self, pattern, text, found, monkeypatch):
        monkeypatch.setattr("airflow_oauth_provider.oauth2.expressions._compile_re2", None)
        compile_pattern.cache_clear()
        assert compile_pattern(pattern)(text) == found

    @pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|aa)+$", "(a|a?)+$", "(.*a){12}", "^(([a-z])+.)+[A-Z]([a-z])+$"])
    def test_what_holds_up_python_for_hours_is_searched_for_at_once(self, pattern):
        search = compile_pattern(pattern)
        for length in (30, 300, 30_000):
            search("a" * length + "!")

    def test_others_take_re2(self):
        assert compile_pattern("token (has )?expired")("the token expired") == "token expired"
        assert compile_pattern("\\d{3}")("12 345") == "345"

    @pytest.mark.parametrize(
        "pattern", ["(", "*a", "[", "(?=a)", "(a)\\1", "(?P<n>", "((a{100}){100}){100}", "x" * 1001]
    )
    def test_what_is_no_expression(self, pattern):
        with pytest.raises(BadPatternError, match="regular expression"):
            compile_pattern(pattern)

    def test_without_re2_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "re2", None)
        compile_pattern.cache_clear()
        with pytest.raises(BadPatternError, match=r"airflow-oauth-provider\[regex\]"):
            compile_pattern("a+")

    @pytest.mark.parametrize(
        "path", ['$.a[?(@.b =~ "^(a+)+$")]', "$.a[?(@.b=~'x')]", "$.a.`sub(/^(a+)+$/, x)`", "$.a.` split(x, 0, -1)`"]
    )
    def test_paths_bring_none_along(self, path):
        """``jsonpath-ng`` would hand them to Python's own engine."""
        with pytest.raises(expressions.BadPathError, match="regular expression"):
            expressions.check_path(path)
        expressions.check_path("$.a[?(@.b == 'x')].c")

    def test_the_mark_of_an_error_takes_them(self):
        dialect = Dialect(error_mark=ErrorMark("$", "^(a+)+$"))
        with pytest.raises(errors.UnexpectedResponse):
            parse_token_response(response("a" * 50_000 + "!"), (), dialect)
