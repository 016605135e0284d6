"""Credentials of the cloud stores from Airflow's own connections, by the hooks of Airflow's providers."""

from __future__ import annotations

import json
import sys
import types
from typing import ClassVar

import pytest

from airflow_oauth_provider.exceptions import ConfigurationError, StoreUnavailable
from airflow_oauth_provider.stores import aws_secrets_manager, azure_keyvault, gcp_secret_manager
from airflow_oauth_provider.stores.backend import StoreOptions

MODULES = {
    "amazon": "airflow.providers.amazon.aws.hooks.base_aws",
    "google": "airflow.providers.google.common.hooks.base_google",
    "microsoft-azure": "airflow.providers.microsoft.azure.hooks.base_azure",
}
STORES = {
    "aws_conn_id": ("amazon", aws_secrets_manager, {"aws_name": "airflow/oauth2/xero", "aws_region": "eu-central-1"}),
    "gcp_conn_id": ("google", gcp_secret_manager, {"gcp_name": "projects/p/secrets/airflow-oauth2-xero"}),
    "azure_conn_id": ("microsoft-azure", azure_keyvault, {"keyvault_url": "https://a.vault.azure.net"}),
}
SECRET = json.dumps({"client_id": "the-client"})


class Hook:
    """Stands for the three of them; ``made`` has what each was given."""

    made: ClassVar[list[tuple[tuple, dict]]] = []
    fails: Exception | None = None
    credential = types.SimpleNamespace(get_token=lambda *_: None)

    def __init__(self, *given, **named):
        self.made.append((given, named))

    def _log_in(self):
        if self.fails is not None:
            raise self.fails
        return self.credential

    get_conn = get_credentials = get_credential = _log_in


@pytest.fixture
def hooks(monkeypatch):
    for name in MODULES.values():
        module = types.ModuleType(name)
        module.AwsGenericHook = module.GoogleBaseHook = module.AzureBaseHook = Hook
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Hook, "made", [])
    return Hook


@pytest.fixture
def defined(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_CLOUD", json.dumps({"conn_type": "generic", "password": "hidden"}))


def open_store(key, conn_id="cloud"):
    _, store, options = STORES[key]
    return store.open_store("xero", StoreOptions(**options, **{key: conn_id}))


@pytest.mark.parametrize("key", STORES)
def test_without_the_provider_it_is_said_what_to_install(key, defined):
    with pytest.raises(ConfigurationError, match=f"'xero'.*'{key}'.*apache-airflow-providers-{STORES[key][0]}"):
        open_store(key).read()


@pytest.mark.parametrize("key", STORES)
def test_a_connection_that_is_not_defined_is_said(key, hooks, monkeypatch):
    from airflow.configuration import ensure_secrets_loaded

    backends = [backend for backend in ensure_secrets_loaded() if type(backend).__name__ != "MetastoreBackend"]
    monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda: backends)
    with pytest.raises(ConfigurationError, match=r"'xero'.*'no_such_one'.*not defined"):
        open_store(key, "no_such_one").read()


@pytest.mark.parametrize("key", STORES)
def test_a_login_that_fails_is_worth_a_retry_and_shows_nothing(key, hooks, defined, monkeypatch):
    monkeypatch.setattr(Hook, "fails", RuntimeError("hidden"))
    with pytest.raises(StoreUnavailable, match=r"'xero'.*'cloud' failed .RuntimeError") as caught:
        open_store(key).read()
    assert "hidden" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_aws_takes_the_client_of_the_hook(hooks, defined, monkeypatch):
    client = types.SimpleNamespace(get_secret_value=lambda **_: {"SecretString": SECRET, "VersionId": "1"})
    monkeypatch.setattr(Hook, "credential", client)
    assert open_store("aws_conn_id").read().kept == {"client_id": "the-client"}
    ((given, named),) = hooks.made
    assert given == ("cloud",)
    assert (named["client_type"], named["region_name"]) == ("secretsmanager", "eu-central-1")


def test_google_takes_the_credentials_of_the_hook(hooks, defined, monkeypatch):
    taken = []

    def new_client(endpoint, identity):
        taken.append(identity)
        raise StoreUnavailable("far enough")

    monkeypatch.setattr(gcp_secret_manager, "_new_client", new_client)
    with pytest.raises(StoreUnavailable, match="far enough"):
        open_store("gcp_conn_id").read()
    assert taken == [Hook.credential]
    assert hooks.made == [((), {"gcp_conn_id": "cloud"})]


def test_azure_takes_the_credential_of_the_hook_if_it_is_of_the_new_kind(hooks, defined, monkeypatch):
    taken = []

    def new_client(url, credential):
        taken.append(credential)
        raise StoreUnavailable("far enough")

    monkeypatch.setattr(azure_keyvault, "_new_client", new_client)
    with pytest.raises(StoreUnavailable, match="far enough"):
        open_store("azure_conn_id").read()
    assert taken == [Hook.credential]
    monkeypatch.setattr(Hook, "credential", object())
    with pytest.raises(ConfigurationError, match="use_azure_identity_object"):
        open_store("azure_conn_id").read()
