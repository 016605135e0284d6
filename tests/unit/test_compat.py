"""The strict look-ups: a value, a certain absence, or StoreUnavailable."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import itertools
import threading
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms as messages

from airflow_oauth_provider.compat import connections, masking, sdk, variables
from airflow_oauth_provider.compat.supervisor import on_task_sdk
from airflow_oauth_provider.doctor.examination import look_at
from airflow_oauth_provider.doctor.grants import read_grant
from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable, StoreUnavailable
from tests.unit.store_fakes import Supervisor, put_in_task, server_error


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    return put_in_task(monkeypatch)


PASSING = [
    pytest.param(server_error(500), id="500"),
    pytest.param(server_error(None), id="time-out"),
    pytest.param(EOFError("closed"), id="closed"),
    pytest.param(OSError("broken"), id="broken"),
    pytest.param(messages.ErrorResponse(error=ErrorType.GENERIC_ERROR), id="generic"),
    pytest.param(messages.ErrorResponse(error=ErrorType.PERMISSION_DENIED, detail={"status_code": 403}), id="403"),
]


def test_it_tells_a_task_from_a_process_with_the_database(monkeypatch):
    assert not on_task_sdk()
    put_in_task(monkeypatch)
    assert on_task_sdk()


# ------------------------------------------------------------------------------------------------- variables


def test_a_variable_is_read_from_the_supervisor(supervisor):
    supervisor.variables["a"] = "value"
    assert variables.read_variable("a") == "value"


def test_an_absent_variable_is_none(supervisor):
    supervisor.variables["ab"] = "another one with that prefix"
    assert variables.read_variable("a") is None


@pytest.mark.parametrize("trouble", PASSING)
def test_a_failed_read_is_not_taken_for_absence(supervisor, trouble):
    supervisor.fail = lambda message: trouble if isinstance(message, messages.GetVariable) else None
    with pytest.raises(StoreUnavailable):
        variables.read_variable("a")


def test_a_not_found_of_a_failing_database_is_not_taken_for_absence(supervisor):
    """The API server swallows the error of its database and says that there is no such variable."""
    supervisor.variables["a"] = "value"
    not_found = messages.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": "a"})
    supervisor.fail = lambda message: not_found if isinstance(message, messages.GetVariable) else None
    with pytest.raises(StoreUnavailable, match="exists but"):
        variables.read_variable("a")


def test_an_absence_that_cannot_be_confirmed_is_unavailable(supervisor):
    supervisor.fail = lambda message: server_error() if isinstance(message, messages.GetVariableKeys) else None
    with pytest.raises(StoreUnavailable):
        variables.read_variable("a")


@pytest.fixture
def without_keys(monkeypatch):
    """Airflow 3.0 to 3.2: variables cannot be listed."""
    monkeypatch.delattr(messages, "GetVariableKeys")


def test_before_3_3_an_absence_is_confirmed_by_a_probe(supervisor, without_keys):
    assert variables.read_variable("a") is None
    written = len(supervisor.asked("PutVariable"))
    assert variables.read_variable("a") is None
    assert len(supervisor.asked("PutVariable")) == written == 1, "the probe is written once"


def test_before_3_3_a_passing_not_found_is_found_out(supervisor, without_keys):
    supervisor.variables["a"] = "value"
    answers = iter([True])
    not_found = messages.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": "a"})

    def fail_once(message: Any) -> Any:
        return not_found if getattr(message, "key", None) == "a" and next(answers, False) else None

    supervisor.fail = fail_once
    assert variables.read_variable("a") == "value"


@pytest.mark.parametrize("after", ["GetVariable", "GetVariableKeys"])
def test_a_variable_that_a_sibling_sets_between_two_questions_is_read(supervisor, after):
    """The first use of a connection by many tasks at once: not found, then another task has set it."""
    send = supervisor.send

    def set_afterwards(message: Any) -> Any:
        answer = send(message)
        if type(message).__name__ == after:
            supervisor.variables["a"] = "of a sibling"
        return answer

    supervisor.send = set_afterwards
    assert variables.read_variable("a") in (["of a sibling"] if after == "GetVariable" else [None])


def test_before_3_3_a_variable_that_a_sibling_sets_meanwhile_is_read(supervisor, without_keys):
    for nth in range(1, 6):
        supervisor.variables = {}
        seen = itertools.count(1)

        def set_at(message: Any, nth: int = nth, seen: Any = seen) -> None:
            if next(seen) == nth:
                supervisor.variables["a"] = "of a sibling"

        supervisor.fail = set_at
        assert variables.read_variable("a") in (None, "of a sibling")
        assert variables.read_variable("a") == "of a sibling"


def test_before_3_3_a_database_that_stays_away_is_found_out(supervisor, without_keys):
    supervisor.variables |= {"a": "value", "oauth2_store_probe": "ok"}
    not_found = messages.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={})
    supervisor.fail = lambda message: not_found if isinstance(message, messages.GetVariable) else None
    with pytest.raises(StoreUnavailable):
        variables.read_variable("a")


@pytest.mark.parametrize("trouble", PASSING)
def test_a_failed_write_is_said(supervisor, trouble):
    supervisor.fail = lambda _message: trouble
    with pytest.raises(StoreUnavailable):
        variables.write_variable("a", "value", "for a test")
    with pytest.raises(StoreUnavailable):
        variables.delete_variable("a")


def test_no_error_quotes_what_was_sent(supervisor):
    supervisor.fail = lambda _message: RuntimeError("PutVariable(value='refresh-secret-1')")
    with pytest.raises(StoreUnavailable) as failure:
        variables.write_variable("a", "refresh-secret-1", "for a test")
    assert "secret" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


def test_a_variable_of_the_environment_is_noticed(supervisor, monkeypatch):
    variables.refuse_shadowed_variable("mine")
    monkeypatch.setenv("AIRFLOW_VAR_MINE", "fixed")
    with pytest.raises(StoreNotWritable, match="the environment variable AIRFLOW_VAR_MINE"):
        variables.refuse_shadowed_variable("mine")


def test_a_variable_is_deleted_and_may_be_gone_already(supervisor):
    supervisor.variables["a"] = "value"
    variables.delete_variable("a")
    variables.delete_variable("a")
    assert supervisor.variables == {}


# ----------------------------------------------------------------------------------------------- connections


def test_a_connection_comes_from_the_supervisor(supervisor):
    supervisor.connections["xero"] = {"conn_type": "oauth2", "host": "api", "schema": "https", "extra": "{}"}
    connection = connections.get_connection("xero")
    assert (connection.host, connection.schema, connection.extra) == ("api", "https", "{}")
    assert connections.find_connection("xero").place is None


def test_an_undefined_connection_is_said_to_be(supervisor):
    with pytest.raises(sdk.AirflowNotFoundException, match="xero"):
        connections.get_connection("xero")


@pytest.mark.parametrize("trouble", PASSING)
def test_a_failed_look_up_is_not_an_undefined_connection(supervisor, trouble):
    supervisor.fail = lambda message: trouble if isinstance(message, messages.GetConnection) else None
    with pytest.raises(StoreUnavailable):
        connections.get_connection("xero")


def test_the_environment_comes_first_and_is_told(supervisor, monkeypatch):
    supervisor.connections["xero"] = {"conn_type": "oauth2", "host": "database"}
    monkeypatch.setenv("AIRFLOW_CONN_XERO", "oauth2://environment")
    assert connections.get_connection("xero").host == "environment"
    assert connections.find_connection("xero").place == "the environment variable AIRFLOW_CONN_XERO"


class CustomBackend:
    """A secrets backend of a deployment."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_connection(self, conn_id: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("task", [True, False])
def test_a_failing_secrets_backend_does_not_give_way_to_the_next(monkeypatch, task):
    """Airflow would go on with whatever the database has under that name."""
    backends = [CustomBackend(TimeoutError("https://vault?token=refresh-secret-1"))]
    if task:
        put_in_task(monkeypatch).connections["xero"] = {"conn_type": "oauth2"}
        monkeypatch.setattr("airflow.sdk.execution_time.supervisor.ensure_secrets_backend_loaded", lambda: backends)
    else:
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda: backends)
    with pytest.raises(StoreUnavailable, match="CustomBackend") as failure:
        connections.get_connection("xero")
    assert "secret-1" not in str(failure.value)


def test_a_backend_without_connections_is_passed_by(supervisor, monkeypatch):
    supervisor.connections["xero"] = {"conn_type": "oauth2"}
    backends = [CustomBackend(NotImplementedError())]
    monkeypatch.setattr("airflow.sdk.execution_time.supervisor.ensure_secrets_backend_loaded", lambda: backends)
    assert connections.get_connection("xero").conn_type == "oauth2"


def test_a_connection_under_test_is_taken(supervisor):
    from airflow.sdk import Connection
    from airflow.sdk.execution_time.context import _preset_connections

    token = _preset_connections.set({"under_test": Connection(conn_id="under_test", conn_type="oauth2", host="h")})
    try:
        assert connections.get_connection("under_test").host == "h"
    finally:
        _preset_connections.reset(token)


# ---------------------------------------------------------------------------------------------------- masking


def test_secrets_are_masked_here_and_in_the_supervisor(supervisor):
    from airflow.sdk._shared.secrets_masker import redact

    masking.mask_secret("a-very-secret-value-1")
    assert [message.value for message in supervisor.asked("MaskSecret")] == ["a-very-secret-value-1"]
    assert "a-very-secret-value-1" not in redact("it is a-very-secret-value-1")


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_is_not_masked(supervisor, nothing):
    masking.mask_secret(nothing)
    assert supervisor.log == []


def test_a_supervisor_that_cannot_be_told_does_not_stop_us(supervisor):
    supervisor.fail = lambda _message: EOFError()
    masking.mask_secret("a-very-secret-value-2")


def test_the_values_that_were_named_last_stay_hidden_and_the_oldest_do_not(monkeypatch):
    """Airflow compiles all of them into one pattern, anew for each: a triggerer must not keep every token that was."""
    monkeypatch.setattr(masking, "_MOST", 45)  # characters: the secret and two tokens
    monkeypatch.setattr(masking, "_hidden", OrderedDict())
    maskers = [importlib.import_module(name)._secrets_masker() for name in masking._masker_modules()]
    maskers[0].add_mask("a-password-that-airflow-knows")
    masking.mask_secret("a-password-that-airflow-knows")
    masking.mask_secret("a-client-secret")
    sizes = []
    for number in range(6):
        masking.mask_secret(f"token-number-{number}")
        masking.mask_secret("a-client-secret")  # each look-up of the connection names it
        sizes.append([len(masker.patterns) for masker in maskers])
    shown = maskers[0].redact("token-number-1 token-number-5 a-client-secret a-password-that-airflow-knows")
    assert shown == "token-number-1 *** *** ***"
    assert sizes[2] == sizes[-1], "as many as there were"


def test_a_value_that_a_masker_has_lost_is_hidden_again_when_it_is_named(monkeypatch):
    """Airflow empties the masker of a process that it has forked."""
    monkeypatch.setattr(masking, "_hidden", OrderedDict())
    maskers = [importlib.import_module(name)._secrets_masker() for name in masking._masker_modules()]
    masking.mask_secret("a-value-to-be-lost")
    for masker in maskers:
        monkeypatch.setattr(masker, "patterns", set())
        monkeypatch.setattr(masker, "replacer", None)
    masking.mask_secret("a-value-to-be-lost")
    assert [masker.redact("a-value-to-be-lost") for masker in maskers] == ["***"] * len(maskers)


# ---------------------------------------------------------------------------------------------------- threads


class UnlockedComms(Supervisor):
    """``CommsDecoder`` of 3.0 and 3.1: a second thread in between gets the wrong answer."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        self.clashes = 0

    def send(self, message: Any) -> Any:
        self.inside += 1
        self.clashes += self.inside > 1
        threading.Event().wait(0.002)
        self.inside -= 1
        return super().send(message)


def test_threads_do_not_take_each_others_answers_on_3_0_and_3_1(monkeypatch):
    comms = put_in_task(monkeypatch, UnlockedComms())
    comms.variables["a"] = "value"
    threads = [threading.Thread(target=variables.read_variable, args=("a",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(comms.asked("GetVariable")) == 8
    assert comms.clashes == 0


class _Writer:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop


class TriggererComms(Supervisor):
    """``TriggerCommsDecoder`` of 3.0 and 3.1: its streams belong to the main loop and work nowhere else."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._async_writer = _Writer(loop)

    def send(self, message: Any) -> Any:
        raise RuntimeError("Response read out of order!")

    async def asend(self, message: Any) -> Any:
        assert asyncio.get_running_loop() is self._async_writer._loop
        return super().send(message)


def test_a_worker_thread_of_an_older_triggerer_asks_through_its_loop(monkeypatch):
    async def main() -> str | None:
        comms = put_in_task(monkeypatch, TriggererComms(asyncio.get_running_loop()))
        comms.variables["a"] = "value"
        return await asyncio.to_thread(variables.read_variable, "a")

    assert asyncio.run(asyncio.wait_for(main(), 10)) == "value"


def test_the_event_loop_of_an_older_triggerer_is_not_made_to_wait_for_itself(monkeypatch):
    async def main() -> None:
        put_in_task(monkeypatch, TriggererComms(asyncio.get_running_loop()))
        with pytest.raises(StoreUnavailable, match="worker thread"):
            variables.read_variable("a")

    asyncio.run(asyncio.wait_for(main(), 10))


# ------------------------------------------------------------------------------------- versions of HttpHook


def test_srv_lookup_is_refused_where_the_http_provider_does_not_know_it(monkeypatch):
    from airflow.providers.http.hooks.http import HttpHook

    from airflow_oauth_provider.compat import http_provider

    monkeypatch.delattr(HttpHook, "_get_srv_base_urls", raising=False)
    with pytest.raises(
        ConfigurationError, match=r"Connection 'xero': srv_lookup needs .*-http 6\.2 or later"
    ) as caught:
        http_provider.check_srv_lookup("xero")
    assert f"this is {importlib.metadata.version('apache-airflow-providers-http')}." in str(caught.value)


def test_an_argument_that_silences_a_warning_is_left_out_where_nothing_warns():
    class Older:
        def __init__(self, method="POST"):
            pass

    class Newer(Older):
        def __init__(self, method="POST", warn_on_non_idempotent=True):
            pass

    from airflow_oauth_provider.compat.http_provider import known_arguments

    given = {"warn_on_non_idempotent": False, "mehtod": "GET"}
    assert known_arguments(Newer, given) == given
    assert known_arguments(Older, given) == {"mehtod": "GET"}, "what nobody knows is for the operator to refuse"


def test_options_of_the_connection_hold_where_run_hands_over_only_those_of_the_call(monkeypatch):
    """``HttpHook.run`` of 5.3.0 gives ``run_and_check`` what its caller gave, not what ``get_conn`` has merged."""
    import json

    import requests

    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook

    extra = {
        "token_url": "https://login.example/token",
        "timeout": 7,
        "allow_redirects": False,
        "check_response": False,
    }
    uri = {"conn_type": "oauth2", "host": "https://api.example", "login": "id", "password": "s", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(uri))
    hook, sent = OAuth2Hook("api"), []
    refused = requests.Response()
    refused.status_code = 500
    monkeypatch.setattr(hook.sending, "send", lambda _s, _r, options, _c: sent.append(options) or refused)
    request = requests.Request("GET", "https://api.example/items").prepare()

    assert hook.run_and_check(requests.Session(), request, {}).status_code == 500
    assert (sent[0]["timeout"], sent[0]["allow_redirects"]) == (7, False)


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.11.0", (2, 11)), ("3.1.6rc1", (3, 1)), ("3.10.0.dev0", (3, 10)), ("3.4.0+astro.1", (3, 4))],
)
def test_versions(text, version):
    from airflow_oauth_provider.compat.sdk import parse_version

    assert parse_version(text) == version


@pytest.mark.parametrize("name", sdk.__all__)
def test_every_name_of_airflow_has_a_place_and_no_warning(name, recwarn):
    sdk.__dict__.pop(name, None)
    getattr(sdk, name)
    assert [str(warning.message) for warning in recwarn if "deprecat" in str(warning.message)] == []


def test_no_other_name_has_one():
    with pytest.raises(AttributeError, match="Nothing"):
        sdk.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "http://[",
        "oauth2://id:s3cr3t@host:port/x",
        '{"conn_type": "oauth2", "port": "x", "password": "s3cr3t"}',
        '{"extra": 5, "password": "s3cr3t"}',
        '{"passwort": "s3cr3t"}',
        "oauth2://id:s3cr3t@host/?__extra__={",
    ],
)
def test_an_environment_variable_that_is_no_connection_is_a_configuration_error(monkeypatch, text):
    monkeypatch.setenv("AIRFLOW_CONN_XERO", text)
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_XERO holds neither a connection in JSON") as caught:
        connections.get_connection("xero")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("stored", "encrypted", "error", "words"),
    [
        ("{not json", False, ConfigurationError, "extra is no JSON object"),
        ("[1]", False, ConfigurationError, "extra is no JSON object"),
        ("gAAAAA-of-another-key", True, StoreUnavailable, "fernet_key"),
    ],
)
def test_a_row_that_airflow_cannot_read_has_an_error_that_says_so(monkeypatch, stored, encrypted, error, words):
    """The row's own class decrypts and parses when it is asked for its extra, long after it was found."""
    from airflow.models.connection import Connection

    row = Connection(conn_id="xero", conn_type="oauth2")
    row._extra, row.is_extra_encrypted = stored, encrypted
    backend = SimpleNamespace(get_connection=lambda conn_id: row)
    monkeypatch.setattr(connections, "secrets_backends", lambda: [backend])

    with pytest.raises(error, match=words) as failure:
        connections.find_connection("xero")
    assert "xero" in str(failure.value)
    assert stored not in str(failure.value)
    assert words in read_grant("xero").state.reason
    (finding,) = look_at("xero")
    assert (finding.level, words in finding.text) == ("fail", True)


@pytest.mark.parametrize(("teams", "expected"), [("True", {"team_name": "red"}), ("False", {})])
def test_a_row_of_a_team_is_asked_for_by_its_team(monkeypatch, teams, expected):
    """Airflow's own backend gives a team's connection to that team alone; a server reads for whoever has the right."""
    from airflow.models.connection import Connection

    class MetastoreBackend:
        def get_connection(self, conn_id, **team):
            asked.append(team)
            return Connection(conn_id=conn_id, conn_type="oauth2")

    asked = []
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", teams)
    monkeypatch.setattr(Connection, "get_team_name", staticmethod(lambda _: "red"))
    monkeypatch.setattr(connections, "secrets_backends", lambda: [MetastoreBackend()])

    connections.find_connection("xero")

    assert asked == [expected]
