"""A grant's whole life in a real Chromium, on a running deployment, against the real oidc-provider.

A person makes the connection in Airflow's own form and signs in from the page; runs go; the vendor ends the grant; the
notice, the log line, the button and the page say so; the person signs in again, and a run that waited for that goes on.
"""

from __future__ import annotations

import json
import time
from urllib.parse import quote_plus

import pytest
from playwright.sync_api import expect

from tests.e2e.connection_form import Form
from tests.e2e.in_browser import PATIENCE, log_in, open_grant, sign_in_from_the_page
from tests.e2e.person import PREFIX, Person
from tests.servers.airflow import AirflowInstance
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.browser import open_browser
from tests.servers.processes import wait_until

CONN_ID = "acme"
LISTENER = """
import json
import os


def write(notice):
    with open(os.environ["NOTICES_OF_THE_TEST"], "a") as file:
        file.write(json.dumps({"kind": notice.kind, "conn_id": notice.conn_id, "text": str(notice)}) + "\\n")
"""
DAG = """
from datetime import timedelta

from airflow.sdk import DAG
from airflow_oauth_provider.operators.http import OAuth2HttpOperator
from airflow_oauth_provider.operators.refresh_token import RefreshTokenOperator

with DAG("fails", schedule=None):
    RefreshTokenOperator(task_id="refresh", oauth2_conn_id="acme", coalesce_within=0)

with DAG("waits", schedule=None):
    refresh = RefreshTokenOperator(
        task_id="refresh", oauth2_conn_id="acme", coalesce_within=0, wait_for_sign_in=timedelta(hours=8)
    )
    items = OAuth2HttpOperator(task_id="items", oauth2_conn_id="acme", method="GET", endpoint="/items")
    refresh >> items

with DAG("gives_up", schedule=None):
    RefreshTokenOperator(
        task_id="refresh", oauth2_conn_id="acme", coalesce_within=0, wait_for_sign_in=timedelta(seconds=1)
    )
"""


@pytest.fixture(scope="module", params=["3.3", "3.1"])
def airflow(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("listener")
    (folder / "listener_of_the_test.py").write_text(LISTENER)
    environ = {
        "PYTHONPATH": str(folder),
        "NOTICES_OF_THE_TEST": str(folder / "notices"),
        "AIRFLOW__OAUTH2__LISTENERS": "listener_of_the_test:write",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
    }
    dags = tmp_path_factory.mktemp("dags")
    (dags / "grants.py").write_text(DAG)
    with AirflowInstance(request.param, dags_folder=dags, environ=environ) as instance:
        yield instance


@pytest.fixture(scope="module")
def server(airflow):
    redirect = f"{airflow.url}{PREFIX}/callback"
    client = {
        "client_id": "web-app",
        "client_secret": "web-client-secret-0123456789",
        "application_type": "web",
        "redirect_uris": [redirect],
        "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    }
    with AuthorizationServer(access_token_lifetime=600, extra_clients=[client]) as server:
        yield server


@pytest.fixture(scope="module")
def page(airflow):
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, base_url=airflow.url)
        page.set_default_timeout(PATIENCE)
        log_in(page, airflow, airflow.username, airflow.password)
        yield page


@pytest.fixture(scope="module", autouse=True)
def connection(page, server):
    """A person makes it, in Airflow's own form."""
    form = Form.new(page, CONN_ID)
    form.standard("host").fill(server.api_url)
    form.standard("login").fill("web-app")
    form.standard("password").fill("web-client-secret-0123456789")
    form.enter("issuer", server.issuer)
    form.enter("scope", "openid read write")
    form.save()


def notices(airflow):
    file = airflow.environ["NOTICES_OF_THE_TEST"]
    try:
        with open(file) as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError:
        return []


def kept(airflow):
    return json.loads(airflow.connection(CONN_ID)["extra"]["token_record"])


def revoke_at_the_server(airflow, server):
    answer = server.session.post(
        f"{server.url}/token/revocation",
        data={"token": kept(airflow)["refresh_token"]},
        auth=(quote_plus("web-app"), quote_plus("web-client-secret-0123456789")),
        timeout=30,
    )
    answer.raise_for_status()


def deferred(airflow, run_id):
    """The run waits, and the scheduler has noticed that the process which deferred it has ended.

    A task that goes on before that, Airflow takes for failed; nobody signs in as quickly as a test does.
    """
    key = f"TaskInstanceKey(dag_id='waits', task_id='refresh', run_id='{run_id}'"
    noticed = f"executor event with state success for task instance {key}"
    log = (airflow.folder / "scheduler.log").read_text(errors="replace")
    return noticed in log and airflow.task_states("waits", run_id).get("refresh") == "deferred"


def test_a_run_waits_for_the_first_sign_in_and_for_the_next(airflow, server, page):
    open_grant(page, airflow, CONN_ID)
    expect(page.locator(".badge")).to_have_text("never signed in")
    run_id = airflow.trigger("waits")
    wait_until(lambda: deferred(airflow, run_id), 120, "the run waits", every=0.3)
    assert [(found["kind"], "A run waits" in found["text"]) for found in notices(airflow)] == [("sign_in_again", True)]
    sign_in_from_the_page(page, airflow, CONN_ID)
    expect(page.locator(".badge")).to_have_text("fresh")
    assert airflow.wait("waits", run_id) == "success", airflow.explain("waits", run_id)

    revoke_at_the_server(airflow, server)
    second = airflow.trigger("waits")
    wait_until(lambda: deferred(airflow, second), 120, "the second run waits", every=0.3)
    assert kept(airflow)["dead"]["error"] == "invalid_grant"
    open_grant(page, airflow, CONN_ID)
    expect(page.locator(".badge")).to_have_text("sign in again")
    sign_in_from_the_page(page, airflow, CONN_ID)
    expect(page.locator(".badge")).to_have_text("fresh")
    assert airflow.wait("waits", second) == "success", airflow.explain("waits", second)

    kinds = [found["kind"] for found in notices(airflow)]
    assert kinds == ["sign_in_again", "sign_in_again", "sign_in_again", "works_again"]
    assert all(found["conn_id"] == CONN_ID for found in notices(airflow))
    assert f"{airflow.url}{PREFIX}/grant?connection={CONN_ID}" in notices(airflow)[-1]["text"]
    log = airflow.task_log("waits", second, "refresh")
    assert "The access token was refreshed and works until" in log
    assert "TokenStatus(" not in log


def test_a_failing_task_leads_to_the_page(airflow, server):
    revoke_at_the_server(airflow, server)
    run_id = airflow.trigger("fails")
    assert airflow.wait("fails", run_id) == "failed"

    page = f"{airflow.url}{PREFIX}/grant?connection={CONN_ID}"
    assert f"a person has to sign in again: {page}" in airflow.task_log("fails", run_id, "refresh")
    links = airflow.api("GET", f"/dags/fails/dagRuns/{run_id}/taskInstances/refresh/links")
    assert links["extra_links"] == {"OAuth 2.0 grant": page}


def test_a_run_that_waits_in_vain_says_so(airflow, server):
    run_id = airflow.trigger("gives_up")
    assert airflow.wait("gives_up", run_id) == "failed"
    assert "nobody signed in within 0:00:01" in airflow.task_log("gives_up", run_id, "refresh")


def test_no_secret_is_in_logs_events_or_notices(airflow, server):
    person = Person(airflow, CONN_ID)
    person.sign_in()
    run_id = airflow.run("waits")
    record = kept(airflow)
    time.sleep(1)  # the last lines of the log
    secrets = {record["access_token"], record["refresh_token"], "web-client-secret-0123456789"}
    searched = airflow.task_log("waits", run_id, "refresh") + json.dumps(notices(airflow))
    searched += json.dumps(airflow.sql("SELECT event, owner, extra FROM log"), default=str)
    searched += json.dumps(airflow.sql("SELECT * FROM trigger"), default=str)
    for name in ("api-server", "triggerer"):
        searched += (airflow.folder / f"{name}.log").read_text(errors="replace")

    assert [secret[:6] for secret in secrets if secret in searched] == []
