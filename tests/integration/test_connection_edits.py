"""People, files and keys change a connection while workers write tokens into it: the newest record stays."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
import requests
from cryptography.fernet import Fernet

from airflow_oauth_provider.compat.extra_json import set_member
from airflow_oauth_provider.oauth2.redaction import MASK
from airflow_oauth_provider.tokens.record import Record
from scripts.environments import ROOT, python_of
from tests.integration._store_airflow import FERNET_KEY, airflow_environ
from tests.integration._web_form import Fields
from tests.servers.airflow import AirflowInstance
from tests.servers.processes import wait_until
from tests.servers.record_put import put_record

EXTRA = {"oauth_url": "https://as/token", "refresh_token": "entered-SECRET", "leeway": 30}


def record(generation: int) -> str:
    return Record(generation=generation, refresh_token=f"rotated-SECRET-{generation}").to_json()


# ------------------------------------------------------------------------------- by way of Airflow's model


class Run:
    """Runs Python in an Airflow home."""

    def __init__(self, version: str, folder: Any, database: str | None) -> None:
        self.version, self.database = version, database
        self.python = str(python_of(version))
        self.environ = airflow_environ(folder, database)
        self("-m", "airflow", "db", "migrate")

    def __call__(self, *arguments: str, **more: str) -> str:
        command = [self.python, "-W", "ignore", *arguments]
        environ = {**self.environ, **more}
        done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def postgres_home(postgres, tmp_path_factory) -> Run:
    return Run("3.3", tmp_path_factory.mktemp("airflow"), postgres.create_database("edits"))


@pytest.fixture(scope="module", params=["3.3-postgres", "3.3-sqlite", "2.11-sqlite"])
def home(request, tmp_path_factory) -> Run:
    version, _, kind = request.param.partition("-")
    if kind == "postgres":
        shared: Run = request.getfixturevalue("postgres_home")
        return shared
    return Run(version, tmp_path_factory.mktemp("airflow"), None)


@pytest.fixture(scope="module")
def found(home) -> dict[str, Any]:
    (line,) = [line for line in home("-m", "tests.integration._edits").splitlines() if line.startswith("FOUND ")]
    answer: dict[str, Any] = json.loads(line.removeprefix("FOUND "))
    return answer


ENTERED = {"oauth_url": "https://as/token", "refresh_token": "entered-1"}


@pytest.mark.parametrize(
    ("case", "extra"),
    [
        ("the_first_record_is_written_meanwhile", {**ENTERED, "scope": "read", "token_record": 1}),
        ("a_rotation_meanwhile", {**ENTERED, "scope": "read", "token_record": 2}),
        ("a_new_refresh_token_is_entered", {"refresh_token": "entered-2", "token_record": 1}),
        ("the_extra_is_emptied", {"token_record": 1}),
        ("an_old_record_is_imported", {**ENTERED, "token_record": 2}),
        ("a_record_is_imported_where_there_is_none", {**ENTERED, "token_record": 7}),
        ("another_type_becomes_ours", {**ENTERED, "token_record": 2}),
    ],
)
def test_an_edit_keeps_the_record_that_the_row_holds(found, case, extra):
    assert found[case] == extra


def test_no_worker_comes_between_the_look_and_the_write(found, home):
    (said,) = found["the_row_is_locked_from_the_look_to_the_write"]
    assert ("could not obtain lock on row" if home.database else "database is locked") in said


def test_a_connection_that_becomes_another_type_loses_its_record(found):
    assert found["the_type_is_changed"] == {**ENTERED, "timeout": 5}
    assert found["the_type_is_changed_while_the_first_record_is_written"] == ENTERED
    assert found["a_bare_connection_becomes_another_type_while_the_first_record_is_written"] == {}


def test_an_edit_that_leaves_no_place_for_the_record_fails(found, home):
    said, extra = found["no_place_is_left_for_the_record"]
    assert extra == {**ENTERED, "token_record": 1}
    assert "'no_place_is_left_for_the_record'" in said
    assert "dictionary" in said if home.version != "2.11" else "Enter {} or a JSON object." in said


def test_a_row_that_may_hold_a_record_is_not_overwritten_unread(found):
    said, is_kept, said_of_the_host = found["the_row_cannot_be_decrypted"]
    assert is_kept
    assert "StoreUnavailable: Connection 'the_row_cannot_be_decrypted': it was not changed" in said
    assert said_of_the_host == "nothing failed"


def test_other_connections_are_none_of_our_business(found):
    assert found["another_type_cannot_be_decrypted"] == ["nothing failed", {"a": 1}, "nothing failed"]


def test_a_row_that_is_gone_is_reported_by_sqlalchemy(found):
    assert found["the_row_is_deleted_meanwhile"] == "StaleDataError"


# ------------------------------------------------------------------------------------------ with a worker in between


class Row:
    """A connection's row in a PostgreSQL database, written past Airflow.

    :param keys: decrypt and encrypt it.
    """

    def __init__(self, database: str, conn_id: str, keys: Fernet) -> None:
        self._url = database.replace("postgresql+psycopg2", "postgresql")
        self.conn_id, self._keys = conn_id, keys

    def raw(self) -> str:
        with psycopg2.connect(self._url) as database, database.cursor() as cursor:
            cursor.execute("SELECT extra FROM connection WHERE conn_id = %s", [self.conn_id])
            return str(cursor.fetchone()[0])

    def extra(self) -> dict[str, Any]:
        """What stands there beside guard and key, which each row of our type has."""
        found = self.whole_extra()
        if "use_oauth2_hook" in found:
            assert next(iter(found.items())) == ("use_oauth2_hook", {})
            del found["use_oauth2_hook"]
        found.pop("token_record_key", None)
        return found

    def whole_extra(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._keys.decrypt(self.raw().encode()))
        return found

    @property
    def key(self) -> str:
        return str(self.whole_extra()["token_record_key"])

    def rotate(self, generation: int, meanwhile: Callable[[int], None] = lambda _pid: None) -> None:
        """Write a record in a transaction that begins with a lock of the row.

        :param meanwhile: done while the row is locked; it gets the number of the process that holds the lock.
        """
        with psycopg2.connect(self._url) as worker, worker.cursor() as cursor:
            cursor.execute("SELECT extra FROM connection WHERE conn_id = %s FOR UPDATE", [self.conn_id])
            extra = set_member(self._keys.decrypt(cursor.fetchone()[0].encode()).decode(), record(generation))
            meanwhile(worker.info.backend_pid)
            raw = self._keys.encrypt(extra.encode()).decode()
            cursor.execute("UPDATE connection SET extra = %s WHERE conn_id = %s", [raw, self.conn_id])

    def rotate_during(self, edit: Callable[[], Any], generation: int) -> Any:
        """Write a record after ``edit`` has read the row and before it writes; give what ``edit`` gives.

        Airflow reads without a lock: when the edit waits for the row it has read it.
        """
        answers: list[Any] = []
        editor = threading.Thread(target=lambda: answers.append(edit()))

        def edit_until_it_waits(pid: int) -> None:
            editor.start()
            wait_until(lambda: self._is_waited_for(pid), 180, "the edit waits for the row")

        self.rotate(generation, edit_until_it_waits)
        editor.join(180)
        return answers[0]

    def _is_waited_for(self, pid: int) -> bool:
        with psycopg2.connect(self._url) as database, database.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))", [pid])
            return cursor.fetchone() is not None


@pytest.fixture(scope="module")
def server() -> Iterator[AirflowInstance]:
    with AirflowInstance(components=["api-server"]) as started:
        yield started


@pytest.fixture(scope="module")
def old_server() -> Iterator[AirflowInstance]:
    with AirflowInstance("2.11", components=["webserver"]) as started:
        yield started


@pytest.fixture
def row(server, request) -> Row:
    return new_row(server, request.node.name)


@pytest.fixture
def old_row(old_server, request) -> Row:
    return new_row(old_server, request.node.name)


def new_row(airflow: AirflowInstance, name: str) -> Row:
    name = re.sub(r"\W+", "_", name)
    airflow.add_connection(name, {"conn_type": "oauth2", "host": "https://api", "extra": EXTRA})
    return Row(airflow.db_url, name, Fernet(airflow.secrets.fernet_key))


def put(airflow: AirflowInstance, row: Row, generation: int) -> None:
    """Write the first record, as a task of Airflow 3 does."""
    assert put_record(airflow.url, row.conn_id, row.key, record(generation)).ok


def open_form(airflow: AirflowInstance, row: Row) -> dict[str, Any]:
    shown = airflow.api("GET", f"/connections/{row.conn_id}")
    extra = json.loads(shown["extra"])
    return {"connection_id": row.conn_id, "conn_type": "oauth2", "host": shown["host"], "extra": extra}


def save_form(airflow: AirflowInstance, row: Row, form: dict[str, Any]) -> requests.Response:
    body = {**form, "extra": json.dumps(form["extra"])}
    return airflow.request("PATCH", f"{airflow.api_url}/connections/{row.conn_id}", json=body)


def test_the_first_record_is_written_while_the_form_is_open(server, row):
    form = open_form(server, row)
    put(server, row, 1)
    answer = save_form(server, row, {**form, "extra": {**form["extra"], "leeway": 60}})
    assert answer.ok
    assert "SECRET" not in answer.text
    assert row.extra() == {**EXTRA, "leeway": 60, "token_record": record(1)}


def test_a_rotation_while_the_form_is_being_saved(server, row):
    put(server, row, 1)
    form = open_form(server, row)
    assert form["extra"]["token_record"] == MASK
    form["extra"]["leeway"] = 60
    answer = row.rotate_during(lambda: save_form(server, row, form), 2)
    assert answer.ok
    assert "SECRET" not in answer.text
    assert row.extra() == {**EXTRA, "leeway": 60, "token_record": record(2)}


def test_connections_are_overwritten_in_bulk(server, row):
    """As `airflowctl connections import` does it: Airflow 3 replaces extra as a whole."""
    put(server, row, 1)
    entity = {"connection_id": row.conn_id, "conn_type": "oauth2", "host": "https://new", "extra": json.dumps(EXTRA)}
    action = {"action": "create", "entities": [entity], "action_on_existence": "overwrite"}
    assert server.api("PATCH", "/connections", {"actions": [action]})["create"]["success"] == [row.conn_id]
    assert server.connection(row.conn_id)["host"] == "https://new"
    assert row.extra() == {**EXTRA, "token_record": record(1)}


@pytest.mark.parametrize("saved_again", [False, True])
def test_the_form_can_test_a_connection_that_has_no_port(server, row, saved_again):
    """What the form of Airflow 3.3 sends: a number for the port that it was shown, which is 0 for none."""
    form = open_form(server, row)
    if saved_again:
        assert save_form(server, row, {**form, "port": None}).ok
    shown = server.api("GET", f"/connections/{row.conn_id}")
    body = {**form, "port": int(shown["port"] or 0), "extra": json.dumps(form["extra"])}
    answer = server.request("POST", f"{server.api_url}/connections/test", json=body)
    assert answer.status_code == 200, answer.text
    assert "Does not work" in answer.json()["message"]  # there is nothing at these addresses


def test_a_connection_becomes_another_type_in_the_form(server, row):
    put(server, row, 1)
    key = row.key
    assert save_form(server, row, {**open_form(server, row), "conn_type": "http"}).ok
    assert row.whole_extra() == EXTRA
    assert save_form(server, row, open_form(server, row)).ok
    assert len(row.key) == 43
    assert row.key != key


def test_the_key_is_carried_through_edits_and_shown_to_nobody(server, row):
    key = row.key
    form = open_form(server, row)
    assert (form["extra"]["token_record_key"], form["extra"]["use_oauth2_hook"]) == (MASK, {})
    for extra in ({**form["extra"], "leeway": 60}, {"refresh_token": "new"}, {**EXTRA, "token_record_key": "o" * 43}):
        assert save_form(server, row, {**form, "extra": extra}).ok
        assert row.key == key
        assert next(iter(row.whole_extra())) == "use_oauth2_hook"


def test_a_connection_of_another_system_gets_a_key_of_its_own(server, row, tmp_path):
    file = tmp_path / "connections.json"
    name = f"{row.conn_id}_copy"
    file.write_text(json.dumps({name: {"conn_type": "oauth2", "host": "https://api", "extra": row.whole_extra()}}))
    server.cli("connections", "import", str(file))
    copy = Row(server.db_url, name, Fernet(server.secrets.fernet_key))
    assert len(copy.key) == 43
    assert copy.key != row.key
    assert copy.extra() == row.extra()


def test_connections_are_imported_from_a_file(server, row, tmp_path):
    file = tmp_path / "connections.json"
    exported = {"conn_type": "oauth2", "host": "https://new", "extra": {**EXTRA, "token_record": record(1)}}
    file.write_text(json.dumps({row.conn_id: exported}))
    put(server, row, 2)
    server.cli("connections", "import", "--overwrite", str(file))
    assert server.connection(row.conn_id)["host"] == "https://new"
    assert row.extra() == {**EXTRA, "token_record": record(2)}


def test_the_fernet_key_is_rotated(postgres_home):
    new = Fernet.generate_key().decode()
    both = {"AIRFLOW__CORE__FERNET_KEY": f"{new},{FERNET_KEY}"}
    before = Row(postgres_home.database, "rotated", Fernet(FERNET_KEY))
    after = Row(postgres_home.database, "rotated", Fernet(new))
    definition = {"conn_type": "oauth2", "extra": {**EXTRA, "token_record": record(1)}}
    postgres_home("-m", "airflow", "connections", "add", "rotated", "--conn-json", json.dumps(definition))
    assert before.extra()["token_record"] == record(1)
    before.rotate_during(lambda: postgres_home("-m", "airflow", "rotate-fernet-key", **both), 2)
    assert after.extra() == {**EXTRA, "token_record": record(2)}


# -------------------------------------------------------------------------------------------------- Airflow 2.11


def test_airflow_2_replaces_extra_as_a_whole_through_its_api(old_server, old_row):
    body = {"connection_id": old_row.conn_id, "conn_type": "oauth2", "extra": json.dumps({"refresh_token": "new"})}
    answer = old_row.rotate_during(
        lambda: old_server.request("PATCH", f"{old_server.api_url}/connections/{old_row.conn_id}", json=body), 1
    )
    assert answer.ok
    assert old_row.extra() == {"refresh_token": "new", "token_record": record(1)}


@pytest.mark.parametrize("before", [None, 1])
def test_a_rotation_while_the_form_of_airflow_2_is_being_saved(old_server, old_row, before):
    if before:
        old_row.rotate(before)
    person = requests.Session()
    login = person.get(f"{old_server.url}/login/", timeout=60)
    credentials = {"username": old_server.username, "password": old_server.password}
    person.post(login.url, data={**Fields(login.text).values, **credentials}, timeout=60)
    ((row_id,),) = old_server.sql("SELECT id FROM connection WHERE conn_id = :1", old_row.conn_id)
    page = person.get(f"{old_server.url}/connection/edit/{row_id}", timeout=60)
    assert "SECRET" not in page.text
    form = {**Fields(page.text).values, "extra__oauth2__leeway": "60"}
    answer = old_row.rotate_during(lambda: person.post(page.url, data=form, timeout=180), 2)
    assert answer.ok
    assert old_row.extra() == {**EXTRA, "leeway": "60", "token_record": record(2)}
