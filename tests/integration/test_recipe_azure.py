"""The recipe for Azure Data Factory, as it stands in the docs, on an Airflow."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.integration._cli_airflow import Home
from tests.integration._key_vault import TOKEN, KeyVault
from tests.servers.scripted import ScriptedServer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/recipes/azure_data_factory.md").read_text()
DAG = ROOT / "example_dags/recipes/azure_data_factory.py"

# The identity and the trust in the vault's certificate are the test's own; all else is the recipe.
_RUN = """
import importlib.util, json, sys, time
from azure.core.credentials import AccessToken
from azure.keyvault.secrets import SecretClient
from airflow_oauth_provider.stores import azure_keyvault

class Identity:
    def get_token(self, *scopes, **_):
        return AccessToken(sys.argv[3], int(time.time()) + 3600)

azure_keyvault._new_client = lambda url, _credential: SecretClient(
    url, Identity(), verify_challenge_resource=False, connection_verify=sys.argv[2]
)
spec = importlib.util.spec_from_file_location("recipe", sys.argv[1])
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)
run = recipe.dag.test()
print("RESULT " + json.dumps({task.task_id: str(task.state) for task in run.get_task_instances()}))
"""


def test_a_run(tmp_path):
    connection = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    with ScriptedServer(pages=3, lifetime=3600) as server, KeyVault() as vault, Home() as home:
        first = server.issue()
        vault.put(
            InvoicesClientId=server.client_id, InvoicesClientSecret=server.client_secret, InvoicesRefreshToken=first
        )
        connection["host"] = server.api_url
        connection["extra"] |= {"oauth_url": server.token_url, "keyvault_url": vault.url}
        # At DEBUG, dag.test() of Airflow 3.3 prints whatever it is asked to mask.
        home.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "INFO"
        dags = home.folder / "dags"
        dags.mkdir()
        copy = dags / DAG.name
        copy.write_text(DAG.read_text().replace("/opt/airflow/data/invoices", str(tmp_path / "data")))
        home.add_connections(invoices=connection)
        home.run("-m", "airflow", "dags", "reserialize").check_returncode()
        done = home.run("-c", _RUN, str(copy), vault.ca_file, TOKEN)
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert found, done.stdout[-3000:] + done.stderr[-3000:]
        assert set(json.loads(found[0].removeprefix("RESULT ")).values()) == {"success"}
        assert (server.spends, server.reuses) == (3, 0)
        assert len(list((tmp_path / "data").iterdir())) == 3

        record = json.loads(vault.value("airflow-oauth2-invoices-token-record"))
        assert record["generation"] == 3
        assert vault.value("InvoicesRefreshToken") == record["refresh_token"] != first
        assert vault.value("InvoicesAccessToken") == record["access_token"]
        output = done.stdout + done.stderr
        for values in (vault.values[name] for name in vault.values if not name.endswith("ClientId")):
            assert not any(value in output for value in values)
