"""OAuth2HttpOperator against a server: one session, pages, output, retries, limits, errors."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
import requests
import tenacity
from airflow.exceptions import AirflowException
from airflow.providers.http.operators.http import HttpOperator

from airflow_oauth_provider.exceptions import ApiError, ForeignOrigin
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.pagination import Cursor, LinkHeader, NextUrl, OffsetLimit, PageNumber
from tests.http_support import CONN_ID, CONTEXT, api_calls, connect, ids_of
from tests.servers.scripted import Answer, Fault, ScriptedServer


@pytest.fixture
def server(scripted_server, monkeypatch):
    connect(monkeypatch, scripted_server)
    return scripted_server


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    monkeypatch.setattr("airflow_oauth_provider.http.retry.RetryPolicy._pause", lambda *_: 0.01)


def operator(**arguments):
    arguments = {"task_id": "task", "oauth2_conn_id": CONN_ID, "method": "GET", "endpoint": "/items", **arguments}
    return OAuth2HttpOperator(**arguments)


def run(**arguments):
    return operator(**arguments).execute(CONTEXT)


def next_page(response):
    following = response.json()["page"] + 1
    return {"data": {"page": following}} if following <= 10 else None


# -- one session -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_alive", [True, False])  # with it, an adapter outlives its session
def test_all_pages_on_one_connection_with_one_token(server, keep_alive):
    texts = run(pagination_function=next_page, tcp_keep_alive=keep_alive)
    assert [json.loads(text)["page"] for text in texts] == list(range(1, 11))
    calls = api_calls(server)
    assert len({call.connection for call in calls}) == 1
    assert len({call.header("Authorization") for call in calls}) == 1
    assert server.spends == 1


def test_retries_of_retry_args_stay_on_the_session(server):
    server.faults.append(Fault("/api", status=500, times=2))
    retry_args = {"stop": tenacity.stop_after_attempt(3), "retry": tenacity.retry_if_exception_type(AirflowException)}
    run(retry_args=retry_args)
    calls = api_calls(server)
    assert len(calls) == 3
    assert len({call.connection for call in calls}) == 1


def test_what_one_page_is_given_does_not_reach_the_next(server):
    def pages(response):
        asked = len(api_calls(server))
        if asked == 1:
            return {"headers": {"X-Once": "1"}, "extra_options": {"check_response": False}, "endpoint": "/missing"}
        return {"data": {"page": "2"}} if asked == 2 else None

    run(pagination_function=pages, headers={"X-Always": "1"})
    assert [call.header("X-Once") for call in api_calls(server)] == [None, "1", None]
    assert [call.header("X-Always") for call in api_calls(server)] == ["1", "1", "1"]
    server.requests.clear()

    server.routes["/api/missing"] = lambda _: Answer(404, {})
    endpoints = iter([{"endpoint": "/missing", "extra_options": {"check_response": False}}, {"endpoint": "/missing"}])
    with pytest.raises(ApiError):
        run(pagination_function=lambda _: next(endpoints))


# -- as HttpOperator does ------------------------------------------------------------------------------------------

WAYS = {
    "text": {},
    "data as parameters": {"endpoint": "/echo", "data": {"a": "1"}},
    "filter": {"response_filter": lambda response: response.json()["page"]},
    "filter with context": {"response_filter": lambda response, params: [params["who"], response.status_code]},
    "check passes": {"response_check": lambda response, ti: response.ok and ti.dag_id == "dag"},
    "pages": {"pagination_function": next_page},
    "pages, filtered": {"pagination_function": next_page, "response_filter": lambda pages: [p.url for p in pages]},
    "pages, checked": {"pagination_function": next_page, "response_check": lambda pages: len(pages) == 10},
    "json body": {"method": "POST", "endpoint": "/echo", "request_kwargs": {"json": {"a": 1}}},
    "form": {"method": "POST", "endpoint": "/echo", "data": {"a": "1"}, "headers": {"X-A": "b"}},
    "text body": {"method": "PUT", "endpoint": "/echo", "data": "payload"},
    "head": {"method": "HEAD", "response_filter": lambda response: response.status_code},
    "unchecked": {"endpoint": "/missing", "extra_options": {"check_response": False}},
    "no redirect": {
        "endpoint": "/redirect?to=/api/items",
        "extra_options": {"allow_redirects": False},
        "response_filter": lambda response: response.headers["Location"],
    },
    "redirect": {"endpoint": "/redirect?to=/api/items"},
    "keep-alive off": {"tcp_keep_alive": False},
    "log": {"log_response": True},
}


@pytest.mark.filterwarnings("default::DeprecationWarning", "default:.*operator_helpers.*")
@pytest.mark.parametrize("arguments", WAYS.values(), ids=WAYS)
def test_the_same_result_as_the_stock_operator(server, arguments):
    arguments = {"task_id": "task", "method": "GET", "endpoint": "/items", **arguments}
    ours = OAuth2HttpOperator(oauth2_conn_id=CONN_ID, **arguments).execute(CONTEXT)
    stock = HttpOperator(http_conn_id=CONN_ID, **arguments).execute(CONTEXT)
    assert ours == stock


def test_a_check_that_returns_false_fails_as_it_does_there(server):
    with pytest.raises(AirflowException, match="Response check returned False"):
        run(response_check=lambda response: False)


def test_http_conn_id_is_another_name():
    assert OAuth2HttpOperator(task_id="x", http_conn_id="a").oauth2_conn_id == "a"
    assert {"oauth2_conn_id", "endpoint", "data", "headers", "output_path"} <= set(OAuth2HttpOperator.template_fields)


# -- paginators ----------------------------------------------------------------------------------------------------

PAGINATORS = {
    "link header": LinkHeader(),
    "next url": NextUrl("next"),
    "next url, JSONPath": NextUrl("$.next"),
    "page number": PageNumber(records="items"),
    "page number, total": PageNumber(records="items", pages="pages"),
}


@pytest.mark.parametrize("pagination", PAGINATORS.values(), ids=PAGINATORS)
def test_paginators_on_a_server(server, pagination):
    pages = [json.loads(text) for text in run(pagination=pagination)]
    ids = [number for page in pages for number in ids_of(page)]
    assert ids == list(range(100))


def test_a_cursor_in_a_json_body(server):
    def search(request):
        start = request.json().get("cursor", 0)
        return Answer(200, {"ids": [start, start + 1], "cursor": start + 2 if start < 4 else None})

    server.routes["/api/search"] = search
    texts = run(
        method="POST",
        endpoint="/search",
        request_kwargs={"json": {"query": "all"}},
        pagination=Cursor("cursor", "cursor", where="json"),
    )
    assert [n for text in texts for n in json.loads(text)["ids"]] == [0, 1, 2, 3, 4, 5]
    assert [call.json()["query"] for call in api_calls(server)] == ["all"] * 3


def test_offsets_grow_by_what_came(server):
    everything = list(range(23))

    def listing(request):
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        return Answer(200, {"rows": everything[offset : offset + min(limit, 5)]})  # the API caps the limit

    server.routes["/api/list"] = listing
    texts = run(endpoint="/list", pagination=OffsetLimit(limit=10, records="rows"))
    assert [n for text in texts for n in json.loads(text)["rows"]] == everything


def test_a_next_page_on_another_host_does_not_get_the_token(server):
    with ScriptedServer() as foreign:
        server.routes["/api/items"] = lambda _: Answer(200, {"next": f"{foreign.api_url}/items?page=2"})
        with pytest.raises(ForeignOrigin, match="allowed_hosts"):
            run(pagination=NextUrl("next"))
        assert foreign.requests == []


# -- long runs -----------------------------------------------------------------------------------------------------


def test_a_token_that_expires_among_many_pages_is_refreshed_once(server):
    """Also seen: with the replay after a 401 taken out, this fails."""
    server.pages = 1000

    def expire(request):
        if request.query.get("page") == "500" and server.spends == 1:
            server.grants.expire_access_tokens()
        return False

    server.faults.append(Fault(expire))
    pages = [json.loads(text)["page"] for text in run(pagination=NextUrl("next"))]
    assert pages == list(range(1, 1001)), "no page is lost, and none doubled"
    assert server.spends == 2
    assert len(api_calls(server)) == 1001


# -- output --------------------------------------------------------------------------------------------------------


def lines(path):
    data = Path(path).read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.endswith(".gz") else data).splitlines()]


@pytest.mark.parametrize("name", ["items.ndjson", "items.ndjson.gz"])
def test_records_as_lines(server, tmp_path, name):
    path = str(tmp_path / "new" / name)
    result = run(pagination=NextUrl("next"), output=path, records_path="items")
    assert (result["pages"], result["records"]) == (10, 100)
    assert result["path"].endswith(path)
    assert [record["id"] for record in lines(path)] == list(range(100))
    assert [file.name for file in (tmp_path / "new").iterdir()] == [name]


def test_pages_as_they_came(server, tmp_path):
    path = str(tmp_path / "pages.json")
    result = run(pagination=LinkHeader(), output=f"file://{path}")
    assert result == {
        "path": f"file://{path}",
        "pages": 10,
        "records": None,
        "bytes": Path(path).stat().st_size,
    }
    assert [page["page"] for page in lines(path)] == list(range(1, 11))


def test_a_single_answer_is_written_byte_by_byte(server, tmp_path):
    blob = bytes(range(256)) * 40_000  # more than is kept in memory
    server.routes["/api/blob"] = lambda _: Answer(200, blob)
    result = run(endpoint="/blob", output=str(tmp_path / "blob"))
    assert (tmp_path / "blob").read_bytes() == blob
    assert result["bytes"] == len(blob)


def test_a_body_that_breaks_off_is_fetched_again(server, tmp_path):
    blob = b"0123456789" * 100_000
    server.routes["/api/blob"] = lambda _: Answer(200, blob)
    server.faults.append(Fault("/api/blob", truncate=70_000, works=True))
    run(endpoint="/blob", output=str(tmp_path / "blob"))
    assert (tmp_path / "blob").read_bytes() == blob


def test_a_function_says_what_is_written(server, tmp_path):
    path = str(tmp_path / "ids.ndjson")
    result = run(
        pagination_function=next_page,
        output=path,
        response_filter=lambda response: ids_of(response.json()),
        response_check=lambda response, params: params["who"] == "me",
    )
    assert lines(path) == list(range(100))
    assert result["records"] == 100


def test_a_failed_run_leaves_nothing_and_an_older_file_as_it_was(server, tmp_path):
    path = tmp_path / "items.ndjson"
    path.write_text("older")
    server.faults.append(Fault(lambda r: r.query.get("page") == "5", status=400, body={"error": "no"}))
    with pytest.raises(ApiError):
        run(pagination=NextUrl("next"), output=str(path), records_path="items")
    assert path.read_text() == "older"
    assert [file.name for file in tmp_path.iterdir()] == ["items.ndjson"]


def test_a_retry_removes_what_a_killed_try_left(server, tmp_path):
    from airflow_oauth_provider.http.output import OutputFile, OutputSpec, owner_of

    path = str(tmp_path / "items.ndjson")
    killed = OutputFile(OutputSpec(path, owner=owner_of(CONTEXT)))
    killed.open()
    killed.write(b"half")
    killed._file.flush()
    assert len(list(tmp_path.iterdir())) == 1, "under another name"
    assert not (tmp_path / "items.ndjson").exists()
    run(pagination=NextUrl("next"), output=path, records_path="items")
    assert [file.name for file in tmp_path.iterdir()] == ["items.ndjson"]
    assert len(lines(path)) == 100


def test_output_to_an_object_store(server):
    import fsspec

    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach

    attach("memory", fs=fsspec.filesystem("memory"))
    run(pagination=NextUrl("next"), output="memory://bucket/items.ndjson", records_path="items")
    files = fsspec.filesystem("memory").find("/")
    assert files == ["/bucket/items.ndjson"]
    assert len(fsspec.filesystem("memory").cat_file(files[0]).splitlines()) == 100


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def slept(monkeypatch):
    """The pauses of requests, during which no time passes but on their clock."""
    from airflow_oauth_provider.http import retry

    pauses = []
    begin, limiter = retry.Sender.__init__, retry.RateLimit.__init__
    monkeypatch.setattr(retry.Sender, "__init__", lambda *a, **o: begin(*a, **{**o, "sleep": pauses.append}))
    monkeypatch.setattr(retry.RateLimit, "__init__", lambda *a, **o: limiter(*a, **{**o, "clock": lambda: sum(pauses)}))
    return pauses


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected(server, slept, status):
    server.faults.append(Fault("/api", status=status, headers={"Retry-After": "7"}))
    run()
    assert 7 <= sum(slept) < 7.5
    assert len(api_calls(server)) == 2


@pytest.mark.parametrize("status", [502, 503, 504])
def test_passing_failures_of_a_get_are_repeated(server, status):
    server.faults.append(Fault("/api", status=status, times=3))
    run()
    assert len(api_calls(server)) == 4


@pytest.mark.parametrize("fault", [{"reset": True}, {"hang_up": True}, {"truncate": 10, "works": True}])
def test_broken_connections_of_a_get_are_repeated(server, fault):
    server.faults.append(Fault("/api", **fault))
    assert json.loads(run())["page"] == 1
    assert len(api_calls(server)) == 2


@pytest.mark.parametrize(("fault", "error"), [({"reset": True}, requests.ConnectionError), ({"status": 503}, ApiError)])
def test_a_post_that_may_have_been_taken_is_not_repeated(server, fault, error):
    server.faults.append(Fault("/api", **fault))
    with pytest.raises(error):
        run(method="POST", endpoint="/echo", data="x")
    assert len(api_calls(server)) == 1


def test_unless_the_caller_says_so(server):
    server.faults.append(Fault("/api", reset=True))
    run(method="POST", endpoint="/echo", data="x", retry_non_idempotent=True)
    assert [call.body for call in api_calls(server)] == [b"x", b"x"]


def test_a_post_that_was_turned_away_is_repeated(server):
    server.faults.append(Fault("/api", status=429))
    run(method="POST", endpoint="/echo", data="x")
    assert len(api_calls(server)) == 2


def test_our_attempts_do_not_multiply_those_of_retry_args(server):
    server.faults.append(Fault("/api", status=503, times=100))
    with pytest.raises(tenacity.RetryError):
        run(retry_args={"stop": tenacity.stop_after_attempt(2), "wait": tenacity.wait_none()})
    assert len(api_calls(server)) == 2


def test_retry_args_wait_for_retry_after_too(server, slept):
    server.faults.append(Fault("/api", status=429, headers={"Retry-After": "9"}))
    run(retry_args={"stop": tenacity.stop_after_attempt(2), "wait": tenacity.wait_none()})
    assert 8.9 < sum(slept) < 9.1


def test_a_used_up_rate_limit_is_waited_for(server, slept):
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3"}
    server.faults.append(Fault(lambda r: r.query.get("page") == "4", works=True, headers=used_up))
    run(pagination=NextUrl("next"))
    assert 2.9 < sum(slept) < 3.1


def test_requests_per_second(server, slept):
    run(pagination=NextUrl("next"), requests_per_second=5)
    assert slept == pytest.approx([0.2] * 9)


def test_patience_has_an_end(server, slept):
    server.faults.append(Fault("/api", status=429, headers={"Retry-After": "4000"}))
    with pytest.raises(ApiError, match="429"):
        run()
    assert len(api_calls(server)) == 1


# -- errors --------------------------------------------------------------------------------------------------------


def test_an_error_says_what_failed_and_nothing_secret(server, caplog):
    def refuse(request):
        body = {"detail": "no such thing", "api_key": "short", "echo": request.header("Authorization")}
        return Answer(404, {**body, "padding": "blah " * 1000})

    server.routes["/api/items"] = refuse
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ApiError) as caught:
        run(data={"limit": "5", "signature": "abc", "cursor": "c29tZXRoaW5nIHNlY3JldA0"})
    text = str(caught.value)
    assert caught.value.http_status == 404
    assert text.startswith("404:Not Found")
    assert f"GET {server.api_url}/items?limit=5&signature=***&cursor=***" in text
    assert "no such thing" in text
    assert len(text) < 800
    token = api_calls(server)[0].header("Authorization").removeprefix("Bearer ")
    for secret in (token, "abc", "c29tZXRoaW5nIHNlY3JldA0", "short"):
        assert secret not in text.replace("blah", "")
        assert secret not in "".join(r.getMessage() for r in caplog.records if "airflow_oauth" in r.name)


def test_no_answer_at_all_is_an_error_of_requests_without_the_query(server):
    server.faults.append(Fault("/api", reset=True, times=9))
    with pytest.raises(requests.ConnectionError) as caught:
        run(data={"signature": "abcdef"}, max_attempts=1)
    assert "GET http://127.0.0.1" in str(caught.value)
    assert "abcdef" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "arguments",
    [
        {"pagination": LinkHeader(), "pagination_function": next_page},
        {"records_path": "items"},
        {"records_path": "items", "output": "x", "response_filter": len},
        {"requests_per_second": 0},
        {"max_attempts": 0},
        {"records_path": "$..[", "output": "x"},
    ],
)
def test_arguments_that_cannot_be_meant(arguments):
    with pytest.raises(ValueError, match=r"\w+"):
        operator(**arguments)
