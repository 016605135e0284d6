"""Pages side by side: the same records as one after the other, one refresh, one hold, a clean end."""

from __future__ import annotations

import json
import threading
import time

import pytest

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.http.retry import RateLimit
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.pagination import Cursor, LinkHeader, NextUrl, OffsetLimit, PageNumber
from tests.http_support import CONN_ID, api_calls, connect, run_deferred
from tests.servers.scripted import Answer, Fault

WIDTH = 8


@pytest.fixture
def server(scripted_server, monkeypatch):
    connect(monkeypatch, scripted_server)
    scripted_server.pages = 40
    return scripted_server


def run(deferrable, **arguments):
    arguments = {"pagination": PageNumber("items", pages="pages"), "concurrent_pages": WIDTH, **arguments}
    task = {"task_id": "task", "oauth2_conn_id": CONN_ID, "method": "GET", "endpoint": "/items", "max_attempts": 3}
    return run_deferred(OAuth2HttpOperator(**{**task, **arguments}, deferrable=deferrable))[0]


def rows(server, count, cap, **told):
    """Serve ``count`` numbers by offset, at most ``cap`` at once."""

    def answer(request):
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        return Answer(200, {"rows": list(range(count))[offset : offset + min(limit, cap)], **told})

    server.routes["/api/rows"] = answer


both = pytest.mark.parametrize("deferrable", [False, True])


@both
def test_they_come_in_order_and_are_all_there(server, tmp_path, deferrable):
    path = tmp_path / "items.ndjson"
    written = run(deferrable, output=str(path), records_path="items")
    assert (written["pages"], written["records"]) == (40, 400)
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == list(range(400))
    assert len(api_calls(server)) == 40, "nothing beyond the end is asked for"
    assert server.spends == 1


@both
def test_they_are_on_their_way_at_once(server, deferrable):
    """Each answer waits for the others: one after the other this would never end."""
    meeting = threading.Barrier(WIDTH)

    def answer(request):
        number = int(request.query["page"])
        if 1 < number <= 1 + WIDTH:
            meeting.wait(60)
        return Answer(200, {"rows": [number], "pages": 1 + WIDTH})

    server.routes["/api/rows"] = answer
    texts = run(deferrable, endpoint="/rows", pagination=PageNumber("rows", pages="pages"))
    assert [json.loads(text)["rows"][0] for text in texts] == list(range(1, 2 + WIDTH))


@both
@pytest.mark.parametrize(("count", "cap"), [(0, 9), (3, 9), (9, 9), (90, 9), (91, 4), (50, 100)])
@pytest.mark.parametrize("total", [True, False])
def test_offsets(server, deferrable, count, cap, total):
    rows(server, count, cap, **({"total": count} if total else {}))
    texts = run(deferrable, endpoint="/rows", pagination=OffsetLimit(9, "rows", total="total?"))
    assert [row for text in texts for row in json.loads(text)["rows"]] == list(range(count))
    if total and cap == 9 and count:
        assert len(api_calls(server)) == -(-count // 9)


@both
def test_the_token_ends_for_all_of_them_and_is_refreshed_once(server, deferrable):
    expired = threading.Event()

    def expire(request):
        if request.query.get("page") == "15" and not expired.is_set():
            expired.set()
            server.grants.expire_access_tokens()
        return False

    server.faults.append(Fault(expire))
    pages = [json.loads(text)["page"] for text in run(deferrable)]
    assert pages == list(range(1, 41))
    assert server.spends == 2


@both
@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {}])
def test_a_429_holds_all_of_them(server, deferrable, headers, monkeypatch):
    monkeypatch.setattr("airflow_oauth_provider.http.retry.RetryPolicy._pause", lambda *_: 1.0)
    begun, refused, held = [], [], threading.Event()
    last_of_first = 1 + WIDTH  # the first page goes alone: it tells how many there are
    hold = RateLimit.hold

    def note(limit, seconds):
        hold(limit, seconds)
        if seconds > 0:
            held.set()

    monkeypatch.setattr(RateLimit, "hold", note)

    def answer(request):
        number = int(request.query["page"])
        begun.append((number, time.monotonic()))
        if number == last_of_first and not refused:
            refused.append(time.monotonic())
            return Answer(429, {}, headers=headers)
        if 1 < number < last_of_first:
            held.wait(30)  # the others make room for new ones when the 429 has been read, not before
        return Answer(200, {"rows": [number], "pages": 40})

    server.routes["/api/rows"] = answer
    texts = run(deferrable, endpoint="/rows", pagination=PageNumber("rows", pages="pages"))
    assert [json.loads(text)["rows"][0] for text in texts] == list(range(1, 41))
    assert [number for number, moment in begun if number > last_of_first and moment - refused[0] < 0.9] == []
    assert len(begun) == 41


@both
def test_a_page_that_fails_ends_the_run_and_leaves_nothing(server, tmp_path, deferrable):
    server.faults.append(Fault(lambda request: request.query.get("page") == "12", status=500, times=9))
    with pytest.raises(ApiError, match="500"):
        run(deferrable, output=str(tmp_path / "items.ndjson"), records_path="items")
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pages")]
    assert len(api_calls(server)) <= 12 + WIDTH


def test_a_run_that_fails_does_not_wait_for_the_pauses_of_others(server):
    """Also seen: without Pauses.end() this takes as long as the API asked for."""
    server.faults.append(Fault(lambda request: request.query.get("page") == "9", status=503, times=9, headers=LATER))
    server.faults.append(Fault(lambda request: request.query.get("page") == "5", status=500))
    began = threading.Timer(100, lambda: None)
    began.start()
    with pytest.raises(ApiError, match="500"):
        run(False)
    assert began.is_alive(), "the pause that page 9 was told to make is 120 seconds long"
    began.cancel()


LATER = {"Retry-After": "120"}


@both
def test_a_404_beyond_the_end_is_not_looked_at(server, deferrable):
    server.routes["/api/rows"] = lambda r: (
        Answer(200, {"rows": [1] if r.query["page"] == "1" else []}) if int(r.query["page"]) < 3 else Answer(404, {})
    )
    texts = run(deferrable, endpoint="/rows", pagination=PageNumber("rows"))
    assert [json.loads(text)["rows"] for text in texts] == [[1], []]
    server.routes["/api/rows"] = lambda r: (
        Answer(200, {"rows": [int(r.query["page"])]}) if int(r.query["page"]) < 6 else Answer(404, {})
    )
    for width in (1, WIDTH):
        options = {"endpoint": "/rows", "concurrent_pages": width}
        assert len(run(deferrable, pagination=PageNumber("rows", end_statuses=(404,)), **options)) == 5
        with pytest.raises(ApiError, match="404"):
            run(deferrable, pagination=PageNumber("rows"), **options)


@pytest.mark.parametrize("pagination", [None, LinkHeader(), NextUrl("next"), Cursor("next", "page")])
def test_who_does_not_know_ahead_is_refused(pagination):
    with pytest.raises(ValueError, match="knows addresses ahead"):
        OAuth2HttpOperator(task_id="t", oauth2_conn_id=CONN_ID, pagination=pagination, concurrent_pages=2)
    with pytest.raises(ValueError, match="at least"):
        OAuth2HttpOperator(task_id="t", oauth2_conn_id=CONN_ID, pagination=PageNumber(), concurrent_pages=0)
