"""The contract on real parts: OpenBao, moto, and servers that speak as Key Vault and Secret Manager do."""

from __future__ import annotations

import json
import time
import uuid

import boto3
import pytest
from azure.core.credentials import AccessToken
from azure.keyvault.secrets import SecretClient

from airflow_oauth_provider.stores import aws_secrets_manager, azure_keyvault, gcp_secret_manager, vault
from airflow_oauth_provider.stores.backend import StoreOptions
from tests.integration._key_vault import TOKEN, KeyVault
from tests.integration._secret_manager import SecretManager
from tests.servers.aws import AwsServer
from tests.store_contract import Place, StoreContract


def no_wait(_seconds: float) -> None:
    """Other workers do not wait for this one."""


@pytest.fixture(params=[2, 1], ids=["KV v2", "KV v1"])
def kv(request, openbao, monkeypatch):
    mount = f"kv-{uuid.uuid4().hex[:8]}"
    openbao.mount_kv(mount, version=request.param)
    connection = {
        "conn_type": "vault", "host": "127.0.0.1", "port": openbao.port, "password": openbao.root_token,
        "schema": mount, "extra": {"kv_engine_version": request.param, "auth_type": "token"},
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_VAULT_DEFAULT", json.dumps(connection))
    return openbao, mount, request.param


class TestVault(StoreContract):
    @pytest.fixture
    def place(self, kv) -> Place:
        bao, mount, version = kv
        options = StoreOptions("vault", vault_path="airflow/oauth2/xero")
        return Place(
            lambda: vault.open_store("xero", options, settle_time=2.0),
            spoil=lambda text: bao.write("airflow/oauth2/xero", {"token_record": text}, mount=mount, version=version),
            compares=version == 2,
            quick=lambda: vault.open_store("xero", options, sleep=no_wait),
        )


@pytest.fixture(scope="module")
def moto():
    with AwsServer() as server:
        yield server


class TestAws(StoreContract):
    @pytest.fixture
    def place(self, moto, monkeypatch) -> Place:
        environ = {
            "ENDPOINT_URL": moto.url,
            "ACCESS_KEY_ID": "a",
            "SECRET_ACCESS_KEY": "b",
            "DEFAULT_REGION": moto.region,
        }
        for name, value in environ.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        client = boto3.session.Session().client("secretsmanager")
        name = f"airflow/oauth2/{uuid.uuid4().hex}"
        client.create_secret(Name=name, SecretString="{}")
        return Place(
            lambda: aws_secrets_manager.open_store("xero", StoreOptions("aws_secrets_manager", aws_name=name)),
            spoil=lambda text: client.put_secret_value(SecretId=name, SecretString=json.dumps({"token_record": text})),
        )


class TestGoogle(StoreContract):
    @pytest.fixture
    def place(self, monkeypatch, tmp_path):
        with SecretManager() as google:
            for name, value in google.environment(tmp_path).items():
                monkeypatch.setenv(name, value)
            google.add("airflow-oauth2-xero", "{}")
            name = "projects/finance/secrets/airflow-oauth2-xero"
            options = StoreOptions("gcp_secret_manager", gcp_name=name, gcp_endpoint=google.host)
            yield Place(
                lambda: gcp_secret_manager.open_store("xero", options),
                spoil=lambda text: google.add("airflow-oauth2-xero", json.dumps({"token_record": text})),
            )


class Identity:
    def get_token(self, *_scopes, **_more):
        return AccessToken(TOKEN, int(time.time()) + 3600)


class TestAzure(StoreContract):
    @pytest.fixture
    def place(self, monkeypatch):
        with KeyVault() as server:

            def new_client(url, _credential):
                return SecretClient(
                    url, Identity(), verify_challenge_resource=False, connection_verify=server.ca_file, retry_total=0
                )

            monkeypatch.setattr(azure_keyvault, "_new_client", new_client)
            options = StoreOptions("azure_keyvault", keyvault_url=server.url)
            yield Place(
                lambda: azure_keyvault.open_store("xero", options, settle_time=2.0),
                spoil=lambda text: server.put(airflow_oauth2_xero_token_record=text),
                compares=False,
                quick=lambda: azure_keyvault.open_store("xero", options, sleep=no_wait),
            )
