"""The recipes' pages and DAGs, as they stand, on an Airflow, against a server that speaks as the recipe says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_oauth_provider.exceptions import ConfigurationError, ForeignOrigin
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from tests import http_support
from tests.http_support import connect
from tests.integration._cli_airflow import Home
from tests.servers.scripted import ScriptedServer

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "example_dags" / "recipes"

_RUN = """
import importlib.util, json, sys
states = {}
for path in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("recipe", path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    run = recipe.dag.test()
    states[path] = {task.task_id: str(task.state) for task in run.get_task_instances()}
print("RESULT " + json.dumps(states))
"""


def page(name, language="json"):
    """The code blocks of a recipe's page."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / f"docs/recipes/{name}.md").read_text(), re.DOTALL)
    return [json.loads(block) for block in blocks] if language == "json" else blocks


@pytest.fixture(scope="module")
def zappysys():
    with ScriptedServer(auth_method="client_secret_post", lifetime=3600) as server:
        server.rules.reshape = lambda body: {
            "data": {
                "tokens": [{"value": body["access_token"]}],
                "refresh": body["refresh_token"],
                "ttl": str(body["expires_in"]),
            }
        }
        yield server


@pytest.fixture(scope="module")
def elastic_io():
    with ScriptedServer(auth_method="client_secret_post", lifetime=3600, expires_in=False) as server:
        server.rules.extra = {"instance_url": server.api_url, "id_token": "hidden"}
        yield server


@pytest.fixture(scope="module")
def webmethods():
    with ScriptedServer(lifetime=3600) as server:
        server.client_secret = "plain"
        yield server


@pytest.fixture(scope="module")
def recipes(zappysys, elastic_io, webmethods):
    """Run the three DAGs, each on the connection of its page, with nothing changed but addresses and secrets."""
    connections = {"zappysys": (zappysys, page("zappysys")[0]), "elastic_io": (elastic_io, page("elastic_io")[0])}
    connections["webmethods"] = (
        webmethods,
        {"conn_type": "oauth2", "host": "https://api.example.com", "extra": page("webmethods")[0]},
    )
    for name, (server, connection) in connections.items():
        connection |= {"login": server.client_id, "password": server.client_secret}
        connection["extra"] |= {"oauth_url": server.token_url, "refresh_token": server.issue()}
        if name == "elastic_io":
            connection["extra"]["allowed_hosts"] = server.url
        else:
            connection["host"] = server.api_url
        if "revocation_url" in connection["extra"]:
            connection["extra"]["revocation_url"] = f"{server.url}/revoke"
    with Home() as home:
        # At DEBUG, dag.test() of Airflow 3.3 prints whatever it is asked to mask.
        home.environ |= {"AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO", "AIRFLOW__OAUTH2__CLAIM_DELAY": "1"}
        prefixes = re.fullmatch(r"\[oauth2\]\ncallback_prefixes = (.*)\n", page("webmethods", "ini")[0])
        home.environ["AIRFLOW__OAUTH2__CALLBACK_PREFIXES"] = prefixes[1]
        package, _, module = connections["webmethods"][1]["extra"]["callback"].partition(":")[0].partition(".")
        (home.folder / package).mkdir()
        (home.folder / package / f"{module}.py").write_text((RECIPES / "webmethods_callback.py").read_text())
        home.environ["PYTHONPATH"] += f":{home.folder}"
        dags = home.folder / "dags"
        dags.mkdir()
        for name in connections:
            (dags / f"{name}.py").write_text((RECIPES / f"{name}.py").read_text())
        home.add_connections(**{name: connection for name, (_, connection) in connections.items()})
        home.run("-m", "airflow", "dags", "reserialize").check_returncode()
        done = home.run("-c", _RUN, *(str(dags / f"{name}.py") for name in connections))
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert found, done.stdout[-5000:] + done.stderr[-3000:]
        states = {Path(path).stem: run for path, run in json.loads(found[0].removeprefix("RESULT ")).items()}
        return states, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["zappysys", "elastic_io", "webmethods"])
def test_each_task_succeeds_and_shows_nothing_secret(recipes, name, request):
    server = request.getfixturevalue(name)
    states, output = recipes
    assert set(states[name].values()) == {"success"}
    assert server.reuses == 0
    assert [secret for secret in (*server.grants.issued, server.client_secret) if secret in output] == []


def test_zappysys_recovers_from_a_revoked_access_token(recipes, zappysys):
    paths = ["/token", "/api/items", "/revoke", "/api/items", "/token", "/api/items"]
    assert [request.path for request in zappysys.requests] == paths
    assert zappysys.spends == 2


def test_elastic_io_refreshes_on_each_access_and_calls_what_the_answer_names(recipes, elastic_io):
    assert [request.path for request in elastic_io.requests] == ["/token", "/token", "/api/items"]
    assert elastic_io.spends == 2, "each task refreshes"


def test_webmethods_refreshes_by_the_callback(recipes, webmethods):
    assert [request.path for request in webmethods.requests] == ["/token", "/api/items"]
    assert webmethods.requests[0].header("Accept") == "*/*", "the callback's request, not the package's"
    assert webmethods.spends == 1


@pytest.fixture
def use(scripted_server, monkeypatch):
    def make(conn_id, **extra):
        monkeypatch.setattr(http_support, "CONN_ID", conn_id)
        return connect(monkeypatch, scripted_server, **extra)

    return make


def test_elastic_io_does_not_send_the_token_where_an_answer_says(use, scripted_server):
    scripted_server.rules.extra = {"instance_url": "https://evil.example"}
    use("elastic_io", refresh_when="always", host="https://login.example.com")
    hook = OAuth2Hook("elastic_io", method="GET")
    with pytest.raises(ForeignOrigin, match="allowed_hosts"):
        hook.run(f"{hook.get_token_response()['instance_url']}/items")


@pytest.mark.parametrize("host", ["{instance_url}", "{instance_url}/", "http://{server}/api"])
def test_the_host_may_come_from_the_answer(use, scripted_server, host):
    scripted_server.rules.extra = {
        "instance_url": f"{scripted_server.api_url}/",
        "server": f"127.0.0.1:{scripted_server.port}",
    }
    use("elastic_io", host=host)
    hook = OAuth2Hook("elastic_io", method="GET")
    assert hook.run("/items").status_code == 200
    assert scripted_server.spends == 1


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({}, "no text under 'instance_url'. It has: scope, token_type"),
        ({"instance_url": "http://api.example.com"}, "has to be an https URL"),
        ({"instance_url": 5}, "no text under 'instance_url'"),
    ],
)
def test_a_host_that_does_not_come_from_the_answer(use, scripted_server, extra, says):
    scripted_server.rules.extra = extra
    use("elastic_io", host="{instance_url}")
    with pytest.raises(ConfigurationError, match="'elastic_io'") as caught:
        OAuth2Hook("elastic_io", method="GET").run("/items")
    assert says in str(caught.value)
    assert scripted_server.requests_to("/api") == []


def test_a_secret_is_no_part_of_a_host(use, scripted_server):
    use("elastic_io", host="https://{refresh_token}.example.com")
    with pytest.raises(ConfigurationError, match="no text under"):
        OAuth2Hook("elastic_io", method="GET").run("/items")
