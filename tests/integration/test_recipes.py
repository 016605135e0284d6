"""The recipes' DAGs, task by task, against a server that speaks as the recipe says."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_oauth_provider import compat
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from tests import http_support
from tests.http_support import CONTEXT, connect

RECIPES = Path(__file__).resolve().parents[2] / "example_dags" / "recipes"


def load(name):
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.dag, DAG)
    return module.dag


def run(dag):
    """Run the tasks in their order, rendering what is templated, and return what each gave."""
    results = {}

    class TaskInstance:
        dag_id, task_id, run_id, map_index, try_number = "dag", "task", "run", -1, 1

        def xcom_pull(self, task_ids, **_):
            return results[task_ids]

    context = {**CONTEXT, "ti": TaskInstance()}
    pending = list(dag.tasks)
    while pending:
        task = next(task for task in pending if not task.upstream_task_ids - results.keys())
        pending.remove(task)
        if hasattr(task, "python_callable"):
            results[task.task_id] = task.python_callable()
            continue
        task.render_template_fields(context)
        results[task.task_id] = task.execute(context)
    return results


@pytest.fixture
def use(scripted_server, monkeypatch):
    def make(conn_id, **extra):
        monkeypatch.setattr(http_support, "CONN_ID", conn_id)
        return connect(monkeypatch, scripted_server, **extra)

    return make


def test_zappysys(use, scripted_server):
    scripted_server.auth_method = "client_secret_post"
    scripted_server.rules.reshape = lambda body: {
        "data": {
            "tokens": [{"value": body["access_token"]}],
            "refresh": body["refresh_token"],
            "ttl": str(body["expires_in"]),
        }
    }
    use(
        "zappysys",
        auth_method="client_secret_post",
        revocation_url=f"{scripted_server.url}/revoke",
        response_map="access_token=$.data.tokens[0].value, refresh_token=$.data.refresh, expires_in=$.data.ttl",
    )
    results = run(load("zappysys"))
    assert results["refresh"]["rotated"]
    assert results["revoke"] is True
    assert json.loads(results["items"]) == json.loads(results["items_again"])
    assert [request.path for request in scripted_server.requests] == [
        "/token",
        "/api/items",
        "/revoke",
        "/api/items",
        "/token",
        "/api/items",
    ]
    assert (scripted_server.spends, scripted_server.reuses) == (2, 0)


def test_elastic_io(use, scripted_server):
    scripted_server.rules.extra = {"instance_url": scripted_server.api_url, "id_token": "hidden"}
    store = use(
        "elastic_io", refresh_when="always", host="https://login.example.com", allowed_hosts=scripted_server.url
    )
    results = run(load("elastic_io"))
    assert results["instance"] == scripted_server.api_url
    assert json.loads(results["items"])["page"] == 1
    assert (scripted_server.spends, scripted_server.reuses) == (2, 0), "each task refreshes"
    assert store.record.response["instance_url"] == scripted_server.api_url


def test_elastic_io_does_not_send_the_token_where_an_answer_says(use, scripted_server):
    scripted_server.rules.extra = {"instance_url": "https://evil.example"}
    use("elastic_io", refresh_when="always", host="https://login.example.com")
    with pytest.raises(Exception, match="allowed_hosts"):
        run(load("elastic_io"))


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


def test_webmethods(use, scripted_server, monkeypatch):
    monkeypatch.setattr(compat, "callback_prefixes", lambda: ["webmethods_callback"])
    monkeypatch.syspath_prepend(str(RECIPES))
    scripted_server.client_secret = "plain"
    use("webmethods", callback="webmethods_callback:refresh")
    try:
        results = run(load("webmethods"))
    finally:
        sys.modules.pop("webmethods_callback", None)
    assert results["refresh"]["rotated"]
    assert json.loads(results["items"])["page"] == 1
    assert (scripted_server.spends, scripted_server.reuses) == (1, 0)
