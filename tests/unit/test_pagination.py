"""The next page, and the end."""

from __future__ import annotations

import json
from decimal import Decimal
from urllib.parse import urljoin

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from requests import Response

from airflow_oauth_provider.exceptions import ApiError, ConfigurationError
from airflow_oauth_provider.http import json_text
from airflow_oauth_provider.http.page import Page, PageRequest
from airflow_oauth_provider.http.page_loop import Drop, Receive, Send, page_loop
from airflow_oauth_provider.http.pagination import (
    Cursor,
    LinkHeader,
    NextUrl,
    OffsetLimit,
    PageNumber,
    paginator_from_dict,
    parse_links,
)
from airflow_oauth_provider.http.record_path import PathError, check_path, collect, is_missing, look_up
from airflow_oauth_provider.http.walk import Walk

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
        ("dotted.name.x", 3),
        ("a.missing", None),
        ("list.9", None),
    ],
)
def test_paths(path, value):
    document = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}], "dotted.name": {"x": 3}}
    check_path("path", path)
    assert look_up(path, document) == value


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("$.@odata.nextLink", "@odata.nextLink"),
        ("$.value[@id]", "@id"),
        ("$.d.@count", "@count"),
        ("$.groups[items]", "items"),
        ("$[ rows ]", "rows"),
        ("$.a[?(@.b=='[c]')][d]", "d"),
    ],
)
def test_a_name_that_no_jsonpath_has_unquoted_is_not_taken_for_nothing(path, name):
    with pytest.raises(ValueError, match=rf"a name such as {name} is written \['{name}'\]"):
        check_path("path", path)


@pytest.mark.parametrize(
    "path", ["$.a[?(@.b=='[c]')]", "$.a[?(@['b'] > 1)].c", "$['@id'][?@.x]", "$.a['b','c']", '$["[x]"]']
)
def test_what_is_quoted_or_in_a_filter_is_a_path(path):
    check_path("path", path)


def test_a_path_that_cannot_be_meant():
    with pytest.raises(ValueError, match="records"):
        check_path("records", "$.[")


# -- paths: all of the records, or an error ------------------------------------------------------------------------

NESTED = {
    "list": [{"x": 1}, {"x": 2}],
    "groups": [{"items": [1, 2], "tag": "a"}, {"items": None}, {"items": [3]}, {"tag": "b"}],
    "by_key": {"a": {"id": 1}, "b": {"id": 2}},
    "rows": [[1, 2], [3]],
    "none": None,
    "empty": {},
    "nothing": [],
    "one": [{"record": {"id": 1}}],
}


@pytest.mark.parametrize(
    ("path", "records"),
    [
        ("$.list[*]", [{"x": 1}, {"x": 2}]),
        ("$.list[*].x", [1, 2]),
        ("$.groups[*].items", [1, 2, 3]),
        ("$.groups[*].items[*]", [1, 2, 3]),
        ("$..items[*]", [1, 2, 3]),
        ("$.groups[?(@.tag=='a')].items", [1, 2]),
        ("$.list[?(@.x > 1)]", [{"x": 2}]),
        ("$.list[?(@.x > 9)]", []),
        ("$.list[0:1]", [{"x": 1}]),
        ("$.by_key[*]", [{"id": 1}, {"id": 2}]),
        ("$.by_key.*", [{"id": 1}, {"id": 2}]),
        ("$.rows[*]", [[1, 2], [3]]),
        ("$.rows", [[1, 2], [3]]),
        ("rows", [[1, 2], [3]]),
        ("groups.0.items", [1, 2]),
        ("none", []),
        ("empty.items", []),
        ("nothing.0.items", []),
        ("nothing.items", []),
        ("$.nothing.items", []),
        ("empty", []),
        ("$.empty", []),
        ("$.one[*].record", [{"id": 1}]),
        ("$.one[*].record.id", [1]),
        ("$.list[?(@.x > 1)].x", [2]),
        ("$.nothing[*].items", []),
        ("missing?", []),
        ("$.missing.items?", []),
        ("$.list[-1].y?", []),
        ("$.groups[-2].items", [3]),
        ("$.rows[-1]", [3]),
        ("$.groups[0:1].items", [1, 2]),
        ("$.groups[0,2].items[*]", [1, 2, 3]),
        ("$.groups[?(@.tag=='c')].missing", []),
        ("$.nothing[-1].items", []),
        ("$.groups[?(@.tag=='a')].missing?", []),
        ("$.groups[?(@['tag']=='a')].items", [1, 2]),
    ],
)
def test_a_path_gives_all_records(path, records):
    check_path("records_path", path)
    assert collect(path, NESTED) == records


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("missing", r"the page is an object with 8 members, without 'missing'.*write 'missing\?'"),
        ("$.missing", "without 'missing'"),
        ("none.items", "'none' is null"),
        ("by_key.items", "'by_key' is an object with 2 members"),
        ("groups.items", r"'groups' is a list of 4.*write \$\.groups\[\*\]\.items"),
        ("groups.items?", "'groups' is a list of 4"),
        ("$.groups.items", r"write \$\.groups\[\*\]\.items"),
        ("$.groups[*].missing", "without 'missing'"),
        ("$.missing[*]", "without 'missing'"),
        ("$.missing[?(@.x)]", "without 'missing'"),
        ("$..missing", "nothing matches"),
        ("by_key", "leads to an object with 2 members, not to a list"),
        ("$.by_key", "not to a list"),
        ("$.groups[0].tag", "leads to a text"),
        ("groups.0.tag.x", "'groups.0.tag' is a text"),
        ("groups.9.items", "'groups' is a list of 4"),
        ("one.0.record", "leads to an object with 1 member"),
        ("$.one[0].record", "leads to an object with 1 member"),
        ("$.groups[?(@.tag)].missing", r"\$\.groups\[\?.*\] is an object with 1 member, without 'missing'"),
        ("$.groups[?(@.tag)].missing[*].x", "without 'missing'"),
        ("$.list[0:1].missing", r"\$\.list\[0:1\] is an object with 1 member, without 'missing'"),
        ("$.list[0,1].x.y", "is a number, which has no member 'y'"),
        ("$..items.missing", r"is a list of 2.*write \$\.\.items\[\*\]\.missing"),
        ("$.list[-3].x", "is a list of 2, without -3"),
        ("$.list[-1].missing", "without 'missing'"),
        ("list[0].x", r"without 'list\[0\]'\. A path with brackets begins with a \$: write '\$\.list\[0\]\.x'"),
    ],
)
def test_a_path_that_does_not_fit_says_what_is_there(path, told):
    with pytest.raises(PathError, match=told) as caught:
        collect(path, NESTED)
    assert "'a'" not in str(caught.value).replace("'a list", "")


def test_the_error_names_path_and_page():
    with pytest.raises(
        ApiError, match=r"Page 3 \(https://api.example.com/v1/items\?page=1\) .* at data.items: 'data' is a"
    ):
        page({"data": [{"items": [1]}]}, 3).records("data.items")
    with pytest.raises(ApiError, match=r"does not fit the path 'meta\.next': 'meta' is a list of 1"):
        asked(NextUrl("meta.next"), {"meta": [{"next": "/2"}]})


def test_one_value_is_wanted_and_several_are_there():
    links = {"links": [{"rel": "next", "href": "/2"}, {"rel": "prev", "href": "/0"}]}
    assert look_up("$.links[?(@.rel=='next')].href", links) == "/2"
    with pytest.raises(PathError, match="2 different values"):
        look_up("$.links[*].href", links)
    assert look_up("$.links[*].href", {"links": [{"href": "/2"}, {"href": "/2"}]}) == "/2"
    assert is_missing("a.b", {"a": {"c": 1}})
    assert not is_missing("a.b", {"a": {"b": None}})
    assert not is_missing("a.b?", {})


NAMES = st.sampled_from(["a", "b", "items", "x.y"])
TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=15,
)


@given(TREES, st.lists(NAMES | st.sampled_from(["0", "1"]), min_size=1, max_size=4), st.booleans())
def test_any_path_in_any_document_gives_records_or_an_error(document, names, jsonpath):
    path = "$" + "".join(f"['{name}']" for name in names) if jsonpath else ".".join(names)
    try:
        found = collect(path, document)
    except PathError:
        return
    walked = [document]
    for name in [] if not jsonpath else names:
        walked = [value[name] for value in walked if isinstance(value, dict) and name in value]
    if jsonpath and walked and walked[0]:
        assert found == walked[0], "nothing of a list is left out"


@given(st.lists(st.lists(st.integers(), max_size=4), max_size=5))
def test_wildcards_leave_nothing_out(groups):
    document = {"groups": [{"items": items} for items in groups]}
    assert collect("$.groups[*].items", document) == [item for items in groups for item in items]
    assert collect("$.groups[*].items[*]", document) == [item for items in groups for item in items]


# -- the header Link ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('</2>; rel="next"', "/2"),
        ("</2>; rel=next", "/2"),
        ('</2>; title="a, b; <c>"; rel="next"', "/2"),
        ('</2>; title="say \\"rel=prev\\", then"; rel=next', "/2"),
        ('</0>; rel="prev", </2>; rel="next"', "/2"),
        ('</2?ids=1,2;3&q="x">; rel="next"', "/2?ids=1,2;3&q=%22x%22"),
        ("</2>; crossorigin; rel=next", "/2"),
        ("</2>; crossorigin; rel=next; title*=UTF-8''n%c3%a4", "/2"),
        ('</2> ; REL = "last NEXT" ;', "/2"),
        ('</2>; rel="next"; rel="prev"', "/2"),
        (', , </2>; rel="next",', "/2"),
        ('</2>;rel="next",</2>;rel="next"', "/2"),
        ('<?page=2>; rel="next"; results="true"', "/v1/items?page=2"),
        ('</2>; rel="next"; anchor="/v1/items?page=1"', "/2"),
        ('</2>; rel="next"; results="false"', None),
        ("</2>; rel=next; results=False", None),
        ('</2>; rel="next"; anchor="/elsewhere"', None),
        ('</2>; rel="prev"; rel="next"', None),
        ('</2>; title="rel=next"', None),
        ("</2>; rel='next'", "/2"),
        ("</2>; rel='NEXT'; title='x'", "/2"),
        ("</2>; rel=next; rel*=UTF-8''prev", "/2"),
        ('</2>; rel="next-archive"', None),
        ('</2>; rel="https://example.com/rel/next"', None),
        ('</2>; rel="alternate urn:next"', None),
        ('< /2 >; rel="next"', "/2"),
        ('</2>; rel="next", <https://api.example.com/2>; rel="next"', "/2"),
        ("", None),
    ],
)
def test_link_headers(header, target):
    request = LinkHeader().following(PageRequest(), page({}, Link=header), 0)
    wanted = None if target is None else urljoin(URL, target.replace("%22", '"'))
    assert (request and request.endpoint) == wanted


@pytest.mark.parametrize(
    "header",
    [
        "/2; rel=next",
        "</2; rel=next",
        '</2>; rel="next',
        "</2> rel=next",
        '</2>; rel="next" </3>; rel="last"',
        '</2>; ="next"',
        "</2>; rel=next, </3",
        "</2>; rel=next, </3>; rel=next",
        "</2>; rel='next last'",
        "</2>; rel*=UTF-8''next",
        "</0>; rel=prev, </2>; REL*=UTF-8''next",
        '</2>; rel="next,prev"',
        "</2>; rel==next",
        "</2>; rel=\xe2\x80\x9dnext\xe2\x80\x9d",
        '</2>; rel="[next]"',
        "</2>; rel=prev/next",
    ],
)
def test_a_link_header_that_cannot_be_read_is_never_the_last_page(header):
    with pytest.raises(ApiError, match=r"Page 1 .*(Link that cannot be read|different links)"):
        LinkHeader().following(PageRequest(), page({}, Link=header), 0)


@pytest.mark.parametrize("address", ["javascript:1", "mailto:a@b", "ftp://api.example.com/2", "data:,x", "file:///etc"])
def test_a_next_page_is_at_an_http_address(address):
    for paginator in (LinkHeader(), NextUrl("next")):
        with pytest.raises(ApiError, match="no http or https URL"):
            paginator.following(PageRequest(), page({"next": address}, Link=f"<{address}>; rel=next"), 0)


QUOTED = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=12)
PARAMETERS = st.lists(st.tuples(st.sampled_from(["title", "foo", "type", "hreflang"]), st.none() | QUOTED), max_size=3)


def written(name, value):
    return name if value is None else f'{name}="' + value.replace("\\", r"\\").replace('"', r"\"") + '"'


@given(
    st.lists(st.tuples(st.text("abc/?=&,;.", min_size=1, max_size=10), PARAMETERS), min_size=1, max_size=4),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_the_next_link_is_found_among_any_others(links, which, place):
    which %= len(links)
    fields = []
    for number, (target, parameters) in enumerate(links):
        said = [written(*parameter) for parameter in parameters]
        said.insert(place, written("rel", "next" if number == which else "item"))
        fields.append(f"<{target}>" + "".join(f" ; {parameter}" for parameter in said))
    (found,) = [link for link in parse_links(", ".join(fields)) if link.has_relation("Next")]
    assert found.target == links[which][0]
    for name, _ in links[which][1]:
        assert found.parameters[name] == next(v or "" for n, v in links[which][1] if n == name)


# -- answers without records, and walks without end ----------------------------------------------------------------


def blank(status=200, body=b"", number=1):
    found = page(None, number)
    found.response.status_code = status
    found.response._content = body
    return found


@pytest.mark.parametrize(
    "paginator", [LinkHeader(), NextUrl("n"), Cursor("a", "b"), PageNumber("r"), OffsetLimit(5, "r")]
)
@pytest.mark.parametrize("found", [blank(204), blank(304), blank(), blank(body=b" \r\n"), blank(205)])
def test_an_answer_without_a_body_has_no_records(paginator, found):
    assert Walk(paginator, PageRequest()).following(found) is None
    assert found.records("items") == []
    assert found.records(None) == []


@pytest.mark.parametrize("status", [404, 410])
def test_a_status_can_be_said_to_be_the_end(status):
    walk = Walk(PageNumber("rows", end_statuses=[404, 410]), PageRequest())
    assert walk.ends_with(status, 2)
    assert not walk.ends_with(status, 1), "the first page has to be there"
    assert not Walk(PageNumber("rows"), PageRequest()).ends_with(status, 2)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"items": [], "meta": {"n": 1}}',
        b"null",
        b'{"data": {"items": []}, "next": "/2"}',
        b'{"kind": "Listing", "data": {"after": "t3", "dist": 0, "children": []}}',
        b'{"rows": null, "next": "/2", "more": true}',
        b'{"rows": {}, "data": null}',
    ],
)
def test_pages_without_records_and_without_end(body):
    walk = Walk(LinkHeader(max_empty_pages=3), PageRequest())
    found = [blank(body=body, number=number) for number in range(1, 5)]
    for answer in found:
        answer.response.headers["Link"] = f"</{answer.number + 1}>; rel=next"
    assert all(walk.following(answer) for answer in found[:3])
    with pytest.raises(ApiError, match=r"Page 4 .* 4th in a row without records"):
        walk.following(found[3])


def test_a_page_with_records_among_empty_ones_goes_on():
    walk = Walk(Cursor("next", "after", max_empty_pages=2), PageRequest(), "rows")
    for number in range(1, 30):
        document = {"next": number, "rows": [] if number % 3 else [number], "facets": [1]}
        assert walk.following(page(document, number)) is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"items": [], "facets": [1]}}',
        b'{"id": 5, "name": "x"}',
        b'{"id": 5, "name": "x", "size": 1, "deleted": null}',
        b"[0]",
        b'"text"',
    ],
)
def test_a_page_with_something_in_it_is_not_empty(body):
    assert not blank(body=body).seems_empty()


def test_the_same_records_in_other_words_are_refused():
    walk = Walk(PageNumber("rows"), PageRequest())
    walk.following(page({"rows": [1, 2], "at": "12:00"}))
    with pytest.raises(ApiError, match="same as the one before"):
        walk.following(page({"rows": [1, 2], "at": "12:01"}, 2))


def test_a_next_url_that_is_the_page_itself_is_refused_at_once():
    with pytest.raises(ApiError, match="fetched already"):
        Walk(LinkHeader(), PageRequest("/items")).following(page({}, Link="<>; rel=next"))


@pytest.mark.parametrize("total", [-1, 0, "many", None, True, {"value": 9}, 1e400, [3], 1.5, "1.0"])
def test_a_total_that_is_none_does_not_end_the_walk(total):
    walk = Walk(OffsetLimit(2, "rows", total="total"), PageRequest())
    assert walk.following(page({"rows": [1, 2], "total": total})).data["offset"] == 2


@pytest.mark.parametrize(
    ("document", "data"),
    [
        ({"c": "x", "more": "true"}, {"after": "x"}),
        ({"c": 7, "more": 1}, {"after": 7}),
        ({"c": "x", "more": "false"}, None),
        ({"c": "x", "more": False}, None),
        ({"more": False}, None),
        ({}, None),
    ],
)
def test_more_says_whether_there_is_more(document, data):
    following = Cursor("c", "after", more="more").following(PageRequest(), page(document), 0)
    assert (following and following.data) == data


@pytest.mark.parametrize(
    "document", [{"c": "x"}, {"more": True}, {"c": True, "more": True}, {"c": {"x": 1}, "more": 1}]
)
def test_more_and_cursor_that_contradict_each_other_are_an_error(document):
    with pytest.raises(ApiError, match="cursor"):
        Cursor("c", "after", more="more").following(PageRequest(), page(document), 0)
    assert Cursor("c", "after", more="more?").following(PageRequest(), page({"c": "x"}), 0) is None


@pytest.mark.parametrize(
    "body",
    [{"data": "text=1"}, {"data": {"form": "1"}}, {"request_kwargs": {"json": {"a": 1}, "params": {"page": 1}}}],
)
@pytest.mark.parametrize("paginator", [NextUrl("next"), LinkHeader()])
def test_a_body_goes_along_to_the_next_url(paginator, body):
    request = PageRequest("/search", method="POST", **body)
    following = Walk(paginator, request).following(page({"next": "/2", "x": [1]}, Link="</2>; rel=next"))
    assert following.data == request.data
    assert following.request_kwargs.get("json") == request.request_kwargs.get("json")
    assert "params" not in following.request_kwargs, "the URL brings its own query"


@pytest.mark.parametrize("request_", [PageRequest(data="x=1"), PageRequest(data=b"x"), PageRequest(data=[("a", 1)])])
def test_parameters_cannot_be_added_to_a_text(request_):
    with pytest.raises(ConfigurationError, match="give a dictionary"):
        Walk(PageNumber("rows"), request_)


# -- JSON, digit by digit ------------------------------------------------------------------------------------------

DIGITS = [
    "12345678901234567.89",
    "1e400",
    "-1E-400",
    "1.50",
    "0.1",
    "-0.0",
    "1E5",
    "9" * 30,
    "9" * 5000,
    "3.0",
    "7",
    "-0",
]


@pytest.mark.parametrize("number", DIGITS)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_numbers_keep_their_digits(number, bom):
    text = f'{{"a":[{number}],"b é":"x"}}'
    assert json_text.encode(json_text.decode(bom + text.encode(), "utf-8")) == text


NUMBERS = st.from_regex(r"(-?0|-?[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.text(max_size=5))
def test_any_number_keeps_its_digits(numbers, name):
    text = f"{{{json.dumps(name, ensure_ascii=False)}:[{','.join(numbers)}]}}"
    assume(text.isascii() or text.encode("utf-8", "ignore").decode() == text)
    assert json_text.encode(json_text.decode(text.encode())) == text


@pytest.mark.parametrize(
    "value", [float("inf"), [float("nan")], {"a": -float("inf")}, Decimal("NaN"), [Decimal("Infinity")]]
)
def test_infinity_is_never_written(value):
    with pytest.raises(ValueError, match="NaN or Infinity"):
        json_text.encode(value)


def test_other_charsets_and_halves_of_characters():
    assert json_text.decode('["é"]'.encode("utf-16")) == ["é"]
    assert json_text.decode('["é"]'.encode("latin-1"), "iso-8859-1") == ["é"]
    assert json_text.decode('["é"]'.encode("latin-1")) == ["é"]
    assert json_text.encode(json_text.decode(b'["\\ud800 \\u00e9"]')) == '["\\ud800 é"]'
    assert json_text.encode({"d": Decimal("1.10"), 1: True, "n": {"x": None}}) == '{"d":1.10,"1":true,"n":{"x":null}}'
    with pytest.raises(ValueError, match="nested too deeply"):
        json_text.decode(b"[" * 100_000)


def test_a_bom_does_not_make_a_page_unreadable():
    found = blank(body=b'\xef\xbb\xbf{"items": [1]}')
    found.response.headers["Content-Type"] = "application/json; charset=utf-8"
    found.response.encoding = "utf-8"
    assert found.records("items") == [1]


# -- side by side --------------------------------------------------------------------------------------------------


class Api:
    """Answers requests for numbers or offsets, in memory."""

    def __init__(self, count, cap, *, total=True, holes=()):
        self.count, self.cap, self.total, self.holes = count, cap, total, set(holes)
        self.asked = []

    def fetch(self, request):
        self.asked.append(request.data)
        if "page" in request.data:
            offset = (request.data["page"] - 1) * self.cap
            size = self.cap
        else:
            offset = request.data["offset"]
            size = 1 if offset in self.holes else min(request.data["limit"], self.cap)
        rows = list(range(self.count))[offset : offset + size]
        told = {"total": self.count, "pages": -(-self.count // self.cap)} if self.total else {}
        return page({"rows": rows, **told}).response


def run_steps(loop, fetch):
    """Drive a loop, and return its pages and how many were begun and not given out, at the most."""
    begun, pages, most, step, answer = {}, [], 0, None, None
    while True:
        try:
            step = loop.send(answer)
        except StopIteration:
            return pages, most
        answer = None
        if isinstance(step, Send):
            begun[step.number] = step.request
        elif isinstance(step, Drop):
            del begun[step.number]
        elif isinstance(step, Receive):
            answer = fetch(begun.pop(step.number))
        else:
            pages.append(step)
        most = max(most, len(begun))


@given(
    st.integers(0, 60),
    st.integers(1, 9),
    st.booleans(),
    st.sets(st.integers(0, 60), max_size=4),
    st.sampled_from([OffsetLimit(4, "rows", total="total"), PageNumber("rows", pages="pages")]),
    st.integers(2, 9),
)
def test_pages_side_by_side_are_those_one_after_the_other(count, cap, total, holes, paginator, width):
    def rows(width):
        api = Api(count, cap, total=total, holes=holes)
        pages, most = run_steps(page_loop(Walk(paginator, PageRequest()), width), api.fetch)
        assert most <= width, "memory is bounded by what is on its way"
        assert [found.number for found in pages] == list(range(1, len(pages) + 1))
        return [row for found in pages for row in found.records("rows")]

    assert rows(width) == rows(1) == list(range(count))


def test_what_is_known_ahead_is_begun_ahead():
    api = Api(100, 10)
    loop = page_loop(Walk(PageNumber("rows", pages="pages"), PageRequest()), 4)
    steps = [loop.send(None), loop.send(None), loop.send(api.fetch(PageRequest(data={"page": 1})))]
    steps += [loop.send(None) for _ in range(4)]
    assert [type(step).__name__ for step in steps] == ["Send", "Receive", "Send", "Send", "Send", "Send", "Page"]
    assert [step.number for step in steps[2:6]] == [2, 3, 4, 5]


@given(st.lists(st.lists(st.integers(), max_size=2), min_size=1, max_size=9), st.integers(1, 4))
def test_an_empty_page_among_the_told_ones_is_not_the_end(groups, width):
    groups = [[[number, row] for row in rows] for number, rows in enumerate(groups)]  # no two pages are the same

    def fetch(request):
        return page({"rows": groups[request.data["page"] - 1], "pages": len(groups)}).response

    loop = page_loop(Walk(PageNumber("rows", pages="pages"), PageRequest()), width)
    pages, _ = run_steps(loop, fetch)
    assert [found.records("rows") for found in pages] == groups


@pytest.mark.parametrize("width", [1, 3])
def test_empty_pages_without_end_are_refused_although_their_number_is_told(width):
    walk = Walk(PageNumber("rows", pages="pages", max_empty_pages=5), PageRequest())
    with pytest.raises(ApiError, match=r"Page 7 .* is the 6th in a row without records"):
        run_steps(
            page_loop(walk, width),
            lambda request: page({"rows": [1][request.data["page"] - 1 :], "pages": 999}).response,
        )


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize(("came", "total"), [(0, 1), (2, 3), (4, 100), (3, "7")])
def test_fewer_records_than_told_are_an_error(width, came, total):
    def fetch(request):
        offset = request.data["offset"]
        return page({"rows": list(range(came))[offset : offset + 2], "total": total}).response

    with pytest.raises(ApiError, match=f"has no records, but total says that there are {total}, and {came} came"):
        run_steps(page_loop(Walk(OffsetLimit(2, "rows", total="total"), PageRequest()), width), fetch)
    pages, _ = run_steps(page_loop(Walk(OffsetLimit(2, "rows"), PageRequest()), width), fetch)
    assert sum(len(found.records("rows")) for found in pages) == came
