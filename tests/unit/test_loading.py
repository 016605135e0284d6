"""What keeps records through edits is loaded by processes that edit connections, and by no others."""

from __future__ import annotations

import json
import subprocess
import sys

from airflow_oauth_provider.api_server.plugin import TokenStorePlugin
from scripts.environments import clean_environ

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

    assert json.loads(done.stdout.splitlines()[-1]) == ["import", "rotate", "api-server", "webserver"]


def test_the_route_can_be_turned_off(monkeypatch):
    assert [app["url_prefix"] for app in TokenStorePlugin.fastapi_apps] == ["/oauth2-grants", "/oauth2-token-store"]
    monkeypatch.setenv("AIRFLOW__OAUTH2__TOKEN_STORE_ROUTE", "False")
    assert [app["url_prefix"] for app in TokenStorePlugin.fastapi_apps] == ["/oauth2-grants"]
