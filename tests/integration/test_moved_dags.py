"""What holds for HttpHook, HttpOperator and their relatives holds for ours: arguments, subclasses, options, tasks."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from functools import cached_property

import pytest
import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.operators.http import HttpOperator
from requests import Response

from airflow_oauth_provider.compat.sdk import BaseOperator
from airflow_oauth_provider.exceptions import ApiError, ConfigurationError
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.notifications.http import OAuth2HttpNotifier
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.pagination import NextUrl, PageNumber
from airflow_oauth_provider.transfers import OAuth2TransferMixin
from airflow_oauth_provider.triggers.http import OAuth2HttpEventTrigger
from tests.http_support import CONN_ID, CONTEXT, TaskDeferred, api_calls, connect, proxy_to, run_deferred, run_trigger
from tests.servers.scripted import Answer, Fault, ScriptedServer


@pytest.fixture
def server(scripted_server, monkeypatch):
    connect(monkeypatch, scripted_server)
    return scripted_server


def operator(kind=OAuth2HttpOperator, **arguments):
    arguments = {"task_id": "task", "oauth2_conn_id": CONN_ID, "method": "GET", "endpoint": "/items", **arguments}
    return kind(**arguments)


# -- the hook ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named", "conn_id", "method"),
    [
        ((), {}, "oauth2_default", "POST"),
        (("xero",), {}, "xero", "POST"),
        (("xero", "GET"), {}, "xero", "GET"),
        (("GET", "xero"), {}, "xero", "GET"),
        (("get", "xero"), {}, "xero", "GET"),
        (("GET",), {"http_conn_id": "xero"}, "xero", "GET"),
        (("GET",), {}, "oauth2_default", "GET"),
        (("xero",), {"method": "PUT"}, "xero", "PUT"),
        ((), {"http_conn_id": "xero"}, "xero", "POST"),
        ((), {"http_conn_id": "xero", "method": "delete"}, "xero", "DELETE"),
        ((), {"oauth2_conn_id": "xero", "method": "GET"}, "xero", "GET"),
        (("post", "PATCH"), {}, "post", "PATCH"),
    ],
)
def test_arguments_in_either_order(given, named, conn_id, method):
    hook = OAuth2Hook(*given, **named)
    assert (hook.oauth2_conn_id, hook.http_conn_id, hook.method) == (conn_id, conn_id, method)


@pytest.mark.parametrize("name", ["http_conn_id", "oauth2_conn_id"])
def test_another_connection_after_construction_brings_its_own_host_and_token(server, monkeypatch, name):
    with ScriptedServer() as other:
        connection = {
            "conn_type": "oauth2",
            "host": other.api_url,
            "login": other.client_id,
            "password": other.client_secret,
            "extra": {"oauth_url": other.token_url, "refresh_token": other.issue(), "store": "variable"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
        hook = OAuth2Hook(CONN_ID, "GET")
        hook.run("/items")
        monkeypatch.setattr("airflow_oauth_provider.connection.loader.open_store", lambda *_, **__: _Empty())
        setattr(hook, name, "other")
        hook.run("/items")
        assert len(api_calls(server)) == len(api_calls(other)) == 1
        sent = [api_calls(one)[0].header("Authorization") for one in (server, other)]
        assert sent[0] != sent[1]
        hook.close()


class _Empty:
    name = "memory"

    def __init__(self):
        self.record = None

    def read(self):
        from airflow_oauth_provider.tokens.record import StoredRecord

        return StoredRecord(self.record, "1" if self.record else None)

    def write(self, record, *, if_version):
        self.record = record
        return "1"


def test_an_operator_whose_connection_is_set_later(server):
    task = operator(oauth2_conn_id="nowhere")
    task.http_conn_id = CONN_ID
    assert task.oauth2_conn_id == CONN_ID
    assert json.loads(task.execute(CONTEXT))["page"] == 1
    task.oauth2_conn_id = "elsewhere"
    assert task.http_conn_id == "elsewhere"


def test_headers_and_host_of_a_subclass(server, monkeypatch):
    class Hook(OAuth2Hook):
        default_headers = {"X-Team": "finance"}  # noqa: RUF012 - as HttpHook has it
        default_host = server.api_url

    connect(monkeypatch, server, host="")
    Hook(CONN_ID, "GET").run("/items", headers={"X-Own": "1"})
    (call,) = api_calls(server)
    assert (call.header("X-Team"), call.header("X-Own")) == ("finance", "1")
    with pytest.raises(ConfigurationError, match="enter the API's base URL"):
        OAuth2Hook(CONN_ID, "GET").run("/items")


def test_a_base_url_that_a_subclass_sets_is_its_own(server):
    hook = OAuth2Hook(CONN_ID, "GET")
    hook.base_url = f"{server.api_url}/v2"
    assert hook.url_from_endpoint("items") == f"{server.api_url}/v2/items"
    hook.http_conn_id = CONN_ID
    assert hook.url_from_endpoint("items") == f"{server.api_url}/items"


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("name", ["proxy", "proxies"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_proxy_in_extra_options(server, as_text, name, deferrable):
    with proxy_to(server) as (proxy, asked):
        value = proxy if as_text else {"http": proxy}
        run_deferred(operator(extra_options={name: value}, deferrable=deferrable))
        assert len(asked) == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_option_that_is_none_counts_as_requests_has_it(server, monkeypatch, deferrable):
    token = server.issue_tokens()["access_token"]
    with proxy_to(server) as (proxy, asked):
        own = {
            "check_response": False,
            "allow_redirects": False,
            "access_token": token,
            "expires_at": "2100-01-01T00:00:00Z",
        }
        connect(monkeypatch, server, proxies={"http": proxy}, **own)
        options = dict.fromkeys(("proxies", "check_response", "allow_redirects", "max_redirects", "verify", "cert"))
        task = {"endpoint": "/redirect?to=/api/items", "deferrable": deferrable}
        text, _ = run_deferred(operator(**task, extra_options={**options, "stream": None, "timeout": None}))
        assert asked == []
        assert json.loads(text)["page"] == 1
        with pytest.raises(ApiError, match="404"):
            run_deferred(operator(endpoint="/none", deferrable=deferrable, extra_options={"check_response": None}))


def test_no_timeout_is_none_and_the_connections_own_holds_otherwise(server):
    hook = OAuth2Hook(CONN_ID)
    assert hook.get_conn(extra_options={"timeout": None}).timeout is None
    assert hook.get_conn(extra_options={"timeout": 7}).timeout == 7
    assert hook.get_conn().timeout == 5
    assert hook.get_conn(extra_options={"verify": None}).verify is True


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/csv", "né,日本\n".encode(), "né,日本\n"),
        ("text/plain; charset=iso-8859-1", "né".encode("latin-1"), "né"),
        ("text/plain; charset=utf-8", "né".encode(), "né"),
        ("text/plain", b"n\xe9", "né"),
        ("text/html", "<p>ü</p>".encode(), "<p>ü</p>"),
    ],
)
def test_texts_without_a_charset(server, deferrable, content_type, body, text):
    server.routes["/api/text"] = lambda _: Answer(200, body, headers={"Content-Type": content_type})
    assert run_deferred(operator(endpoint="/text", deferrable=deferrable))[0] == text


@pytest.mark.parametrize("deferrable", [False, True])
def test_cookies_travel_from_page_to_page(server, deferrable):
    def items(request):
        number = int(request.query.get("page", 1))
        return Answer(200, {"rows": [number] if number < 4 else []}, headers={"Set-Cookie": f"seen={number}; Path=/"})

    server.routes["/api/rows"] = items
    run_deferred(operator(endpoint="/rows", pagination=PageNumber("rows"), deferrable=deferrable))
    assert [call.header("Cookie") for call in api_calls(server)] == [None, "seen=1", "seen=2", "seen=3"]


# -- subclasses of the operator ------------------------------------------------------------------------------------


class TwicePaged(OAuth2HttpOperator):
    def paginate_sync(self, response):
        return [response, self.hook.run("/items", {"page": 7})]

    def paginate_async(self, context, response, previous_responses=None):
        return ["own", len(previous_responses or []), response.json()["page"]]


def test_a_subclass_pages_in_its_own_way(server, tmp_path):
    texts = operator(TwicePaged, pagination_function=lambda _: None).execute(CONTEXT)
    assert [json.loads(text)["page"] for text in texts] == [1, 7]
    path = tmp_path / "pages.ndjson"
    written = operator(TwicePaged, output=str(path), records_path="items").execute(CONTEXT)
    assert (written["pages"], written["records"]) == (2, 20)


@pytest.mark.parametrize("pages", [1, 10])
def test_a_subclass_pages_in_its_own_way_deferred(server, pages):
    pagination = NextUrl("next") if pages > 1 else None
    result, triggers = run_deferred(operator(TwicePaged, pagination=pagination, deferrable=True))
    assert result == ["own", pages - 1, pages]
    assert len(triggers) == 1


@pytest.mark.parametrize("kind", [HttpOperator, OAuth2HttpOperator])
def test_a_subclass_calls_what_it_overrides(server, kind):
    class Counting(kind):
        counted = 0

        def paginate_sync(self, response):
            found = super().paginate_sync(response=response)
            type(self).counted = len(found)
            return found

    pages = iter([{"data": {"page": "2"}}, {"data": {"page": "3"}}, None])
    arguments = {"task_id": "t", "method": "GET", "endpoint": "/items", "http_conn_id": CONN_ID}
    Counting(**arguments, pagination_function=lambda _: next(pages)).execute(CONTEXT)
    assert Counting.counted == 3


# -- a task that was deferred as a stock one -----------------------------------------------------------------------


def stock_event(server, page=1):
    """The event of HttpTrigger for one page."""
    from airflow.providers.http.triggers.http import HttpResponseSerializer

    response = Response()
    following = f"{server.api_url}/items?page={page + 1}" if page < 10 else None
    response._content = json.dumps({"page": page, "items": [{"id": 1}], "next": following}).encode()
    response.status_code, response.url = 200, f"{server.api_url}/items?page={page}"
    response.headers["Content-Type"] = "application/json"
    return {"status": "success", "response": HttpResponseSerializer.serialize(response)}, response


def test_the_event_of_a_stock_trigger(server):
    event, response = stock_event(server)
    assert operator(deferrable=True).execute_complete(CONTEXT, event) == response.text
    with pytest.raises(Exception, match="went wrong"):
        operator().execute_complete(CONTEXT, {"status": "error", "message": "went wrong"})


def test_the_pages_of_a_stock_task_count(server):
    _, earlier = stock_event(server, 1)
    event, _ = stock_event(server, 2)
    wants = iter([{"data": {"page": "3"}}, None])
    task = operator(deferrable=True, pagination_function=lambda _: next(wants))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute_complete(CONTEXT, event, paginated_responses=[earlier])
    arguments = json.loads(json.dumps(deferred.value.kwargs))
    texts = task.execute_complete(CONTEXT, run_trigger(deferred.value.trigger), **arguments)
    assert [json.loads(text)["page"] for text in texts] == [1, 2, 3]


def test_a_paginator_goes_on_where_a_stock_task_was(server, tmp_path):
    event, _ = stock_event(server, 8)
    texts = operator(pagination=NextUrl("next")).execute_complete(CONTEXT, event)
    assert [json.loads(text)["page"] for text in texts] == [8, 9, 10]
    path = str(tmp_path / "pages.ndjson")
    written = operator(pagination=NextUrl("next"), output=path, records_path="items").execute_complete(CONTEXT, event)
    assert written["pages"] == 3


# -- relatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["notify", "async_notify"])
@pytest.mark.parametrize("name", ["oauth2_conn_id", "http_conn_id"])
def test_the_notifier_sends_with_a_token(server, way, name):
    notifier = OAuth2HttpNotifier(**{name: CONN_ID}, endpoint="/echo", json={"dag": "{{ params.who }}"})
    notifier.render_template_fields({"params": {"who": "me"}})
    outcome = getattr(notifier, way)({})
    if way == "async_notify":
        asyncio.run(outcome)
    (call,) = api_calls(server)
    assert (call.method, call.json()) == ("POST", {"dag": "me"})
    assert call.header("Authorization").startswith("Bearer ")


def test_the_notifier_fails_on_an_error(server):
    server.faults.append(Fault("/api", status=400))
    with pytest.raises(ApiError, match="400"):
        OAuth2HttpNotifier(oauth2_conn_id=CONN_ID, endpoint="/echo").notify({})


CHECK = """
async def is_done(response):
    return response.json()["state"] == "done"

def is_no_coroutine(response):
    return True
"""


@pytest.fixture
def checks(tmp_path, monkeypatch):
    name = f"checks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CHECK)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def watch(checks, **arguments):
    path = f"{checks}.{arguments.pop('check', 'is_done')}"
    arguments = {"oauth2_conn_id": CONN_ID, "endpoint": "/job", "poll_interval": 0.01, **arguments}
    return OAuth2HttpEventTrigger(path, max_attempts=1, **arguments)


def test_the_event_trigger_fires_in_the_form_of_the_stock_one(server, checks):
    from airflow.providers.http.triggers.http import HttpResponseSerializer

    states = iter(["queued", "running", "done"])
    server.faults.append(Fault("/api", status=500))
    server.routes["/api/job"] = lambda _: Answer(200, {"state": next(states), "padding": "x" * 3000})
    event = run_trigger(watch(checks))
    assert HttpResponseSerializer.deserialize(event["response"]).json()["state"] == "done"
    assert len(api_calls(server)) == 4
    assert "Bearer" not in json.dumps(event)


def test_the_event_trigger_gives_up_after_failures_in_a_row(server, checks):
    server.routes["/api/job"] = lambda _: Answer(500, {})
    with pytest.raises(ApiError, match="500"):
        run_trigger(watch(checks, max_consecutive_failures=3))
    assert len(api_calls(server)) == 3
    server.routes["/api/job"] = lambda _: Answer(200, {"state": "done"})
    with pytest.raises(ConfigurationError, match="asynchronous"):
        run_trigger(watch(checks, check="is_no_coroutine", max_consecutive_failures=1))
    with pytest.raises(ValueError, match="max_consecutive_failures"):
        watch(checks, max_consecutive_failures=0)
    assert watch(checks, http_conn_id="x").serialize()[1]["oauth2_conn_id"] == CONN_ID


class HttpToShelf(BaseOperator):
    """A transfer operator of the kind of HttpToS3Operator and HttpToGCSOperator, which make their hook so."""

    template_fields = ("http_conn_id", "endpoint")

    def __init__(self, *, endpoint, method="GET", http_conn_id="http_default", auth_type=None, **arguments):
        super().__init__(**arguments)
        self.endpoint, self.method, self.http_conn_id, self.auth_type = endpoint, method, http_conn_id, auth_type
        self.tcp_keep_alive, self.tcp_keep_alive_idle = True, 120
        self.tcp_keep_alive_count, self.tcp_keep_alive_interval = 20, 30

    @cached_property
    def http_hook(self):
        return HttpHook(self.method, http_conn_id=self.http_conn_id)

    def execute(self, context):
        return self.http_hook.run(self.endpoint, {}, {}, {}).content


class OAuth2ToShelf(OAuth2TransferMixin, HttpToShelf):
    pass


@pytest.mark.parametrize("name", ["oauth2_conn_id", "http_conn_id"])
def test_transfers_read_with_a_token(server, name):
    server.faults.append(Fault("/api", status=429))
    transfer = OAuth2ToShelf(task_id="task", **{name: CONN_ID}, endpoint="/items")
    transfer.http_hook.sending = replace(transfer.http_hook.sending, sleep=lambda _: None)
    assert json.loads(transfer.execute({}))["page"] == 1
    assert transfer.oauth2_conn_id == CONN_ID
    assert [call.header("Authorization")[:7] for call in api_calls(server)] == ["Bearer "] * 2


def test_a_transfer_is_an_operator_like_any_other():
    defaults = {"max_attempts": 2, "endpoint": "/items", "retries": 3}
    transfer = OAuth2ToShelf(task_id="task", oauth2_conn_id=CONN_ID, default_args=defaults)
    assert (transfer.max_attempts, transfer.endpoint, transfer.retries) == (2, "/items", 3)
    assert transfer.template_fields == HttpToShelf.template_fields
    mapped = OAuth2ToShelf.partial(task_id="task", oauth2_conn_id=CONN_ID).expand(endpoint=["/a", "/b"])
    assert mapped.partial_kwargs["oauth2_conn_id"] == CONN_ID


# -- options that HttpHook has -------------------------------------------------------------------------------------


def test_redirects_at_most(server):
    with pytest.raises(requests.TooManyRedirects, match="redirect"):
        OAuth2Hook(CONN_ID, "GET").run("/redirect?to=/api/items", extra_options={"max_redirects": 0})


def test_a_streamed_answer_is_left_to_the_caller(server):
    response = OAuth2Hook(CONN_ID, "GET").run("/items", extra_options={"stream": True})
    assert response._content is False
    assert json.loads(b"".join(response.iter_content(5)))["page"] == 1
