"""The store `vault` on a real OpenBao: check-and-set, other keys, rights, outages, lost answers."""

from __future__ import annotations

import json
import os
import threading
import uuid
from typing import Any

import pytest
import requests

from airflow_oauth_provider.compat import masking
from airflow_oauth_provider.connection.loader import ConnectionLoader
from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores import vault
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.record_store import RecordStore, TimedLeaseStore
from airflow_oauth_provider.tokens.record import Lease, Record, StoredRecord
from tests.servers.openbao import OpenBao

ENTERED = {"client_id": "me", "client_secret": "client-secret-1", "refresh_token": "entered-secret-1", "note": "mine"}
FULL = ["create", "read", "update", "delete"]


def record(generation: int = 1, owner: str | None = None) -> Record:
    lease = Lease(owner, 60.0, 0.0) if owner else None
    tokens = {"access_token": f"access-secret-{generation}", "refresh_token": f"refresh-secret-{generation}"}
    return Record(generation=generation, lease=lease, **tokens)


@pytest.fixture
def path() -> str:
    return f"airflow/{uuid.uuid4().hex}"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch):
    """Define the Airflow connection `bao`."""

    def define(bao: OpenBao, token: str = "", login: str | None = None, **extra: Any) -> None:
        connection = {
            "conn_type": "vault", "host": "127.0.0.1", "port": bao.port, "login": login,
            "password": token or bao.root_token, "schema": "secret", "extra": extra,
        }  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps(connection))

    return define


def vault_store(vault_conn_id: str, path: str, mount: str | None = None, **more: Any) -> RecordStore | TimedLeaseStore:
    options = StoreOptions("vault", vault_conn_id=vault_conn_id, vault_path=path, vault_mount_point=mount)
    return vault.open_store("xero", options, **more)


@pytest.fixture
def store(openbao: OpenBao, connect, path: str) -> RecordStore:
    connect(openbao)
    return vault_store("bao", path)


def calls_of(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that the store sends from now on, without those of a login."""
    seen: list[str] = []
    client = store._backend._client._hvac
    real = client.session.request

    def request(method: str, url: str, **options: Any) -> Any:
        seen.append(method.upper())
        return real(method=method, url=url, **options)

    monkeypatch.setattr(client.session, "request", request)
    return seen


# ------------------------------------------------------------------------------------------------- check and set


def test_what_was_written_is_read(store):
    assert store.read() == StoredRecord(None, None)
    version = store.write(record(1, owner="me"), if_version=None)
    assert store.read() == StoredRecord(record(1, owner="me"), version)
    second = store.write(record(2), if_version=version)
    assert store.read() == StoredRecord(record(2), second)


def test_a_refresh_costs_one_read_and_two_writes(store, path, monkeypatch):
    version = store.write(record(1), if_version=None)
    fresh = vault_store("bao", path)
    seen = calls_of(fresh, monkeypatch)
    found = fresh.read()
    assert (found.version, found.kept) == (version, {})
    leased = fresh.write(record(1, owner="me"), if_version=version)
    fresh.write(record(2), if_version=leased)
    assert seen == ["GET", "POST", "POST"]


def test_another_version_is_not_replaced(store, path):
    version = store.write(record(1), if_version=None)
    other = vault_store("bao", path)
    for wrong in (None, "0" * 64):
        with pytest.raises(StaleVersion):
            other.write(record(2), if_version=wrong)
    assert store.read().version == version


def test_who_has_not_seen_the_last_write_is_stale(store, path):
    version = store.write(record(1), if_version=None)
    late = vault_store("bao", path)
    late.read()
    store.write(record(1, owner="first"), if_version=version)
    with pytest.raises(StaleVersion):
        late.write(record(1, owner="late"), if_version=version)
    assert store.read().record == record(1, owner="first")


def test_of_sixteen_writers_one_wins_each_round(openbao, connect, path):
    connect(openbao)
    stores = [vault_store("bao", path) for _ in range(16)]
    for number in range(6):
        expected = {store.read().version for store in stores}
        assert len(expected) == 1
        won: list[str] = []
        failed: list[BaseException] = []
        barrier = threading.Barrier(len(stores))

        def work(n: int, store: RecordStore, version: str | None = min(expected, key=str)) -> None:
            barrier.wait()  # noqa: B023 - the threads end within the round
            try:
                won.append(store.write(record(number, owner=f"{number}-{n}"), if_version=version))  # noqa: B023
            except StaleVersion:
                pass
            except BaseException as error:  # noqa: BLE001
                failed.append(error)  # noqa: B023

        threads = [threading.Thread(target=work, args=(n, store)) for n, store in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(won) == 1
        assert stores[0].read().version == won[0]


# ----------------------------------------------------------------------------------------------------- other keys


def test_what_people_put_there_stays_and_is_given(store, openbao, path):
    openbao.write(path, ENTERED)
    assert store.read() == StoredRecord(None, None)
    assert store.read().kept == ENTERED
    store.write(record(1), if_version=None)
    assert openbao.read(path) == ENTERED | {"token_record": record(1).to_json()}
    assert store.read().kept == ENTERED


def test_a_key_changed_meanwhile_is_not_lost_and_makes_nothing_stale(store, openbao, path):
    openbao.write(path, ENTERED)
    version = store.write(record(1), if_version=store.read().version)
    openbao.write(path, {**openbao.read(path), "refresh_token": "entered-secret-2"})
    store.write(record(2), if_version=version)
    assert openbao.read(path) == ENTERED | {"refresh_token": "entered-secret-2", "token_record": record(2).to_json()}
    assert store.read().kept["refresh_token"] == "entered-secret-2"


def test_what_is_secret_there_is_masked(store, openbao, path, monkeypatch):
    openbao.write(path, ENTERED)
    masked: list[str | None] = []
    monkeypatch.setattr(masking, "mask_secret", masked.append)
    store.read()
    assert {"client-secret-1", "entered-secret-1"} <= set(masked)
    assert "me" not in masked


def test_a_record_that_a_person_turned_into_an_object_is_read(store, openbao, path):
    openbao.write(path, {"token_record": json.loads(record(3).to_json())})
    found = store.read()
    assert found.record == record(3)
    store.write(record(4), if_version=found.version)
    assert store.read().record == record(4)


@pytest.mark.parametrize("how", ["delete", "destroy", "metadata"])
def test_after_a_deletion_the_next_write_counts_on(store, openbao, path, how):
    version = store.write(record(1), if_version=None)
    store.write(record(2), if_version=version)
    if how == "delete":
        openbao.api("DELETE", f"secret/data/{path}")
    elif how == "destroy":
        openbao.api("PUT", f"secret/destroy/{path}", {"versions": [2]})
    else:
        openbao.api("DELETE", f"secret/metadata/{path}")
    assert store.read() == StoredRecord(None, None)
    written = store.write(record(9), if_version=None)
    assert store.read() == StoredRecord(record(9), written)


def test_a_mount_that_demands_check_and_set_is_fine(store, openbao, path):
    openbao.api("POST", f"secret/metadata/{path}", {"cas_required": True})
    version = store.write(record(1), if_version=None)
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)


# ---------------------------------------------------------------------------------------- lost answers, outages


def test_a_write_whose_answer_was_lost_may_be_repeated(store, path, monkeypatch):
    version = store.write(record(1), if_version=None)
    client = store._backend._client._hvac
    real = client.session.request

    def lose_the_answer(**options: Any) -> Any:
        real(**options)
        monkeypatch.setattr(client.session, "request", real)
        raise requests.ReadTimeout("refresh-secret-2")

    monkeypatch.setattr(client.session, "request", lose_the_answer)
    with pytest.raises(StoreUnavailable, match="ReadTimeout") as failure:
        store.write(record(2), if_version=version)
    assert "secret-2" not in str(failure.value)
    written = store.write(record(2), if_version=version)
    assert store.read() == StoredRecord(record(2), written)


def test_a_sealed_server_is_unavailable_and_comes_back(sealable_openbao, connect, path):
    connect(sealable_openbao)
    store = vault_store("bao", path)
    version = store.write(record(1), if_version=None)
    sealable_openbao.seal()
    try:
        for call in (store.read, lambda: store.write(record(2), if_version=version)):
            with pytest.raises(StoreUnavailable, match="sealed"):
                call()
        with pytest.raises(StoreUnavailable, match="sealed"):
            vault_store("bao", path).read()
    finally:
        sealable_openbao.unseal()
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)


def test_a_server_that_is_gone_is_unavailable(openbao, connect, path, monkeypatch):
    connect(openbao)
    connection = json.loads(os.environ["AIRFLOW_CONN_BAO"]) | {"port": 1}
    monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps(connection))
    with pytest.raises(StoreUnavailable, match="login"):
        vault_store("bao", path).read()


def test_too_many_requests_are_unavailable(openbao, connect, path):
    connect(openbao)
    store = vault_store("bao", path)
    store.read()
    openbao.rate_limit(1, path="secret/", seconds=3600)
    try:
        failures = [_failure_of(store.read) for _ in range(5)]
    finally:
        openbao.rate_limit(0)
    assert any("429" in failure for failure in failures)


def _failure_of(call: Any) -> str:
    try:
        call()
    except StoreUnavailable as failure:
        return str(failure)
    return ""


def test_a_request_has_a_timeout_unless_the_connection_has_its_own(openbao, connect, path):
    connect(openbao)
    store = vault_store("bao", path)
    assert store._backend._client._hvac.adapter._kwargs["timeout"] == 10.0
    connect(openbao, client_kwargs={"timeout": 3})
    assert vault_store("bao", path)._backend._client._hvac.adapter._kwargs["timeout"] == 3


# --------------------------------------------------------------------------------------------- rights and logins


def test_the_least_rights_suffice(openbao, connect, path):
    connect(openbao, openbao.limited_token({"secret/data/airflow/*": ["create", "read", "update"]}))
    store = vault_store("bao", path)
    version = store.write(record(1), if_version=store.read().version)
    store.write(record(2), if_version=version)
    assert store.read().record == record(2)


@pytest.mark.parametrize(("rights", "can"), [(["read"], "create and update"), (["create", "update"], "read")])
def test_a_missing_right_is_named(openbao, connect, path, rights, can):
    connect(openbao, openbao.limited_token({"secret/data/airflow/*": rights}))
    store = vault_store("bao", path)
    with pytest.raises(StoreUnavailable, match=f"to {can} the Vault secret secret/{path}.*create, read and update"):
        store.write(record(1, owner="me"), if_version=None)


def test_a_token_that_was_revoked_is_replaced_by_a_new_login(openbao, connect, path):
    role_id, secret_id = openbao.approle({"secret/data/airflow/*": FULL})
    connect(openbao, secret_id, login=role_id, auth_type="approle")
    store = vault_store("bao", path)
    version = store.write(record(1), if_version=None)
    openbao.revoke_token(store._backend._client._hvac.token)
    leased = store.write(record(1, owner="me"), if_version=version)
    openbao.revoke_token(store._backend._client._hvac.token)
    assert store.read().version == leased


def test_a_token_that_cannot_be_replaced_is_unavailable(openbao, connect, path):
    token = openbao.limited_token({"secret/data/airflow/*": FULL})
    connect(openbao, token)
    store = vault_store("bao", path)
    version = store.write(record(1), if_version=None)
    openbao.revoke_token(token)
    for call in (store.read, lambda: store.write(record(2), if_version=version)):
        with pytest.raises(StoreUnavailable, match=r"'bao'.*(ended or was revoked|failed)") as failure:
            call()
        assert token not in str(failure.value)


@pytest.mark.parametrize("method", ["approle", "userpass"])
def test_other_ways_to_log_in(openbao, connect, path, method):
    login, password = getattr(openbao, method)({"secret/data/airflow/*": FULL})
    connect(openbao, password, login=login, auth_type=method)
    store = vault_store("bao", path)
    store.write(record(1), if_version=None)
    assert store.read().record == record(1)


# ------------------------------------------------------------------------------------------------ wrong settings


def test_an_undefined_vault_connection_is_said(path, monkeypatch):
    monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", list)
    with pytest.raises(StoreNotWritable, match=r"'xero'.*'nowhere' is not defined"):
        vault_store("nowhere", path).read()


def test_a_wrong_vault_connection_is_said(openbao, connect, path):
    connect(openbao, auth_type="magic")
    with pytest.raises(StoreNotWritable, match=r"'bao' is wrong.*magic"):
        vault_store("bao", path).read()


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"conn_type": "oauth2", "host": "https://api.example.com"},
            "of the type 'oauth2'. Name one of the type 'vault'",
        ),
        ({"conn_type": "vault", "host": "https://me:hidden@vault.example.com"}, "the host 'https://vault.example.com'"),
    ],
)
def test_a_connection_that_is_none_to_vault_is_said(path, monkeypatch, parts, says):
    monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps({**parts, "password": "hidden"}))
    with pytest.raises(StoreNotWritable, match=r"'xero'.*vault_conn_id 'bao'") as caught:
        vault_store("bao", path)
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_mount_point_that_is_not_there_is_said(store, path):
    wrong = vault_store("bao", path, "nowhere")
    for call in (wrong.read, lambda: wrong.write(record(1), if_version=None)):
        with pytest.raises(StoreNotWritable, match="no secrets engine at the mount point"):
            call()


def test_another_mount_point_can_be_given(openbao, store, path):
    openbao.mount_kv(mount := f"kv-{uuid.uuid4().hex[:8]}", version=2)
    other = vault_store("bao", path, mount)
    other.write(record(1), if_version=None)
    assert openbao.read(path, mount=mount)["token_record"] == record(1).to_json()
    assert store.read().record is None


def test_the_wrong_version_of_the_engine_is_said(openbao, connect, path):
    openbao.mount_kv(one := f"kv1-{uuid.uuid4().hex[:8]}", version=1)
    connect(openbao)
    with pytest.raises(StoreNotWritable, match="kv_engine_version to 1"):
        vault_store("bao", path, one).write(record(1, owner="me"), if_version=None)
    connect(openbao, kv_engine_version=1)
    with pytest.raises(StoreNotWritable, match="kv_engine_version to 2"):
        vault_store("bao", path).read()


# ------------------------------------------------------------------------------------------------------ KV v1


@pytest.fixture
def first_version(openbao, connect):
    openbao.mount_kv(mount := f"kv1-{uuid.uuid4().hex[:8]}", version=1)
    connect(openbao, kv_engine_version=1)
    return mount


def test_kv_v1_keeps_other_keys_too(openbao, first_version, path):
    openbao.write(path, ENTERED, mount=first_version, version=1)
    store = vault_store("bao", path, first_version, sleep=lambda _seconds: None)
    version = store.write(record(1, owner="me"), if_version=store.read().version)
    store.write(record(2), if_version=version)
    kept = openbao.read(path, mount=first_version, version=1)
    assert kept == ENTERED | {"token_record": record(2).to_json()}
    assert store.read().kept == ENTERED


def test_kv_v1_of_many_claims_at_most_one_holds(first_version, path, openbao):
    stores = [vault_store("bao", path, first_version, settle_time=1.0) for _ in range(8)]
    for store in stores:
        store.read()
    won: list[str] = []
    lost: list[str] = []
    barrier = threading.Barrier(len(stores))

    def work(n: int, store: RecordStore) -> None:
        barrier.wait()
        try:
            won.append(store.write(record(1, owner=str(n)), if_version=None))
        except StaleVersion as error:
            lost.append(str(error))

    threads = [threading.Thread(target=work, args=(n, store)) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) <= 1
    assert len(won) + len(lost) == 8
    if won:
        assert stores[0].read().version == won[0]


# -------------------------------------------------------------------------------------------------------- the path


@pytest.mark.parametrize("before", ["secret/", "data/", "secret/data/"])
def test_a_path_with_the_mount_point_before_it_is_refused(openbao, connect, path, before):
    connect(openbao)
    with pytest.raises(StoreNotWritable, match=f"'xero'.*enter '{path}'"):
        vault_store("bao", before + path).read()
    # A secret that is really called so works.
    openbao.write(before + path, {"client_id": "kept"})
    assert vault_store("bao", before + path).read().kept == {"client_id": "kept"}


def test_everything_in_vault_and_a_path_that_leads_nowhere(openbao, connect, path, monkeypatch):
    connect(openbao)
    extra = {"oauth_url": "https://login.example.com/token", "store": "vault", "vault_conn_id": "bao"}
    connection = {"conn_type": "oauth2", "host": "https://api.example.com", "extra": {**extra, "vault_path": path}}
    monkeypatch.setenv("AIRFLOW_CONN_XERO", json.dumps(connection))
    with pytest.raises(
        ConfigurationError, match=f"'xero'.*'client_id' in the Vault secret secret/{path} .where there is"
    ):
        ConnectionLoader("xero").load()
    openbao.write(path, {"client_id": "kept"})
    with pytest.raises(ConfigurationError, match=f"'client_secret' in the Vault secret secret/{path},"):
        ConnectionLoader("xero").load()


def test_a_login_that_fails_names_the_connection_whose_tokens_are_there(openbao, connect, path, monkeypatch):
    connect(openbao, "wrong", "nobody", auth_type="userpass")
    extra = {"oauth_url": "https://login.example.com/token", "store": "vault", "vault_conn_id": "bao"}
    connection = {"conn_type": "oauth2", "login": "id", "password": "s3cr3t", "extra": {**extra, "vault_path": path}}
    monkeypatch.setenv("AIRFLOW_CONN_XERO", json.dumps(connection))
    with pytest.raises(StoreUnavailable, match=r"^Connection 'xero': The login at Vault .* 'bao' failed"):
        ConnectionLoader("xero").load()
