"""Tokens in Azure Key Vault: Azure's own client library against a server that speaks Key Vault's protocol."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace

import pytest
from azure.core.credentials import AccessToken
from azure.keyvault.secrets import SecretClient

from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.stores import azure_keyvault
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.tokens import precedence
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration
from airflow_oauth_provider.tokens.record import Lease, Record
from tests.integration._key_vault import TOKEN, KeyVault


class Identity:
    def get_token(self, *scopes, **_):
        assert scopes == ("https://vault.azure.net/.default",)
        return AccessToken(TOKEN, int(time.time()) + 3600)


@pytest.fixture
def vault(monkeypatch):
    with KeyVault() as vault:

        def new_client(url, _credential):
            # The library wants the vault's name to end as the challenge says, and it is a loopback address here.
            return SecretClient(
                url, Identity(), verify_challenge_resource=False, connection_verify=vault.ca_file, retry_total=0
            )

        monkeypatch.setattr(azure_keyvault, "_new_client", new_client)
        vault.put(
            airflow_oauth2_xero_client_id="the-client",
            airflow_oauth2_xero_client_secret="s3cret-of-it",
            airflow_oauth2_xero_refresh_token="first",
        )
        yield vault


def store_of(vault, delay=0.0, **names):
    store = open_store("xero", StoreOptions("azure_keyvault", keyvault_url=vault.url, keyvault_names=names))
    store._settle_time = delay
    return store


def grown(record, token):
    return replace(
        record, generation=record.generation + 1, refresh_token=token, access_token="at-" + token, lease=None
    )


def leased(record, owner="me"):
    return replace(record, lease=Lease(owner, 60, 1.9e9))


def refresh(store, token):
    found = store.read()
    version = store.write(leased(found.record, token), if_version=found.version)
    store.write(grown(found.record, token), if_version=version)


def as_a_worker_sees_it(store):
    found = store.read()
    kept = store.read().kept
    return precedence.current(
        GrantConfiguration("xero", Client("id", "u"), entered=EnteredTokens(kept.get("refresh_token"))), found.record
    )


@pytest.fixture(autouse=True)
def no_delay(monkeypatch):
    # A lease whose write took longer than the settle time does not count, and nothing is faster than nothing.
    monkeypatch.setattr("airflow_oauth_provider.stores.record_store.SAFE_PART", 1e9)


def test_from_separate_secrets_to_a_rotation_in_each_of_them(vault):
    store = store_of(vault, 1e-6)
    assert store.read().record.refresh_token == "first"
    assert store.read().kept == {"client_id": "the-client", "client_secret": "s3cret-of-it"}
    refresh(store, "second")
    assert vault.value("airflow-oauth2-xero-refresh-token") == "second"
    assert vault.value("airflow-oauth2-xero-access-token") == "at-second"
    assert vault.value("airflow-oauth2-xero-client-secret") == "s3cret-of-it"
    other = store_of(vault, 1e-6)
    assert as_a_worker_sees_it(other).refresh_token == "second"
    assert as_a_worker_sees_it(other).access_token == "at-second"
    refresh(other, "third")
    assert vault.value("airflow-oauth2-xero-refresh-token") == "third"


def test_names_of_ones_own(vault):
    vault.put(app_key="key-of-app", old_refresh="zero")
    names = {"client_secret": "app-key", "refresh_token": "old-refresh", "access_token": "", "record": "state"}
    store = store_of(vault, 1e-6, **names)
    assert store.read().kept["client_secret"] == "key-of-app"
    refresh(store, "one")
    assert vault.value("old-refresh") == "one"
    assert vault.value("airflow-oauth2-xero-refresh-token") == "first"
    assert vault.value("airflow-oauth2-xero-access-token") is None
    assert json.loads(vault.value("state"))["generation"] == 1


def test_a_private_key_is_read_where_its_name_is_said(vault):
    vault.put(airflow_oauth2_xero_dpop_private_key="not asked for", binding="a PEM")
    assert "dpop_private_key" not in store_of(vault).read().kept
    assert store_of(vault, dpop_private_key="binding").read().kept["dpop_private_key"] == "a PEM"


def test_a_crash_before_the_other_secrets_are_written_revives_nothing(vault):
    store = store_of(vault, 1e-6)
    found = store.read()
    version = store.write(leased(found.record), if_version=None)
    vault.refuse = {"PUT airflow-oauth2-xero-refresh-token": 503, "PUT airflow-oauth2-xero-access-token": 503}
    store.write(grown(found.record, "second"), if_version=version)
    vault.refuse = {}
    assert vault.value("airflow-oauth2-xero-refresh-token") == "first"  # spent
    assert as_a_worker_sees_it(store_of(vault)).refresh_token == "second"
    refresh(store_of(vault, 1e-6), "third")
    assert vault.value("airflow-oauth2-xero-refresh-token") == "third"


def test_what_a_person_enters_wins_and_is_not_written_over(vault):
    store = store_of(vault, 1e-6)
    refresh(store, "second")
    found = store.read()
    version = store.write(leased(found.record), if_version=found.version)
    vault.put(airflow_oauth2_xero_refresh_token="entered by hand")
    store.write(grown(found.record, "third"), if_version=version)
    assert vault.value("airflow-oauth2-xero-refresh-token") == "entered by hand"
    assert as_a_worker_sees_it(store_of(vault)).refresh_token == "entered by hand"


def test_a_stale_version_changes_nothing(vault):
    one, two = store_of(vault, 1e-6), store_of(vault, 1e-6)
    first = one.read().record
    one.write(leased(first, "one"), if_version=None)
    with pytest.raises(StaleVersion):
        two.write(leased(first, "two"), if_version=None)
    assert json.loads(vault.value("airflow-oauth2-xero-token-record"))["lease"]["owner"] == "one"


def test_of_workers_that_claim_at_once_one_gets_the_lease(vault):
    barrier = threading.Barrier(4)
    won = []

    def work(number):
        store = store_of(vault, 1.5)
        first = store.read().record
        barrier.wait(30)
        try:
            store.write(leased(first, f"worker {number}"), if_version=None)
        except StaleVersion:
            return
        won.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (403, StoreUnavailable, "Secrets Officer"),
        (409, StoreNotWritable, "deleted"),
        (429, StoreUnavailable, "429"),
        (500, StoreUnavailable, "500"),
    ],
)
def test_errors_say_what_and_not_what_was_sent(vault, status, kind, says):
    store = store_of(vault)
    first = store.read().record
    vault.refuse = {"PUT airflow-oauth2-xero-token-record": status}
    with pytest.raises(kind, match=says) as caught:
        store.write(leased(first), if_version=None)
    assert "first" not in str(caught.value)
    assert "'airflow-oauth2-xero-token-record'" in str(caught.value)


def test_a_vault_that_is_not_there_is_not_an_empty_one(vault):
    vault.refuse = {"GET airflow-oauth2-xero-token-record": 404}
    with pytest.raises(StoreUnavailable):
        store_of(vault).read()
    vault.pause()
    with pytest.raises(StoreUnavailable):
        store_of(vault).read()


def test_what_holds_something_else(vault):
    vault.put(airflow_oauth2_xero_token_record="not a record, but s3cret")
    with pytest.raises(StoreNotWritable) as caught:
        store_of(vault).read()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "keyvault_url"),
        ({"keyvault_url": "http://v"}, "'http://v'"),
        ({"keyvault_url": "https://v", "keyvault_names": {"id": "x"}}, "'id'"),
        ({"keyvault_url": "https://v", "keyvault_names": {"record": ""}}, "'record'"),
    ],
)
def test_what_the_connection_says_is_checked(options, says):
    with pytest.raises(ConfigurationError, match=says):
        open_store("xero", StoreOptions("azure_keyvault", **options))


def test_ids_of_connections_that_cannot_be_names():
    store = open_store("a/b_c#d", StoreOptions("azure_keyvault", keyvault_url="https://v"))
    assert re.fullmatch(r"airflow-oauth2-a-b-c-d---[0-9a-f]{16}-token-record", store._backend._names["record"])
    assert Record() is not None
