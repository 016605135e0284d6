"""The scripted server: its rules, its faults, its counts, many clients at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote_plus

import pytest
import requests

from tests.servers.scripted import Fault, ScriptedProcess, ScriptedServer


def session_for(server):
    session = requests.Session()
    session.trust_env = False
    session.auth = (quote_plus(server.client_id), quote_plus(server.client_secret))
    session.verify = server.ca_file if server.url.startswith("https") else True
    return session


def refresh(server, token, session=None):
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return (session or session_for(server)).post(server.token_url, data=form, timeout=10)


@pytest.fixture(params=["http", "https"])
def server(request):
    with ScriptedServer(tls=request.param == "https") as server:
        yield server


def test_rotation_reuse_and_the_end_of_the_grant(server):
    first = server.issue()
    second = refresh(server, first).json()
    assert (server.spends, server.reuses, server.grants.grants_alive()) == (1, 0, 1)
    assert refresh(server, first).json()["error"] == "invalid_grant"
    assert (server.spends, server.reuses, server.grants.grants_alive()) == (1, 1, 0)
    assert refresh(server, second["refresh_token"]).status_code == 400
    assert not server.grants.accepts(second["access_token"])


def test_grace_gives_the_same_answer(server):
    server.rules.grace = 60
    token = server.issue()
    assert refresh(server, token).json() == refresh(server, token).json()
    assert (server.spends, server.reuses) == (1, 0)


def test_a_lost_answer_has_rotated(server):
    token = server.issue()
    server.faults.append(Fault(reset=True, works=True))
    with pytest.raises(requests.ConnectionError):
        refresh(server, token)
    assert server.spends == 1
    assert not server.grants.is_usable_refresh_token(token)


@pytest.mark.parametrize(
    ("fault", "spends"),
    [
        (Fault(status=503, body="<html>", headers={"Retry-After": "7"}), 0),
        (Fault(hang_up=True), 0),
        (Fault(hang_up=True, works=True), 1),
        (Fault(truncate=5), 1),
        (Fault(drip=0.001), 1),
        (Fault(after=0.2), 1),
    ],
)
def test_faults_happen_once(server, fault, spends):
    token = server.issue()
    server.faults.append(fault)
    try:
        answer = refresh(server, token)
    except requests.RequestException:
        answer = None
    assert server.spends == spends
    if fault.status:
        assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (503, "7", "<html>")
    assert not server.faults
    assert refresh(server, server.issue()).ok


def test_the_api_wants_a_good_token(server):
    tokens = server.issue_tokens()
    session = session_for(server)
    session.auth = None
    session.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    page = session.get(f"{server.api_url}/items?page=2", timeout=10)
    assert (page.status_code, page.json()["page"], len(page.json()["items"])) == (200, 2, 10)
    server.grants.expire_access_tokens()
    refused = session.get(f"{server.api_url}/items", timeout=10)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
    assert [request.path for request in server.requests] == ["/api/items", "/api/items"]
    assert len({request.connection for request in server.requests}) == 1


def test_an_outage_and_its_end(server):
    token = server.issue()
    session = session_for(server)
    assert refresh(server, token, session).ok
    server.pause()
    with pytest.raises(requests.ConnectionError):
        refresh(server, token, session)
    server.resume()
    assert refresh(server, server.issue(), session).ok


def test_fifty_clients_at_once():
    with ScriptedProcess(lifetime=5) as server:
        tokens = [server.issue() for _ in range(50)]
        started = time.monotonic()
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda token: refresh(server, token).status_code, tokens))
        assert answers == [200] * 50
        assert server.stats()["spends"] == 50
        assert server.stats()["reuses"] == 0
        assert time.monotonic() - started < 20
