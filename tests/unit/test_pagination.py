"""The next page, and the end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests import Response

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.http.pagination import (
    Cursor,
    LinkHeader,
    NextUrl,
    OffsetLimit,
    Page,
    PageNumber,
    PageRequest,
    Walk,
    paginator_from_dict,
)
from airflow_oauth_provider.http.record_path import check_path, lookup

URL = "https://api.example.com/v1/items?page=1"


def page(document, number=1, **headers):
    response = Response()
    response.status_code = 200
    response.url = URL
    response._content = json.dumps(document).encode()
    response.headers.update({"Content-Type": "application/json", **headers})
    return Page(response, number)


def asked(paginator, *documents):
    """Return the requests that a walk over ``documents`` makes; it has to end with the last one."""
    walk = Walk(paginator, PageRequest("/items", {"a": 1}))
    requests = [walk.first]
    for number, document in enumerate(documents, 1):
        following = walk.following(document if isinstance(document, Page) else page(document, number))
        assert (following is None) == (number == len(documents))
        if following is not None:
            requests.append(following)
    return requests


def test_links():
    first = page({}, Link='</v1/items?page=2>; rel="next", <x>; rel="last"')
    other = page({}, 2, Link='<https://api.example.com/3>; REL="prefetch Next"')
    found = asked(LinkHeader(), first, other, page({}, 3, Link='<x>; rel="prev"'))
    assert [r.endpoint for r in found[1:]] == ["https://api.example.com/v1/items?page=2", "https://api.example.com/3"]
    assert found[1].data == {}, "the URL brings its own query"


def test_urls_in_the_body():
    found = asked(NextUrl("@odata.nextLink"), {"@odata.nextLink": "?page=2"}, {"@odata.nextLink": None})
    assert found[1].endpoint == "https://api.example.com/v1/items?page=2"
    with pytest.raises(ApiError, match="no URL"):
        asked(NextUrl("next"), {"next": {"url": "x"}})


def test_cursors():
    documents = ({"meta": {"cursor": "b"}, "more": True}, {"meta": {"cursor": "c"}, "more": False})
    found = asked(Cursor("meta.cursor", "after", more="more"), *documents)
    assert [r.data for r in found] == [{"a": 1}, {"a": 1, "after": "b"}]


def test_numbers_and_offsets():
    found = asked(PageNumber("rows", size_parameter="size", size=2), {"rows": [1, 2]}, {"rows": [3]}, {"rows": []})
    assert [r.data for r in found] == [{"a": 1, "page": n, "size": 2} for n in (1, 2, 3)]
    found = asked(OffsetLimit(limit=2, total="n"), page([1, 2]), page([3, 4], 2), page([], 3))
    assert [r.data["offset"] for r in found] == [0, 2, 4]


@given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_offsets_see_every_record_once(count, limit, cap, tells_total):
    walk = Walk(OffsetLimit(limit=limit, records="rows", total="total"), PageRequest())
    request, seen, number = walk.first, [], 0
    while request is not None:
        number += 1
        offset = request.data["offset"]
        rows = list(range(count))[offset : offset + min(limit, cap)]
        seen += rows
        request = walk.following(page({"rows": rows, **({"total": count} if tells_total else {})}, number))
    assert seen == list(range(count))


def test_no_end_is_refused():
    with pytest.raises(ApiError, match="fetched already"):
        asked(Cursor("c", "c"), {"c": "x"}, {"c": "x"}, {})
    with pytest.raises(ApiError, match="same as the one before"):
        asked(PageNumber("rows"), {"rows": [1]}, {"rows": [1]}, {})


def test_what_is_not_as_expected():
    with pytest.raises(ApiError, match="has no list at rows"):
        asked(PageNumber("rows"), {"rows": 7})
    html = page(None)
    html.response._content = b"<html>"
    with pytest.raises(ApiError, match="not JSON"):
        asked(NextUrl("next"), html)


@pytest.mark.parametrize(
    "paginator", [LinkHeader(), NextUrl("n"), Cursor("a", "b", "json", "c"), PageNumber("r"), OffsetLimit(5, "r")]
)
def test_plain_values(paginator):
    assert paginator_from_dict(json.loads(json.dumps(paginator.to_dict()))) == paginator


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b", 1),
        ("list.1.x", 2),
        ("list.-1.x", 2),
        ("$.a.b", 1),
        ("$['a']['b']", 1),
        ("$.list[1].x", 2),
        ("$.list[*]", [{"x": 1}, {"x": 2}]),
        ("dotted.name.x", 3),
        ("a.missing", None),
        ("list.9", None),
    ],
)
def test_paths(path, value):
    document = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}], "dotted.name": {"x": 3}}
    check_path("path", path)
    assert lookup(path, document) == value


def test_a_path_that_cannot_be_meant():
    with pytest.raises(ValueError, match="records"):
        check_path("records", "$.[")
