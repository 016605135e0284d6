"""The pages in a real Chromium, against the real oidc-provider, on Airflow 3.1 and 3.3.

A person signs in, tasks run, the vendor ends the grant, the page and the notice say so, the person signs in again, and
a run that waited for that goes on. `SCREENSHOTS=docs/images` makes the pictures of docs/sign-in.md anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect

from tests.e2e.in_browser import PATIENCE, log_in, open_grant, sign_in_at_the_vendor, sign_in_from_the_page
from tests.e2e.person import PREFIX, Person
from tests.servers.airflow import AirflowInstance
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.browser import open_browser
from tests.servers.processes import wait_until

CONN_ID = "acme"
WEB_CLIENT = {
    "client_id": "web-app",
    "client_secret": "web-client-secret-0123456789",
    "application_type": "web",
    "token_endpoint_auth_method": "client_secret_basic",
    "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
    "response_types": ["code"],
}
# SimpleAuthManager lets a viewer see no connection at all; other auth managers do.
AUTH_MANAGER = """
import os

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.models.connection import Connection
from airflow.utils.session import create_session


class ViewersSeeConnections(SimpleAuthManager):
    def is_authorized_connection(self, *, method, user, details=None):
        if method == "PUT" and os.path.exists(os.environ["NOBODY_MAY_EDIT"]):
            return False
        if method == "GET" and user.role == "viewer":
            return True
        return super().is_authorized_connection(method=method, user=user, details=details)

    def get_authorized_connections(self, *, user, method="GET", session=None):
        # All of them, whoever asks, as FAB's auth manager does.
        with create_session() as session:
            return {name for (name,) in session.query(Connection.conn_id)}
"""


@pytest.fixture(scope="module", params=["3.3", "3.1"])
def airflow(request, tmp_path_factory) -> Iterator[AirflowInstance]:
    plugins = tmp_path_factory.mktemp("plugins")
    (plugins / "viewers_auth_manager.py").write_text(AUTH_MANAGER)
    environ = {
        "PYTHONPATH": str(plugins),
        "NOBODY_MAY_EDIT": str(plugins / "nobody_may_edit"),
        "AIRFLOW__CORE__AUTH_MANAGER": "viewers_auth_manager.ViewersSeeConnections",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,eve:viewer,mallory:user",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__API__WORKERS": "2",
    }
    with AirflowInstance(
        request.param, dags_folder=tmp_path_factory.mktemp("dags"), environ=environ, components=("api-server",)
    ) as instance:
        yield instance


@pytest.fixture(scope="module")
def server(airflow) -> Iterator[AuthorizationServer]:
    client = {**WEB_CLIENT, "redirect_uris": [f"{airflow.url}{PREFIX}/callback"]}
    with AuthorizationServer(access_token_lifetime=300, extra_clients=[client]) as server:
        airflow.add_connection(
            CONN_ID,
            {
                "conn_type": "oauth2",
                "host": server.api_url,
                "login": client["client_id"],
                "password": client["client_secret"],
                "extra": {
                    "issuer": server.issuer,
                    "scope": "openid read write offline_access",
                    "authorize_params": {"prompt": "consent"},
                    "store": "connection",
                },
            },
        )
        yield server


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser, airflow, server):
    context = browser.new_context(viewport={"width": 1280, "height": 760})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda line: page.errors.append(line.text) if "Content Security Policy" in line.text else None)
    log_in(page, airflow, "admin", password_of(airflow, "admin"))
    yield page
    context.close()
    assert page.errors == []


def password_of(airflow, user):
    return json.loads((airflow.home / "passwords.json").read_text())[user]


def row_of(page, conn_id=CONN_ID):
    return page.locator(f'tr[data-connection="{conn_id}"]')


def picture(page, airflow, name):
    if os.environ.get("SCREENSHOTS") and airflow.version == "3.3":
        size = page.viewport_size
        page.set_viewport_size({"width": 1280, "height": 400})
        page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"{name}.png", full_page=True)
        page.set_viewport_size(size)


def kept(airflow):
    return json.loads(airflow.connection(CONN_ID)["extra"]["token_record"])


def test_from_never_signed_in_to_a_fresh_token(page, airflow, server):
    assert "never signed in" in row_of(page).inner_text()
    picture(page, airflow, "grants-before")
    row_of(page).locator("a").click()
    page.get_by_role("link", name="Sign in", exact=True).click()
    assert page.input_value("#redirect") == f"{airflow.url}{PREFIX}/callback"
    assert page.locator(".scopes li").all_inner_texts() == ["openid", "read", "write", "offline_access"]
    picture(page, airflow, "sign-in")
    page.click("button.primary")
    sign_in_at_the_vendor(page)

    expect(page.locator(".note")).to_contain_text("You have signed in. The tokens are in the store 'connection'")
    expect(page.locator(".note")).to_contain_text("Granted: offline_access openid read write.")
    assert page.locator(".badge").inner_text() == "fresh"
    assert page.inner_text("dd >> nth=1") == "test-user"
    picture(page, airflow, "grant-signed-in")
    record = kept(airflow)
    assert record["refresh_token"]
    assert [event[1:3] for event in record["history"]] == [["signed_in", "admin"]]
    page.reload()  # does not sign in again, and the note is gone
    assert "You have signed in" not in page.inner_text("main")
    assert kept(airflow) == record


def test_refresh_now_and_check(page, airflow, server):
    before = kept(airflow)
    open_grant(page, airflow, CONN_ID)
    page.get_by_role("button", name="Refresh now").click()
    expect(page.locator(".note")).to_contain_text("The access token was refreshed")
    assert kept(airflow)["refresh_token"] != before["refresh_token"]
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".findings")).to_contain_text("the server accepts the client")


def test_the_vendor_ends_the_grant_and_the_person_signs_in_again(page, airflow, server):
    revoke_at_the_server(server, kept(airflow)["refresh_token"])
    open_grant(page, airflow, CONN_ID)
    page.get_by_role("button", name="Refresh now").click()
    expect(page.locator(".note.fail")).to_contain_text("refused the refresh token")
    assert page.locator(".badge").inner_text() == "sign in again"
    page.goto(f"{airflow.url}{PREFIX}/")
    assert row_of(page).get_attribute("data-state") == "sign in again"

    sign_in_from_the_page(page, airflow, CONN_ID)

    assert page.locator(".badge").inner_text() == "fresh"


def revoke_at_the_server(server, refresh_token):
    client = (WEB_CLIENT["client_id"], WEB_CLIENT["client_secret"])
    server.session.post(
        f"{server.url}/token/revocation", data={"token": refresh_token}, auth=client, timeout=30
    ).raise_for_status()


def test_revoke_asks_first(page, airflow, server):
    sign_in_from_the_page(page, airflow, CONN_ID)
    before = kept(airflow)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Revoke").click()
    assert kept(airflow) == before
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(".note")).to_contain_text("The grant has been revoked")
    assert kept(airflow)["dead"]["error"] == "revoked"


def test_sign_in_on_another_device(page, airflow, server, browser):
    page.goto(f"{airflow.url}{PREFIX}/sign-in?connection={CONN_ID}")
    page.click("text=Use a code on another device")
    code = page.inner_text("p.code")
    picture(page, airflow, "sign-in-device")
    other = browser.new_page()
    other.goto(page.get_attribute("text=Open it with the code filled in", "href"))
    expect(other.locator("body")).to_contain_text(code)
    other.get_by_role("button", name="Continue", exact=True).click()
    sign_in_at_the_vendor(other)
    expect(other.get_by_role("heading", name="Sign-in Success")).to_be_visible()
    other.close()

    expect(page.locator(".note")).to_contain_text("You have signed in", timeout=60_000)  # the page goes on by itself


def test_the_person_refuses(page, airflow, server):
    page.goto(f"{airflow.url}{PREFIX}/sign-in?connection={CONN_ID}")
    before = kept(airflow)
    page.click("button.primary")
    page.click("text=Cancel")
    expect(page.locator(".note.fail")).to_contain_text("access_denied")
    assert kept(airflow) == before


class TestAnAnswerCountsOnce:
    """The state belongs to one browser and one person, and is good for one answer."""

    def test_an_answer_is_used_once_also_by_another_worker(self, airflow, server):
        person = Person(airflow, CONN_ID)
        url = person.begin()
        spent = server.stats()["token_requests"]

        answers = [person.arrive(url) for _ in range(4)]  # two workers take turns; the cookies are those of the first

        assert [answer.status_code for answer in answers] == [303, 400, 400, 400]
        assert "used already" in answers[1].text
        assert server.stats()["token_requests"] == spent + 1

    def test_an_answer_for_another_browser_does_nothing(self, airflow, server):
        person = Person(airflow, CONN_ID)
        url = person.begin()
        before = kept(airflow)
        for taken in ("oauth2_session", "oauth2_sign_in"):
            answer = person.arrive(url, **{taken: "x" * 40})
            assert answer.status_code == 400
            assert "No sign-in of yours waits" in answer.text
        assert person.arrive(url.replace("state=", "state=x")).status_code == 400
        foreign = person.arrive(url.replace("iss=http", "iss=https"))
        assert (foreign.status_code, "RFC 9207" in foreign.text) == (400, True)
        assert kept(airflow) == before

    def test_who_has_lost_the_right_meanwhile_changes_nothing(self, airflow, server):
        person = Person(airflow, CONN_ID)
        url = person.begin()
        before, spent = kept(airflow), server.stats()["token_requests"]
        switch = Path(airflow.environ["NOBODY_MAY_EDIT"])
        switch.touch()
        try:
            assert person.arrive(url).status_code == 403
        finally:
            switch.unlink()
        assert (kept(airflow), server.stats()["token_requests"]) == (before, spent)


class TestWhoMayDoWhat:
    @pytest.fixture
    def viewer(self, browser, airflow, server):
        context = browser.new_context()
        page = context.new_page()
        log_in(page, airflow, "eve", password_of(airflow, "eve"))
        yield page
        context.close()

    def test_a_viewer_sees_and_cannot_act(self, viewer, airflow):
        before = kept(airflow)
        assert row_of(viewer).count() == 1
        open_grant(viewer, airflow, CONN_ID)
        assert viewer.locator("button").count() == 0
        assert "you need the right to edit" in viewer.inner_text("main")
        cookies = {cookie["name"]: cookie["value"] for cookie in viewer.context.cookies()}
        for path in ("refresh", "revoke", "check", "start", "device", "device-poll"):
            status = viewer.evaluate(
                "async ([path, body]) => (await fetch(path, {method: 'POST', body: new URLSearchParams(body)})).status",
                [path, {"connection": CONN_ID, "form_token": form_token(airflow, cookies)}],
            )
            assert (path, status) == (path, 403)
        assert viewer.goto(f"{airflow.url}{PREFIX}/sign-in?connection={CONN_ID}").status == 403
        assert kept(airflow) == before

    def test_who_may_see_no_connection_sees_no_grant(self, browser, airflow, server):
        context = browser.new_context()
        page = context.new_page()
        log_in(page, airflow, "mallory", password_of(airflow, "mallory"))
        for path in ("", f"grant?connection={CONN_ID}", "json/grants", f"json/grant?connection={CONN_ID}"):
            answer = page.goto(f"{airflow.url}{PREFIX}/{path}")
            assert (path, answer.status, CONN_ID in page.inner_text("body")) == (path, 403, False)
        context.close()

    def test_nobody_sees_anything_without_a_session(self, airflow, server):
        for path in ("", f"grant?connection={CONN_ID}", f"sign-in?connection={CONN_ID}", "callback?code=x&state=y"):
            answer = requests.get(f"{airflow.url}{PREFIX}/{path}", allow_redirects=False, timeout=30)
            assert (path, answer.status_code, CONN_ID in answer.text) == (path, 303, False)
            assert "/auth/login" in answer.headers["location"]
        for path in ("json/grants", f"json/grant?connection={CONN_ID}"):
            assert requests.get(f"{airflow.url}{PREFIX}/{path}", timeout=30).status_code == 401

    def test_what_is_not_there_is_said_on_a_page(self, page, airflow):
        for path, status in (("grant", 422), ("grant?connection=none", 404), ("refresh", 405), ("nothing", 404)):
            answer = page.goto(f"{airflow.url}{PREFIX}/{path}")
            assert (path, answer.status) == (path, status)
            expect(page.get_by_role("heading", name="Not possible")).to_be_visible()

    def test_a_form_of_another_site_does_nothing(self, page, airflow, server):
        before = kept(airflow)
        cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        token = form_token(airflow, cookies)
        good = {"Origin": airflow.url, "Sec-Fetch-Site": "same-origin"}
        for headers, sent in (
            (good, ""),
            (good, "0" * 64),
            ({"Origin": "https://evil.example"}, token),
            ({"Origin": "null"}, token),
            ({"Sec-Fetch-Site": "cross-site"}, token),
            ({"Sec-Fetch-Site": "same-site"}, token),
        ):
            for path in ("refresh", "revoke", "check", "start", "device"):
                answer = requests.post(
                    f"{airflow.url}{PREFIX}/{path}",
                    data={"connection": CONN_ID, "form_token": sent},
                    cookies=cookies,
                    headers=headers,
                    timeout=30,
                )
                assert answer.status_code == 403
        assert kept(airflow) == before

    def test_a_real_page_of_another_site_does_nothing(self, page, airflow, server):
        before = kept(airflow)
        other = page.context.new_page()
        evil = EVIL % (airflow.url, airflow.url)
        other.route("http://evil.example/**", lambda route: route.fulfill(body=evil, content_type="text/html"))
        other.goto("http://evil.example/")
        framed = other.frame_locator("iframe").locator("body").inner_text()
        other.click("button")
        other.wait_for_url(f"{airflow.url}/**")

        assert CONN_ID not in framed
        assert kept(airflow) == before


EVIL = (
    '<form method="post" action="%s/oauth2-grants/revoke">'
    '<input name="connection" value="acme"><button>Win</button></form><iframe src="%s/oauth2-grants/"></iframe>'
)


def form_token(airflow, cookies):
    """The form token of a browser's session, as a page of its own has it."""
    text = requests.get(f"{airflow.url}{PREFIX}/grant?connection={CONN_ID}", cookies=cookies, timeout=30).text
    found = text.partition('name="form_token" value="')[2].partition('"')[0]
    return found or "0" * 64


def test_json_for_scripts(airflow, server):
    listed = airflow.request("GET", f"{airflow.url}{PREFIX}/json/grants").json()["grants"]
    one = airflow.request("GET", f"{airflow.url}{PREFIX}/json/grant?connection={CONN_ID}").json()
    refreshed = airflow.request("POST", f"{airflow.url}{PREFIX}/json/refresh?connection={CONN_ID}")

    assert [grant["connection"] for grant in listed] == [CONN_ID]
    assert one["events"][0]["actor"] == "admin"
    assert one["signed_in_as"] == "test-user"
    assert refreshed.status_code == 200, refreshed.text
    assert refreshed.json()["rotated"] is True
    assert airflow.request("GET", f"{airflow.url}{PREFIX}/json/grant?connection=none").status_code == 404


def test_every_action_stands_in_the_audit_log(airflow, server):
    rows = airflow.sql("SELECT event, owner, extra FROM log WHERE event LIKE 'oauth2_%'")
    events = {(event, owner, json.loads(extra)["connection_id"]) for event, owner, extra in rows}

    assert {
        ("oauth2_sign_in", "admin", CONN_ID),
        ("oauth2_refresh", "admin", CONN_ID),
        ("oauth2_revoke", "admin", CONN_ID),
        ("oauth2_check", "admin", CONN_ID),
    } <= events
    assert not any(owner == "eve" for _, owner, _ in events)


def test_no_secret_is_shown_or_logged(page, airflow, server):
    record = kept(airflow)
    secrets = {record["refresh_token"], record["access_token"]}
    secrets |= {WEB_CLIENT["client_secret"], airflow.secrets.jwt, airflow.secrets.fernet_key}
    secrets |= {record.get("response_parameters", {}).get("id_token", "")}
    secrets.discard("")
    shown = ""
    for path in ("", f"grant?connection={CONN_ID}", f"sign-in?connection={CONN_ID}", "json/grants",
                 f"json/grant?connection={CONN_ID}"):  # fmt: skip
        page.goto(f"{airflow.url}{PREFIX}/{path}")
        shown += page.content()
    shown += json.dumps(airflow.sql("SELECT event, owner, extra FROM log"), default=str)
    shown += (airflow.folder / "api-server.log").read_text(errors="replace")

    assert len(secrets) >= 5
    assert [secret[:8] for secret in secrets if secret in shown] == []


def test_a_strict_policy(airflow, server):
    answer = airflow.request("GET", f"{airflow.url}{PREFIX}/")
    policy = answer.headers["content-security-policy"]

    assert answer.status_code == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.text
    assert "onclick" not in answer.text


def test_the_navigation_leads_there(page, airflow):
    page.goto(airflow.url)
    page.get_by_text("Admin", exact=True).first.click()
    link = page.get_by_text("OAuth 2.0 grants")
    link.wait_for()
    assert page.locator("a", has_text="OAuth 2.0 grants").get_attribute("href").endswith(f"{PREFIX}/")


def test_it_fits_a_phone_and_follows_the_theme(page, airflow):
    longest = "L" * 200
    airflow.add_connection(longest, {"conn_type": "oauth2", "login": "client", "extra": {"provider": "xero"}})
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        for path in (
            "",
            *(f"{name}?connection={conn_id}" for name in ("grant", "sign-in") for conn_id in (CONN_ID, longest)),
        ):
            page.goto(f"{airflow.url}{PREFIX}/{path}")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.goto(f"{airflow.url}{PREFIX}/")
        expect(row_of(page, longest).locator(".badge")).to_be_in_viewport()
    airflow.api("DELETE", f"/connections/{longest}")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_the_keyboard_reaches_every_action(page, airflow):
    open_grant(page, airflow, CONN_ID)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert reached[0] == "Skip to the content"
    assert {"Sign in", "Refresh now", "Check", "Revoke"} <= set(reached)


def test_500_connections(page, airflow, server):
    """One query and no authorization server; those in other stores are read when the list is there already."""
    extra = {"oauth_url": server.token_url, "refresh_token": "entered", "store": "connection"}
    bodies = [
        {
            "connection_id": f"many_{number:03}",
            "conn_type": "oauth2",
            "host": server.api_url,
            "login": "client",
            "password": "secret",
            "extra": json.dumps(extra),
        }
        for number in range(500)
    ]
    airflow.api("PATCH", "/connections", {"actions": [{"action": "create", "entities": bodies}]})
    asked = server.stats()["token_requests"]

    page.goto(f"{airflow.url}{PREFIX}/")

    assert page.locator("#grants tbody tr").count() == 501
    assert server.stats()["token_requests"] == asked
    page.fill("#filter-text", "many_123")
    wait_until(lambda: page.locator("#grants tbody tr:visible").count() == 1, 10, "the filter", every=0.1)
