"""``status``, ``refresh``, ``revoke`` and ``doctor --all`` on a real Airflow home, against the real oidc-provider."""

from __future__ import annotations

import json

import pytest

from tests.integration._cli_airflow import Home
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.sign_in import sign_in

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3


@pytest.fixture(scope="module")
def server():
    with AuthorizationServer(access_token_lifetime=600) as server:
        yield server


@pytest.fixture(scope="module")
def home(server):
    client = server.client("basic")

    def connection(**extra):
        return {
            "conn_type": "oauth2",
            "host": server.api_url,
            "login": client.client_id,
            "password": client.client_secret,
            "extra": {"oauth_url": server.token_url, "revocation_url": f"{server.url}/token/revocation", **extra},
        }

    with Home() as home:
        account = home.folder / "oauth2" / "account.json"
        account.parent.mkdir()
        account.write_text("{}")
        home.add_connections(
            good=connection(refresh_token=sign_in(server)["refresh_token"], store="connection"),
            to_revoke=connection(refresh_token=sign_in(server)["refresh_token"], store="connection"),
            in_a_file=connection(refresh_token=sign_in(server)["refresh_token"], store="file", file_path=str(account)),
            ends_soon=connection(
                refresh_token=sign_in(server)["refresh_token"], store="connection", refresh_expires_in=3600
            ),
            nobody=connection(store="connection"),
            wrong=connection(store="connection", refresh_when="sometimes"),
            of_another_type={"conn_type": "http", "host": "http://127.0.0.1:1"},
        )
        yield home


def status_of(home, *words):
    done = home.command("status", *words, "--json")
    return done.returncode, {grant["connection"]: grant for grant in json.loads(done.stdout)}


def test_refresh_says_what_happened_in_a_sentence(home):
    before = status_of(home, "good")
    done = home.command("refresh", "good")
    code, grants = status_of(home, "good")

    assert before[1]["good"]["state"] == "will refresh"
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith("good: The access token was refreshed and works until 20")
    assert "The refresh token was rotated" in done.stdout
    assert (code, grants["good"]["state"], grants["good"]["refreshes"]) == (OK, "fresh", 1)
    assert grants["good"]["last_refresh"]["actor"] == "airflow oauth2 refresh"


def test_refresh_if_due_leaves_a_fresh_token_alone(home, server):
    home.command("refresh", "good")
    spends = server.stats()["spends"]
    done = home.command("refresh", "good", "--if-due")

    assert done.returncode == OK
    assert "used again" in done.stdout
    assert server.stats()["spends"] == spends


def test_revoke_ends_the_grant_and_status_is_critical(home):
    assert home.command("refresh", "to_revoke").returncode == OK
    done = home.command("revoke", "to_revoke")
    code, grants = status_of(home, "to_revoke")
    again = home.command("refresh", "to_revoke")

    assert done.returncode == OK, done.stderr
    assert "tasks fail until a person signs in again" in done.stdout
    assert (code, grants["to_revoke"]["state"]) == (CRITICAL, "sign in again")
    assert grants["to_revoke"]["needs_person"] is True
    assert again.returncode == 1
    assert "sign in again" in again.stderr


def test_a_refresh_token_that_ends_soon_is_a_warning(home):
    assert home.command("refresh", "ends_soon").returncode == OK

    code, grants = status_of(home, "ends_soon")

    assert (code, grants["ends_soon"]["state"]) == (WARNING, "ends soon")


@pytest.mark.parametrize(
    ("conn_id", "code", "state"),
    [("nobody", CRITICAL, "never signed in"), ("wrong", CRITICAL, "wrong configuration")],
)
def test_what_a_person_has_to_mend_is_critical(home, conn_id, code, state):
    found, grants = status_of(home, conn_id)

    assert (found, grants[conn_id]["state"]) == (code, state)
    assert grants[conn_id]["reason"]


def test_status_of_all_has_the_most_urgent_first_and_other_stores_too(home, server):
    requests = server.stats()["token_requests"]
    code, grants = status_of(home, "--all")

    assert code == CRITICAL
    assert set(grants) == {"good", "to_revoke", "in_a_file", "ends_soon", "nobody", "wrong"}
    assert grants["in_a_file"]["state"] == "will refresh"
    urgency = ["sign in again", "wrong configuration", "never signed in", "ends soon", "will refresh", "fresh"]
    states = [grant["state"] for grant in grants.values()]
    assert states == sorted(states, key=urgency.index)
    assert server.stats()["token_requests"] == requests  # no authorization server was asked


def test_status_for_people_is_one_line_a_grant(home):
    done = home.command("status", "nobody")

    assert done.stdout.splitlines() == ["nobody: never signed in. There is no refresh token: nobody has signed in."]


@pytest.mark.parametrize("words", [("no_such_connection",), (), ("good", "--all")])
def test_what_cannot_be_told_is_unknown(home, words):
    done = home.command("status", *words)

    assert done.returncode == UNKNOWN
    assert done.stderr.strip()


def test_doctor_examines_all(home):
    done = home.command("doctor", "--all", "--json")
    reports = {report["connection"]: report for report in json.loads(done.stdout)}
    one = home.command("doctor", "nobody")

    assert done.returncode == 1
    assert set(reports) == {"good", "to_revoke", "in_a_file", "ends_soon", "nobody", "wrong"}
    assert not reports["nobody"]["healthy"]
    assert one.returncode == 1


def test_nothing_that_is_printed_is_a_secret(home, server):
    printed = "".join(
        done.stdout + done.stderr
        for done in (
            home.command("status", "--all", prepared=False),
            home.command("status", "--all", "--json", prepared=False),
            home.command("refresh", "good"),
        )
    )
    record = home.use("good")

    assert record["refresh_token"] not in printed
    assert record["access_token"] not in printed
    assert server.client("basic").client_secret not in printed
