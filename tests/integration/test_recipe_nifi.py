"""The recipe for Syncfusion and NiFi, as it stands in the docs, on an Airflow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.integration._cli_airflow import Home
from tests.servers.scripted import Answer, ScriptedServer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/recipes/nifi_syncfusion.md").read_text()
DAG = ROOT / "example_dags/recipes/nifi_syncfusion.py"

_RUN = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("recipe", sys.argv[1])
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)
states = []
for _ in range(int(sys.argv[2])):
    run = recipe.dag.test()
    states.append({task.task_id: str(task.state) for task in run.get_task_instances()})
print("RESULT " + json.dumps(states))
"""


@pytest.fixture
def server():
    with ScriptedServer(pages=3) as server:
        yield server


def test_three_runs(server, tmp_path):
    file, connection = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    path = tmp_path / "invoices.json"
    account = file["accounts"][0]
    account |= {"clientId": server.client_id, "clientSecret": server.client_secret, "refreshToken": server.issue()}
    path.write_text(json.dumps(file))
    connection["host"] = server.api_url
    connection["extra"] |= {"oauth_url": server.token_url, "file_path": str(path)}
    items = server.routes["/api/items"]
    asked = []

    def route(request):
        asked.append(request)
        if len(asked) == 3 + 2:  # the second page of the second run
            return Answer(503, {"error": "busy"})
        return Answer(403, {"error": "no"}) if len(asked) == 6 else items(request)

    server.routes["/api/items"] = route
    with Home() as home:
        # At DEBUG, dag.test() of Airflow 3.3 prints whatever it is asked to mask.
        home.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "INFO"
        dags = home.folder / "dags"
        dags.mkdir()
        copy = dags / DAG.name
        # Ten minutes lie between two runs; here they follow at once, and would count as one refresh.
        text = DAG.read_text().replace("oauth2_conn_id=CONN_ID)", "oauth2_conn_id=CONN_ID, coalesce_within=0)")
        copy.write_text(text.replace("/opt/airflow/data/invoices", str(tmp_path / "data")))
        home.add_connections(invoices=connection)
        home.run("-m", "airflow", "dags", "reserialize").check_returncode()
        done = home.run("-c", _RUN, str(copy), "3")
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert found, done.stdout[-3000:] + done.stderr[-3000:]
    routes = [
        {name: run[name] for name in ("complete", "later", "refused")} for run in json.loads(found[0].split(" ", 1)[1])
    ]
    assert routes == [
        {"complete": "success", "later": "skipped", "refused": "skipped"},
        {"complete": "skipped", "later": "success", "refused": "skipped"},
        {"complete": "skipped", "later": "skipped", "refused": "failed"},
    ]
    assert (server.spends, server.reuses) == (3, 0)
    assert {request.header("tenant-id") for request in asked} == {connection["extra"]["headers"]["tenant-id"]}

    now = json.loads(path.read_text())
    assert now["flow"] == "invoices"
    assert now["accounts"][0]["tenant"] == account["tenant"]
    assert now["token_record"]["generation"] == 3
    assert now["accounts"][0]["refreshToken"] == now["token_record"]["refresh_token"] != account["refreshToken"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]+Z", now["accounts"][0]["expires"])
    assert path.stat().st_mode & 0o777 == 0o600
    folders = sorted((tmp_path / "data").iterdir(), key=lambda folder: folder.stat().st_mtime)
    assert [len(list(folder.glob("page-*.json"))) for folder in folders] == [3, 1, 0]
    assert [(folder / "_SUCCESS").exists() for folder in folders] == [True, False, False]
    output = done.stdout + done.stderr
    for token in (now["token_record"]["refresh_token"], now["token_record"]["access_token"], account["clientSecret"]):
        assert token not in output
