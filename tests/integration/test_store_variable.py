"""The store ``variable`` in a real metadata database: what stands there, and what changes of the connection it stands.

The command line of Airflow 3 goes the same way as the tasks of 2.11. Tasks of Airflow 3 are in the end-to-end tests
and in the matrix.
"""

from __future__ import annotations

import json

import pytest

from airflow_oauth_provider.tokens.record import Record, fingerprint
from scripts.environments import MAIN_AIRFLOW
from tests.integration._cli_airflow import Home
from tests.servers.scripted import ScriptedServer

NAME = "oauth2_token_record__xero"

_REFRESH = """
import json
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.connection.loader import ConnectionLoader
hook = OAuth2Hook("xero", method="GET")
hook.refresh(force=True)
status = hook.run("/items", data={"page": 1}).status_code
record = ConnectionLoader("xero").load().record
print("RESULT " + json.dumps({"status": status, **json.loads(record.to_json())}))
"""
_VARIABLE = """
import sys
from airflow_oauth_provider.compat import variables
if len(sys.argv) > 1:
    variables.write_variable("oauth2_token_record__xero", sys.argv[1], "for a test")
print("VALUE " + (variables.read_variable("oauth2_token_record__xero") or ""))
"""


class Case:
    """One connection on one Airflow; its parts may be changed, as a person does."""

    def __init__(self, home: Home, server: ScriptedServer) -> None:
        self.home, self.server = home, server
        server.client_secret = "first-client-secret"
        self.refresh_token = server.issue()
        self.output = ""

    def define(self) -> None:
        extra = {"oauth_url": self.server.token_url, "store": "variable", "refresh_token": self.refresh_token}
        parts = {"conn_type": "oauth2", "host": self.server.api_url, "login": self.server.client_id}
        self.home.add_connections(xero={**parts, "password": self.server.client_secret, "extra": extra})

    def run(self, script: str, *arguments: str) -> str:
        done = self.home.run("-c", script, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        self.output += done.stdout + done.stderr
        return done.stdout

    def refresh(self) -> dict[str, object]:
        result = self.run(_REFRESH).rpartition("RESULT ")[2]
        self.output = self.output.replace(result, "")  # of the test's own making
        found: dict[str, object] = json.loads(result.splitlines()[0])
        return found

    def text(self, *replaced_by: str) -> str:
        return self.run(_VARIABLE, *replaced_by).rpartition("VALUE ")[2].splitlines()[0]


@pytest.fixture(scope="module", params=["2.11", MAIN_AIRFLOW])
def home(request):
    with Home(request.param) as home:
        yield home


@pytest.fixture
def case(home):
    with ScriptedServer() as server:
        case = Case(home, server)
        case.define()
        yield case
    home.run("-c", "from airflow_oauth_provider.compat import variables; variables.delete_variable('" + NAME + "')")


def test_nothing_in_the_variable_is_of_use_and_every_change_of_the_connection_is_survived(case):
    first = case.refresh()
    assert (first["status"], first["generation"]) == (200, 1)
    text = case.text()
    assert json.loads(text)["format"] == "sealed-1"
    assert {"client_secret", "refresh_token"} <= json.loads(text)["keys"].keys()
    for secret in (first["refresh_token"], first["access_token"], case.refresh_token, case.server.client_secret):
        assert secret not in text
        assert secret not in case.output

    case.server.client_secret = "second-client-secret"
    case.define()
    assert case.home.use("xero") == first, "opened by the refresh token that was entered"
    second = case.refresh()
    assert second["generation"] == 2

    case.refresh_token = case.server.issue()
    case.define()
    third = case.refresh()
    assert third["entered_fingerprint"] == fingerprint(case.refresh_token)
    assert third["generation"] == 3, "opened by the client secret: a person has signed in again"
    assert case.server.reuses == 0


def test_where_all_secrets_are_new_nothing_is_spent(case, monkeypatch):
    """Somebody who may edit variables could have put the record there, sealed with a secret of their own."""
    monkeypatch.setitem(case.home.environ, "AIRFLOW__CORE__FERNET_KEY", "")  # nothing but the connection's own
    case.define()
    case.refresh()
    case.server.client_secret, case.refresh_token = "second-client-secret", case.server.issue()
    case.define()

    before, spends = case.text(), case.server.spends
    done = case.home.run("-c", _REFRESH)
    assert done.returncode != 0
    assert "sealed with secrets that the connection 'xero' does not have" in done.stdout + done.stderr
    assert (case.text(), case.server.spends) == (before, spends)


def test_a_record_in_clear_is_refused_and_nothing_is_spent(case):
    """Somebody who may edit variables could have put it there: the connection has secrets to seal with."""
    clear = Record(
        generation=6,
        entered_fingerprint=fingerprint(case.refresh_token),
        refresh_token=case.server.issue_tokens()["refresh_token"],
    )
    case.text(clear.to_json())

    done = case.home.run("-c", _REFRESH)
    assert done.returncode != 0
    assert "is in clear, although the connection has secrets" in done.stdout + done.stderr
    assert clear.refresh_token not in done.stderr
    assert case.text() == clear.to_json()
    assert [spend.outcome for spend in case.server.history] == []


def test_the_doctor_changes_nothing(case):
    case.refresh()
    before = case.text()
    done = case.home.command("doctor", "xero", "--json")
    findings = [found["text"] for found in json.loads(done.stdout)["findings"] if found["check"] == "store"]
    assert findings[-1] == "it can be written"
    assert case.text() == before
