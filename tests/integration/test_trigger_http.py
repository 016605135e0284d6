"""The deferred path: the same requests, from an event loop, with the same life cycle of tokens."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
import time
from pathlib import Path

import pytest

from airflow_oauth_provider.compat import connections, sdk
from airflow_oauth_provider.exceptions import (
    ApiError,
    ConfigurationError,
    ForeignOrigin,
    OAuth2Error,
    ReauthorizationRequired,
)
from airflow_oauth_provider.http import aio_client as aio
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.pagination import LinkHeader, NextUrl
from airflow_oauth_provider.tokens.manager import TokenManager
from airflow_oauth_provider.triggers.events import raise_error_of
from airflow_oauth_provider.triggers.http import OAuth2HttpTrigger
from tests.http_support import CONN_ID, CONTEXT, api_calls, connect, ids_of, proxy_to, run_deferred, run_trigger
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
    return OAuth2HttpOperator(deferrable=True, **arguments)


def next_page(response):
    following = response.json()["page"] + 1
    return {"data": {"page": following}, "headers": {"X-Page": str(following)}} if following <= 3 else None


# -- results -------------------------------------------------------------------------------------------------------


def test_a_single_page(server):
    text, _ = run_deferred(operator())
    assert json.loads(text)["page"] == 1


def test_a_pagination_function_goes_on_in_the_task_with_all_options(server):
    """Also seen: without request_kwargs in the trigger, this fails."""
    texts, triggers = run_deferred(
        operator(
            pagination_function=next_page,
            headers={"X-Always": "1"},
            request_kwargs={"cookies": {"kept": "1"}},
            extra_options={"timeout": [1, 2]},
            warn_on_non_idempotent=False,
        )
    )
    assert [json.loads(text)["page"] for text in texts] == [1, 2, 3]
    assert len(triggers) == 3
    assert [call.header("X-Always") for call in api_calls(server)] == ["1"] * 3
    assert [call.header("Cookie") for call in api_calls(server)] == ["kept=1"] * 3
    assert [call.header("X-Page") for call in api_calls(server)] == [None, "2", "3"]
    assert [trigger.serialize()[1]["extra_options"] for trigger in triggers] == [{"timeout": [1, 2]}] * 3


def test_a_ready_paginator_takes_one_deferral_and_one_connection(server):
    texts, triggers = run_deferred(operator(pagination=LinkHeader()))
    assert [json.loads(text)["page"] for text in texts] == list(range(1, 11))
    assert len(triggers) == 1
    assert len({call.connection for call in api_calls(server)}) == 1


def test_check_and_filter_run_in_the_task(server):
    ids, _ = run_deferred(
        operator(
            pagination=NextUrl("next"),
            response_check=lambda pages, params: len(pages) == 10 and params["who"] == "me",
            response_filter=lambda pages: [n for page in pages for n in ids_of(page.json())],
        )
    )
    assert ids == list(range(100))


@pytest.mark.parametrize("records", ["items", None])
def test_output_is_written_in_the_triggerer(server, tmp_path, records):
    path = tmp_path / "new" / "items.ndjson.gz"
    result, triggers = run_deferred(operator(pagination=NextUrl("next"), output=str(path), records_path=records))
    assert (result["pages"], result["records"]) == (10, 100 if records else None)
    assert len(triggers) == 1
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == (100 if records else 10)


def test_a_failed_run_leaves_no_output(server, tmp_path):
    server.faults.append(Fault(lambda r: r.query.get("page") == "5", status=400))
    with pytest.raises(ApiError):
        run_deferred(operator(pagination=NextUrl("next"), output=str(tmp_path / "x"), records_path="items"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"retry_args": {"reraise": True}},
        {"pagination_function": next_page, "output": "{}/x"},
    ],
)
def test_what_cannot_be_deferred_runs_in_the_worker(server, tmp_path, arguments):
    if "output" in arguments:
        arguments = {**arguments, "output": str(tmp_path / "x")}
    result, triggers = run_deferred(operator(**arguments))
    assert triggers == []
    assert result


def test_the_same_request_as_in_the_task(server):
    for arguments in (
        {"endpoint": "/echo", "data": {"a": "ä b", "c": "1/2"}},
        {"endpoint": "/echo?x=%2F&y=a+b", "headers": {"X-A": "1"}},
        {"method": "POST", "endpoint": "/echo", "data": {"a": "ä b"}},
        {"method": "POST", "endpoint": "/echo", "request_kwargs": {"json": {"a": "ä"}}},
        {"method": "PUT", "endpoint": "/echo", "data": "text"},
        {"endpoint": "/echo", "request_kwargs": {"cookies": {"a": "1"}}},
        {"endpoint": "/redirect?to=/api/echo"},
    ):
        server.requests.clear()
        arguments = {"warn_on_non_idempotent": False, **arguments}
        deferred = operator(**arguments)
        deferred.deferrable = False
        here = deferred.execute({})
        there, _ = run_deferred(operator(**arguments))
        half = len(api_calls(server)) // 2
        for first, second in zip(api_calls(server)[:half], api_calls(server)[half:], strict=True):
            assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
            ours, theirs = ({k.lower(): v for k, v in call.headers.items()} for call in (first, second))
            for connection in (ours, theirs):
                connection.pop("connection", None)
                connection.pop("accept-encoding", None)
            assert ours == theirs
        assert json.loads(here).keys() == json.loads(there).keys()


# -- tokens --------------------------------------------------------------------------------------------------------


def test_an_expired_token_is_refreshed_once_and_the_page_is_fetched_again(server):
    def expire(request):
        if request.query.get("page") == "5" and server.spends == 1:
            server.grants.expire_access_tokens()
        return False

    server.faults.append(Fault(expire))
    texts, _ = run_deferred(operator(pagination=NextUrl("next")))
    assert [json.loads(text)["page"] for text in texts] == list(range(1, 11))
    assert server.spends == 2
    assert len(api_calls(server)) == 11


def test_many_triggers_refresh_once(server, monkeypatch):
    """And of the worker threads, which are few, they take one."""
    original, asked = TokenManager.access_token, []
    monkeypatch.setattr(TokenManager, "access_token", lambda *a, **o: asked.append(1) or original(*a, **o))

    async def all_of_them():
        async def one():
            trigger = OAuth2HttpTrigger(oauth2_conn_id=CONN_ID, method="GET", endpoint="/items")
            (payload,) = [event.payload async for event in trigger.run()]
            return payload

        return await asyncio.gather(*(one() for _ in range(50)))

    events = asyncio.run(all_of_them())
    assert {event["status"] for event in events} == {"success"}
    assert server.spends == 1
    assert len(asked) == 1
    server.grants.expire_access_tokens()
    assert {event["status"] for event in asyncio.run(all_of_them())} == {"success"}
    assert server.spends == 2


def test_no_token_in_what_is_kept(server):
    _, triggers = run_deferred(operator(pagination=NextUrl("next")))
    event = run_trigger(triggers[0])
    token = api_calls(server)[0].header("Authorization").removeprefix("Bearer ")
    for kept in (triggers[0].serialize(), event):
        assert token not in json.dumps(kept)
        assert server.client_secret not in json.dumps(kept)
        for secret in server.grants.issued:
            assert secret not in json.dumps(kept)


def test_a_token_in_the_query_does_not_get_into_the_event(server, monkeypatch):
    connect(monkeypatch, server, in_query="access_key")
    answered = []

    def items(request):
        answered.append(request.query.get("access_key"))
        return Answer(200, {"ok": True})

    server.routes["/api/open"] = items
    _, triggers = run_deferred(operator(endpoint="/open"))
    assert answered[0] in server.grants.issued
    event = json.dumps(run_trigger(triggers[0]))
    assert answered[-1] not in event


def test_the_connections_own_headers_stay_behind_on_a_foreign_host(server, monkeypatch):
    headers = {"X-Subscription-Key": "0123456789", "Accept-Language": "en"}
    connect(monkeypatch, server, headers=headers)
    with ScriptedServer() as foreign:
        foreign.routes["/open"] = lambda request: Answer(200, {name: request.header(name) for name in headers})
        elsewhere = operator(endpoint=f"/redirect?to={foreign.url}/open")
        text, _ = run_deferred(elsewhere)
        assert json.loads(text) == {"X-Subscription-Key": None, "Accept-Language": "en"}
        elsewhere.deferrable = False
        assert json.loads(elsewhere.execute(CONTEXT)) == {"X-Subscription-Key": None, "Accept-Language": "en"}
        assert api_calls(server)[-1].header("X-Subscription-Key") == "0123456789"


def test_the_token_stays_behind_on_a_foreign_host(server):
    with ScriptedServer() as foreign:
        foreign.routes["/open"] = lambda request: Answer(200, {"token": request.header("Authorization")})
        text, _ = run_deferred(operator(endpoint=f"/redirect?to={foreign.url}/open"))
        assert json.loads(text) == {"token": None}
        foreign.requests.clear()
        with pytest.raises(ForeignOrigin):
            run_deferred(operator(endpoint=f"{foreign.url}/open"))
        server.routes["/api/items"] = lambda _: Answer(200, {"next": f"{foreign.url}/open"})
        with pytest.raises(ForeignOrigin):
            run_deferred(operator(pagination=NextUrl("next")))
        assert foreign.requests == []


def test_a_dead_grant_fails_the_task_for_good(server):
    server.grants.revoke_all()
    with pytest.raises(ReauthorizationRequired):
        run_deferred(operator())


# -- options -------------------------------------------------------------------------------------------------------


def test_a_connection_that_is_not_defined(monkeypatch):
    monkeypatch.setattr(connections, "secrets_backends", list)
    with pytest.raises(sdk.AirflowNotFoundException, match="nowhere_defined"):
        run_deferred(operator(oauth2_conn_id="nowhere_defined"))


def test_an_unforeseen_error_names_the_connection_and_shows_nothing_that_may_be_secret(
    server, monkeypatch, capsys, caplog
):
    secret = "-".join(["of", "somebody", "else"])  # so that no line of this file has it

    def fail(*_, **__):
        raise ValueError(secret)

    caplog.set_level(logging.DEBUG)
    _, triggers = run_deferred(operator())
    monkeypatch.setattr(aio.AsyncClient, "send", fail)
    event = run_trigger(triggers[0])
    with pytest.raises(OAuth2Error, match="'api': unexpected ValueError"):
        raise_error_of(event)
    logged = capsys.readouterr().out + caplog.text
    assert "in fail" in logged
    assert secret not in logged
    assert secret not in str(event)


def test_tls(scripted_tls_server, monkeypatch, tmp_path):
    server = scripted_tls_server
    connect(monkeypatch, server)
    assert run_deferred(operator())[0]
    with pytest.raises(ApiError, match=r"SSL|certificate"):
        run_deferred(operator(extra_options={"verify": True}))
    assert run_deferred(operator(extra_options={"verify": False}))[0]
    with pytest.raises(ConfigurationError, match=r"'api'.*'verify'.*none\.pem"):
        run_deferred(operator(extra_options={"verify": str(tmp_path / "none.pem")}))
    calls = len(api_calls(server))
    assert calls == 2, "a bad certificate is not tried again"


def test_the_environments_ca_bundle_does_not_override_the_connections(scripted_tls_server, monkeypatch, tmp_path):
    import certifi

    connect(monkeypatch, scripted_tls_server)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    assert run_deferred(operator())[0]


def test_a_client_certificate(monkeypatch):
    with ScriptedServer(tls=True, client_certificates=True) as server:
        files = server.certificates
        connect(monkeypatch, server, cert=[str(files.client_cert_file), str(files.client_key_file)])
        assert run_deferred(operator())[0]
        connect(monkeypatch, server, cert=str(files.client_file))
        assert run_deferred(operator())[0]


def test_a_proxy(server):
    with proxy_to(server) as (url, asked):
        assert run_deferred(operator(extra_options={"proxies": {"http": url}}))[0]
    assert asked == [f"{server.api_url}/items"]


def test_headers_of_the_connection(server, monkeypatch):
    connect(monkeypatch, server, headers={"X-Tenant": "7"})
    run_deferred(operator())
    assert api_calls(server)[0].header("X-Tenant") == "7"


def test_redirects(server):
    text, _ = run_deferred(operator(endpoint="/redirect?to=/api/items"))
    assert json.loads(text)["page"] == 1
    status, _ = run_deferred(
        operator(
            endpoint="/redirect?to=/api/items",
            extra_options={"allow_redirects": False},
            response_filter=lambda response: response.status_code,
        )
    )
    assert status == 302
    server.routes["/api/loop"] = lambda _: Answer(302, b"", {"Location": "/api/loop"})
    with pytest.raises(ApiError, match="redirected more than"):
        run_deferred(operator(endpoint="/loop", extra_options={"max_redirects": 3}))
    assert len(api_calls(server, "/api/loop")) == 4


def test_a_timeout(server):
    server.faults.append(Fault("/api", before=2, times=9))
    with pytest.raises(ApiError, match="Timeout"):
        run_deferred(operator(extra_options={"timeout": 0.3}, max_attempts=2))
    assert len(api_calls(server)) == 2


def test_unchecked(server):
    text, _ = run_deferred(operator(endpoint="/missing", extra_options={"check_response": False}))
    assert json.loads(text) == {"error": "not found"}


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(server, status):
    server.faults.append(Fault("/api", status=status, headers={"Retry-After": "1"}))
    began = time.monotonic()
    assert run_deferred(operator())[0]
    assert time.monotonic() - began >= 1
    assert len(api_calls(server)) == 2


@pytest.mark.parametrize("fault", [{"reset": True}, {"status": 502}, {"truncate": 5, "works": True}])
def test_a_post_that_may_have_been_taken_is_not_repeated(server, fault):
    server.faults.append(Fault("/api", **fault))
    with pytest.raises(ApiError, match="POST http"):
        run_deferred(operator(method="POST", endpoint="/echo", data="x", warn_on_non_idempotent=False))
    assert len(api_calls(server)) == 1
    server.faults.append(Fault("/api", **fault))
    assert run_deferred(operator(endpoint="/items"))[0]
    assert len(api_calls(server)) == 3


def test_an_error_says_what_failed_and_nothing_secret(server):
    server.routes["/api/items"] = lambda request: Answer(404, {"no": "page", "echo": request.header("Authorization")})
    with pytest.raises(ApiError) as caught:
        run_deferred(operator(data={"limit": "5", "signature": "abc"}))
    assert caught.value.http_status == 404
    assert f"404:Not Found - Connection 'api': GET {server.api_url}/items?limit=5&signature=***" in str(caught.value)
    assert api_calls(server)[0].header("Authorization").removeprefix("Bearer ") not in str(caught.value)


# -- the event loop ------------------------------------------------------------------------------------------------


def test_the_event_loop_is_never_held_up(server, monkeypatch, tmp_path):
    """A slow connection, a slow refresh, a slow store and a slow file: others go on meanwhile.

    Also seen: with the refresh called directly instead of in a thread, this fails.
    """
    from airflow_oauth_provider.http.output import OutputFile

    main = threading.current_thread()
    slow = []

    def slowed(function, name):
        def call(*arguments, **options):
            slow.append(name)
            assert threading.current_thread() is not main, f"{name} on the event loop"
            time.sleep(0.1)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(connections, "find_connection", slowed(connections.find_connection, "connection"))
    monkeypatch.setattr(TokenManager, "access_token", slowed(TokenManager.access_token, "token"))
    monkeypatch.setattr(OutputFile, "open", slowed(OutputFile.open, "open"))
    monkeypatch.setattr(OutputFile, "commit", slowed(OutputFile.commit, "commit"))
    server.faults.append(Fault("/token", before=0.3, works=True))
    trigger = OAuth2HttpTrigger(
        oauth2_conn_id=CONN_ID,
        method="GET",
        endpoint="/items",
        pagination=NextUrl("next").to_dict(),
        output={"path": str(tmp_path / "x"), "conn_id": None, "owner": "me"},
        records_path="items",
    )

    async def watched():
        return [event.payload async for event in trigger.run()]

    events = asyncio.run(watched())
    assert events[0]["output"]["records"] == 100
    assert {"connection", "token", "open", "commit"} <= set(slow)
    assert Path(tmp_path / "x").exists()


def test_connections_are_closed_when_the_last_trigger_is_done(server):
    run_deferred(operator())
    assert all(not clients for clients in aio._clients.values())


def test_a_cancelled_trigger_leaves_no_output(server, tmp_path):
    server.faults.append(Fault(lambda r: r.query.get("page") == "5", before=1, works=True))
    trigger = operator(pagination=NextUrl("next"), output=str(tmp_path / "x"), records_path="items")._trigger(
        operator()._first_request(), {}
    )
    trigger.pagination = NextUrl("next").to_dict()
    trigger.output = {"path": str(tmp_path / "x"), "conn_id": None, "owner": "me"}

    async def cancelled():
        async def consume():
            return [event async for event in trigger.run()]

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.7)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert list(tmp_path.iterdir()) == []
