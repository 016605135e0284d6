"""Tokens in Google Secret Manager: Google's own client library against a server that speaks its protocol.

What its server cannot show is how far Google keeps its word about numbers; the orders in which workers can meet are in
``tests/exploration/test_google_versions.py``.
"""

from __future__ import annotations

import base64
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_oauth_provider.exceptions import ConfigurationError, StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
from airflow_oauth_provider.http import access
from airflow_oauth_provider.stores import gcp_secret_manager
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.tokens.record import Lease, Record
from tests.integration._secret_manager import SecretManager
from tests.servers.scripted import Fault, ScriptedServer
from tests.unit.fakes import MemoryFallback

NAME = "projects/finance/secrets/xero"
DOCUMENT = {"client_id": "the-client", "client_secret": "s3cret-of-it", "refresh_token": "first", "team": "finance"}


@pytest.fixture
def google(monkeypatch, tmp_path):
    with SecretManager() as google:
        for name, value in google.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        google.add("xero", json.dumps(DOCUMENT))
        yield google


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(gcp_secret_manager, "_PATIENCE", 0.1)


def store_of(google, **more):
    options = {"gcp_name": NAME, "gcp_endpoint": google.host, **more}
    return open_store("xero", StoreOptions("gcp_secret_manager", **options))


def grown(record, token, **more):
    return replace(record, generation=record.generation + 1, refresh_token=token, access_token="at-" + token, **more)


def leased(record, owner="me"):
    return replace(record, lease=Lease(owner, 60, 1.9e9))


def test_from_the_tokens_as_entered_to_a_rotation(google):
    store = store_of(google)
    first = store.read()
    assert (first.record.refresh_token, first.version) == ("first", None)
    assert store.read().kept == {"client_id": "the-client", "client_secret": "s3cret-of-it"}
    version = store.write(leased(first.record), if_version=None)
    new = grown(first.record, "second")
    store.write(new, if_version=version)
    assert store_of(google).read().record == new
    document = google.value("xero")
    assert (document["refresh_token"], document["access_token"]) == ("second", "at-second")
    assert (document["team"], document["client_secret"]) == ("finance", "s3cret-of-it")
    assert "refresh_token" not in store_of(google).read().kept
    assert google.states("xero") == ["ENABLED", "DESTROYED", "ENABLED"]  # what a person added stays


def test_what_it_costs(google):
    store = store_of(google)
    found = store.read()
    assert google.calls == ["access"] * 2
    google.calls.clear()
    version = store.write(leased(found.record), if_version=None)
    assert google.calls == ["addVersion"]
    google.calls.clear()
    store.write(grown(found.record, "second"), if_version=version)
    assert google.calls == ["addVersion", "list", "access", "destroy", "access"]


def test_any_layout(google):
    google.add("xero", json.dumps({"app": {"id": "the-client"}, "tokens": [{"value": "first"}]}))
    paths = {"client_id": "$.app.id", "refresh_token": "$.tokens[0].value", "record": "$.state"}
    store = store_of(google, file_map=paths)
    assert store.read().record.refresh_token == "first"
    assert store.read().kept == {"client_id": "the-client"}
    store.write(grown(store.read().record, "second"), if_version=None)
    assert google.value("xero")["tokens"] == [{"value": "second"}]


def test_a_stale_version_changes_nothing(google):
    one, two = store_of(google), store_of(google)
    first = one.read().record
    two.read()
    version = one.write(grown(first, "second"), if_version=None)
    with pytest.raises(StaleVersion):
        two.write(grown(first, "other"), if_version=None)
    assert store_of(google).read().record.refresh_token == "second"
    # The same again: its answer was lost.
    assert two.write(grown(first, "second"), if_version=None) == version


def test_of_sixteen_writers_with_the_same_version_one_wins(google):
    barrier = threading.Barrier(16)
    won = []

    def work(number):
        store = store_of(google)
        first = store.read().record
        barrier.wait(60)
        try:
            store.write(leased(first, f"worker {number}"), if_version=None)
        except StaleVersion:
            return
        won.append(f"worker {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(won) == 1
    assert store_of(google).read().record.lease.owner == won[0]
    # It is not hindered by what the others have left, and takes it away.
    winner = store_of(google)
    found = winner.read()
    winner.write(grown(found.record, "second", lease=None), if_version=found.version)
    assert google.states("xero").count("ENABLED") == 2


def test_of_many_writers_one_wins_each_round(google):
    rounds, workers = 4, 4
    won = []

    def work(number):
        store = store_of(google)
        while True:
            found = store.read()
            generation = found.record.generation
            if generation >= rounds:
                return
            try:
                store.write(grown(found.record, f"{generation + 1} by {number}"), if_version=found.version)
            except StaleVersion:
                continue
            won.append(generation + 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(won) == list(range(1, rounds + 1))


@pytest.mark.parametrize("works", [True, False])
def test_a_write_whose_answer_is_lost(google, works):
    store = store_of(google)
    first = store.read().record
    google.faults.append(Fault(on=lambda request: request.path.endswith(":addVersion"), reset=True, works=works))
    with pytest.raises(StoreUnavailable, match="no answer of 127"):
        store.write(leased(first), if_version=None)
    version = store.write(leased(first), if_version=None)
    assert len(google.versions["xero"]) == 2
    store.write(grown(first, "second"), if_version=version)
    assert store_of(google).read().record.refresh_token == "second"


def test_latest_that_lags_behind_brings_nothing_old_back(google):
    store = store_of(google)
    for token in ("second", "third", "fourth"):
        found = store.read()
        store.write(grown(found.record, token), if_version=found.version)
    google.lag = 2  # and it is destroyed by now
    assert google.states("xero")[-3] == "DESTROYED"
    other = store_of(google)
    found = other.read()
    assert found.record.refresh_token == "fourth"
    other.write(grown(found.record, "fifth"), if_version=found.version)
    assert store_of(google).read().record.refresh_token == "fifth"


def test_what_a_person_changes_beside_the_record_makes_nothing_stale_and_stays(google):
    store = store_of(google)
    version = store.write(grown(store.read().record, "second"), if_version=None)
    google.add("xero", json.dumps(google.value("xero") | {"team": "sales"}))
    store.write(grown(Record(generation=1, refresh_token="second"), "third"), if_version=version)
    document = google.value("xero")
    assert (document["team"], document["refresh_token"]) == ("sales", "third")
    assert google.states("xero")[2] == "ENABLED"


def test_what_a_person_enters_wins(google):
    store = store_of(google)
    store.write(grown(store.read().record, "second"), if_version=None)
    google.add("xero", json.dumps(google.value("xero") | {"refresh_token": "entered"}))
    store = store_of(google)
    assert store.read().record.refresh_token == "second"
    assert store.read().kept["refresh_token"] == "entered"


@pytest.mark.parametrize(
    ("method", "status", "says"),
    [
        ("access", "PERMISSION_DENIED", "Secret Accessor"),
        ("addVersion", "PERMISSION_DENIED", "Secret Version Manager"),
        ("addVersion", "RESOURCE_EXHAUSTED", "quota"),
        ("addVersion", "UNAVAILABLE", "UNAVAILABLE"),
        ("addVersion", "FAILED_PRECONDITION", "FAILED_PRECONDITION"),
        ("access", "RESOURCE_EXHAUSTED", "quota"),
        ("access", "INTERNAL", "INTERNAL"),
    ],
)
def test_errors_say_what_and_not_what_was_sent(google, impatient, method, status, says):
    store = store_of(google)
    first = store.read().record
    google.refuse = {method: status}
    with pytest.raises(StoreUnavailable, match=says) as caught:
        store.write(grown(first, "second"), if_version=None if method == "addVersion" else "another")
    said = str(caught.value)
    assert "'xero'" in said
    assert NAME in said
    assert "you sent" not in said
    assert google.states("xero") == ["ENABLED"]


def test_a_request_that_others_came_before_is_made_anew(google):
    store = store_of(google)
    first = store.read().record
    aborted = {"error": {"code": 409, "message": "at once", "status": "ABORTED"}}
    google.faults.append(Fault(on=lambda request: request.path.endswith(":addVersion"), status=409, body=aborted))
    store.write(grown(first, "second"), if_version=None)
    assert store_of(google).read().record.refresh_token == "second"


def test_reads_are_patient(google):
    for status in (503, 429, 500):
        google.faults.append(Fault(on="/v1", status=status, body={}))
    google.faults.append(Fault(on="/v1", reset=True))
    assert store_of(google).read().record.refresh_token == "first"


def test_without_the_right_to_tidy_all_else_goes_on(google, caplog):
    google.refuse = {"destroy": "PERMISSION_DENIED"}
    store = store_of(google)
    for token in ("second", "third"):
        found = store.read()
        store.write(grown(found.record, token), if_version=found.version)
    assert google.value("xero")["refresh_token"] == "third"
    assert "Secret Version Manager" in caplog.text
    google.refuse = {}
    found = store.read()
    store.write(grown(found.record, "fourth"), if_version=found.version)
    assert google.states("xero") == ["ENABLED", "DESTROYED", "DESTROYED", "ENABLED"]


def test_damage_on_the_way_is_seen(google):
    google.damage = True
    with pytest.raises(StoreUnavailable, match="checksum"):
        store_of(google).read()


def test_what_is_sent_has_a_checksum(google, monkeypatch):
    store = store_of(google)
    first = store.read().record
    monkeypatch.setattr("google_crc32c.value", lambda _: 1)
    with pytest.raises(StoreUnavailable, match="INVALID_ARGUMENT"):
        store.write(grown(first, "second"), if_version=None)
    assert google.states("xero") == ["ENABLED"]


def test_what_is_too_large_is_not_sent(google):
    google.add("xero", json.dumps(DOCUMENT | {"notes": "x" * 65400}))
    store = store_of(google)
    with pytest.raises(StoreNotWritable, match="65536"):
        store.write(grown(store.read().record, "second"), if_version=None)
    assert google.states("xero") == ["ENABLED"] * 2


def test_places_that_do_not_do(google, impatient):
    with pytest.raises(StoreNotWritable, match="gcp_name"):
        store_of(google, gcp_name="projects/finance/secrets/nobody").read()
    google.add("text", "s3cret, but no JSON")
    with pytest.raises(StoreNotWritable, match="JSON object") as caught:
        store_of(google, gcp_name="projects/finance/secrets/text").read()
    assert "s3cret" not in str(caught.value)
    google.versions["xero"][0]["state"] = "DISABLED"
    with pytest.raises(StoreUnavailable, match="disabled"):
        store_of(google).read()
    google.versions["xero"][0]["state"] = "ENABLED"
    store = store_of(google)
    first = store.read().record
    del google.versions["xero"]
    with pytest.raises(StoreNotWritable, match="deleted"):
        store.write(grown(first, "second"), if_version=None)
    google.pause()
    with pytest.raises(StoreUnavailable, match="no answer of 127"):
        store_of(google).read()


def test_identities(google, monkeypatch, tmp_path, impatient):
    with SecretManager() as other:
        monkeypatch.setenv(
            "GOOGLE_APPLICATION_CREDENTIALS", other.environment(tmp_path)["GOOGLE_APPLICATION_CREDENTIALS"]
        )
        with pytest.raises(StoreUnavailable, match="does not take this worker's credentials"):
            store_of(google).read()
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(StoreUnavailable, match="no identity"):
        store_of(google).read()


def test_a_regional_secret_is_asked_for_in_its_region(google):
    name = "projects/finance/locations/europe-west3/secrets/xero"
    assert store_of(google, gcp_name=name).read().record.refresh_token == "first"
    assert google.requests[-1].path.startswith(f"/v1/{name}/versions/")
    hosts = {
        name: "secretmanager.europe-west3.rep.googleapis.com",
        NAME: "secretmanager.cloud.test",  # the default one, in the universe of these tests
    }
    for full, host in hosts.items():
        secret = gcp_secret_manager.GcpSecret(full, None, "it")
        assert gcp_secret_manager._new_client(secret._endpoint).api_endpoint == host


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "gcp_name"),
        ({"gcp_name": "xero"}, "'xero'"),
        ({"gcp_name": NAME + "/versions/latest"}, "versions/latest"),
        ({"gcp_name": NAME, "gcp_endpoint": "http://elsewhere"}, "'http://elsewhere'"),
        ({"gcp_name": NAME, "file_map": {"refresh": "$.a"}}, "file_map"),
    ],
)
def test_what_the_connection_says_is_checked(options, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        open_store("xero", StoreOptions("gcp_secret_manager", **options))
    assert "'xero'" in str(caught.value)


@pytest.mark.parametrize("missing", ["google_crc32c", "google.cloud.secretmanager_v1"])
def test_without_the_package(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"airflow-oauth-provider\[google\]"):
        open_store("xero", StoreOptions("gcp_secret_manager", gcp_name=NAME))


def test_the_library_logs_no_payload(google, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("google"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("google"), "level", logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    store = store_of(google)
    found = store.read()
    store.write(grown(found.record, "second-token"), if_version=found.version)
    logged = repr([record.__dict__ for record in caplog.records])
    assert "urllib3" in logged
    for text in ("s3cret-of-it", "second-token"):
        assert text not in logged
        # Wherever it stands in what is encoded: three ways to begin, less what depends on the neighbours.
        for shift in range(3):
            assert base64.b64encode(b"x" * shift + text.encode()).decode()[4:12] not in logged


def _work(start, log: Path) -> None:
    """What a task does, three times, in a process of its own."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
    hook = OAuth2Hook("xero", method="GET")
    start.wait(60)
    for _ in range(3):
        hook.refresh(force=True)
        assert hook.run("items").status_code == 200


@pytest.fixture
def connect(google, monkeypatch):
    """An authorization server, and a way to enter the connection anew. There is no database for the fallback store."""
    monkeypatch.setattr(access, "open_fallback", lambda: MemoryFallback({}, lambda _, call: call()))
    with ScriptedServer(lifetime=3600) as server:
        credentials = {"client_id": server.client_id, "client_secret": server.client_secret}
        google.add("xero", json.dumps(credentials | {"refresh_token": server.issue()}))

        def connect(**more):
            extra = {
                "oauth_url": server.token_url, "store": "gcp_secret_manager", "gcp_name": NAME,
                "gcp_endpoint": google.host, **more,
            }  # fmt: skip
            connection = {"conn_type": "oauth2", "host": server.api_url, "extra": extra}
            monkeypatch.setenv("AIRFLOW_CONN_XERO", json.dumps(connection))
            return server

        yield connect


def test_processes_that_share_one_connection(google, connect, tmp_path):
    """All of it: connection, hook, leases and rotations, on a server that ends the grant at the first reuse."""
    server = connect()
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(4)
    logs = [tmp_path / f"{number}.log" for number in range(4)]
    workers = [fork.Process(target=_work, args=(start, log)) for log in logs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    output = "".join(log.read_text() for log in logs)
    assert [worker.exitcode for worker in workers] == [0] * 4, output[-5000:]
    assert server.reuses == 0
    store = store_of(google)
    found = store.read()
    assert found.record.generation == server.spends >= 3
    assert store.read().kept.get("refresh_token") is None
    assert server.grants.accepts(found.record.access_token)
    assert found.record.refresh_token not in output
    # What came too late for the last of them to see it goes with the next write.
    store.write(grown(found.record, "next"), if_version=found.version)
    left = [number for number, state in enumerate(google.states("xero"), 1) if state == "ENABLED"]
    assert left == [1, 2, len(google.versions["xero"])]


def test_a_hook_signs_in_at_google_once(connect, monkeypatch):
    connect()
    new_client, made = gcp_secret_manager._new_client, []
    monkeypatch.setattr(gcp_secret_manager, "_new_client", lambda *given: made.append(given) or new_client(*given))
    hook = OAuth2Hook("xero", method="GET")
    for _ in range(2):
        hook.refresh(force=True)
    assert len(made) == 1


@pytest.mark.parametrize(("dies", "spent"), [("add", 0), ("readable", 1), ("destroy", 1)])
def test_a_process_that_is_killed(google, connect, dies, spent):
    """Right after it has written its lease; before it has tidied; and in the middle of that."""
    server = connect(timeout=3)  # its lease, too, is short
    pid = os.fork()
    if pid == 0:
        method = getattr(gcp_secret_manager.GcpSecret, dies)

        def last(secret, argument):
            method(secret, argument)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(gcp_secret_manager.GcpSecret, dies, last)
        OAuth2Hook("xero").get_access_token()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert server.spends == spent
    connect(timeout=30)
    hook = OAuth2Hook("xero", method="GET")
    assert hook.run("items").status_code == 200
    assert server.spends == 1
    hook.refresh(force=True)
    assert (server.spends, server.reuses) == (2, 0)
    assert google.states("xero").count("ENABLED") == 3
