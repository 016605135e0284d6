"""What keeps records through edits is loaded by processes that edit connections, and by no others."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from airflow_oauth_provider.api_server.plugin import TokenStorePlugin
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.exceptions import StoreNotWritable
from airflow_oauth_provider.tokens.record import Record, fingerprint
from scripts.environments import clean_environ
from tests.unit.store_fakes import Supervisor, put_in_task

PROGRAM = """
import json, sys
from airflow.utils.cli_action_loggers import on_pre_execution
from airflow_oauth_provider.api_server.plugin import TokenStorePlugin
from airflow_oauth_provider.cli.definition import get_cli_commands

def command(name):
    on_pre_execution(
        sub_command=name, user="u", task_id=None, dag_id=None, logical_date=None, host_name="h", full_command="[]"
    )

steps = {
    "plugin": TokenStorePlugin.on_load,
    "commands": get_cli_commands,
    "scheduler": lambda: command("scheduler"),
    "add": lambda: command("connections_add"),
    "import": lambda: command("connections_import"),
    "rotate": lambda: command("rotate_fernet_key"),
    "api-server": lambda: TokenStorePlugin.fastapi_apps,
    "webserver": lambda: TokenStorePlugin.flask_blueprints,
}
loaded = []
for name, step in steps.items():
    step()
    if sys.modules.pop("airflow_oauth_provider.connection.edits", None):
        loaded.append(name)
print(json.dumps(loaded))
"""


def test_it_is_loaded_for_edits_only(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=clean_environ(AIRFLOW_HOME=str(tmp_path), AIRFLOW__CORE__LOAD_EXAMPLES="False"),
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout.splitlines()[-1]) == ["add", "import", "rotate", "api-server", "webserver"]


def test_the_route_can_be_turned_off(monkeypatch):
    assert [app["url_prefix"] for app in TokenStorePlugin.fastapi_apps] == ["/oauth2-grants", "/oauth2-token-store"]
    monkeypatch.setenv("AIRFLOW__OAUTH2__TOKEN_STORE_ROUTE", "off")
    assert [app["url_prefix"] for app in TokenStorePlugin.fastapi_apps] == ["/oauth2-grants"]


# ------------------------------------------------------------------------------- where a variable cannot be right


def entered(token: str = "entered-1", **extra: Any) -> dict[str, Any]:
    members = {"oauth_url": "https://login.example/token", "refresh_token": token, **extra}
    return {"conn_type": "oauth2", "host": "https://api.example", "login": "id", "password": "hush", "extra": members}


@pytest.fixture
def supervisor(monkeypatch) -> Supervisor:
    return put_in_task(monkeypatch)


def define(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_XERO", json.dumps(connection))


IN_ROW = Record(
    generation=3,
    entered_fingerprint=fingerprint("entered-1"),
    superseded=(fingerprint("entered-0"),),
    refresh_token="rotated-3",
)


@pytest.mark.parametrize("token", ["entered-1", "entered-0", None])
def test_an_empty_variable_is_not_begun_with_a_token_that_went_into_the_row(supervisor, monkeypatch, token):
    """As where a row was exported into an environment variable."""
    define(monkeypatch, entered(token, token_record=IN_ROW.to_json()))
    with pytest.raises(StoreNotWritable, match=r"'xero': it has its newest tokens in its own extra.*sign in again"):
        ConnectionLoader("xero").load()
    assert supervisor.variables == {}


def test_a_token_that_was_entered_since_begins(supervisor, monkeypatch):
    define(monkeypatch, entered("entered-2", token_record=IN_ROW.to_json()))
    snapshot = ConnectionLoader("xero").load()
    assert (snapshot.store.name, snapshot.record) == ("variable", None)


def test_a_variable_that_is_not_empty_goes_on(supervisor, monkeypatch):
    define(monkeypatch, entered())
    ConnectionLoader("xero").load().store.write(Record(generation=4, refresh_token="rotated-4"), if_version=None)
    define(monkeypatch, entered(token_record=IN_ROW.to_json()))
    assert ConnectionLoader("xero").load().record.generation == 4


@pytest.mark.parametrize("store", [{}, {"store": "variable"}])
def test_teams_share_no_variable(supervisor, monkeypatch, store):
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    define(monkeypatch, entered(**store))
    with pytest.raises(StoreNotWritable, match=r"multi_team.*'vault'"):
        ConnectionLoader("xero").load()
    assert supervisor.asked("PutVariable") == []


def test_teams_share_a_row_and_tokens_that_anyone_can_ask_for_again(supervisor, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    row = entered(token_record_key="k" * 43)
    supervisor.connections["row"] = {**row, "extra": json.dumps(row["extra"])}
    assert ConnectionLoader("row").load().store.name == "connection"
    define(monkeypatch, entered(None, grant_type="client_credentials"))
    assert ConnectionLoader("xero").load().store.name == "variable"
