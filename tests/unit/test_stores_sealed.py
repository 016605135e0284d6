"""The record in a variable is sealed: nothing that Airflow logs of it is of use, and no change of secrets loses it."""

from __future__ import annotations

import json
import logging
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_oauth_provider.compat import connections, deployment, variables
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.doctor import connection as doctor
from airflow_oauth_provider.doctor.report import Report
from airflow_oauth_provider.exceptions import StaleVersion, StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.stores import sealed_record, variable
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.stores.factory import open_store
from airflow_oauth_provider.stores.sealed_record import ConnectionKeys
from airflow_oauth_provider.tokens import precedence, sealing
from airflow_oauth_provider.tokens.configuration import EnteredTokens, GrantConfiguration
from airflow_oauth_provider.tokens.record import DeadGrant, Record, TokenStore, fingerprint
from tests.unit.fakes import anew
from tests.unit.store_fakes import KEY, Supervisor, database, put_in_task, record

NAME = "oauth2_token_record__xero"
SECRET, ENTERED, PRIVATE = "the-client-secret", "the-entered-token", "the-private-key"
ALL = {"client_secret": SECRET, "refresh_token": ENTERED, "private_key": PRIVATE}


@pytest.fixture
def supervisor(monkeypatch) -> Supervisor:
    deployment.fernet_keys.cache_clear()
    yield put_in_task(monkeypatch)
    deployment.fernet_keys.cache_clear()


def keys(*, rotates: bool = True, **secrets: str) -> ConnectionKeys:
    return ConnectionKeys(tuple(secrets.items()), rotates)


def store(conn_id: str = "xero", *, rotates: bool = True, **secrets: str) -> TokenStore:
    return variable.open_store(conn_id, keys(rotates=rotates, **secrets), sleep=lambda _: None)


def grown(generation: int = 3, **more: Any) -> Record:
    """A record as it is after some refreshes."""
    return record(generation, entered_fingerprint=fingerprint(ENTERED), **more)


def write(kept: Record, writer: TokenStore) -> str:
    return writer.write(kept, if_version=writer.read().version)


# ------------------------------------------------------------------------------------------------ what is written


def test_nothing_that_is_written_shows_a_secret(supervisor):
    writer = store(**ALL)
    response = {"id_token": "an-id-token", "instance_url": "https://na1.example.com"}
    leased = write(grown(3, owner="me", response_parameters=response), writer)
    version = writer.write(grown(4, response_parameters=response), if_version=leased)
    dead = DeadGrant("mark", "invalid_grant", 1.0)
    writer.write(replace(grown(4, response_parameters=response), dead=dead), if_version=version)

    written = [message.value for message in supervisor.asked("PutVariable")]
    assert len(written) == 3
    for text in written:
        # As Airflow logs it, unmasked.
        for secret in (*ALL.values(), "access-secret", "refresh-secret", "an-id-token", "na1.example"):
            assert secret not in text
    assert store(**ALL).read().record == replace(grown(4, response_parameters=response), dead=dead)


def test_what_is_no_secret_can_be_read_by_people(supervisor):
    write(grown(3, owner="me", superseded=("a",), spent=("b",)), store(**ALL))

    shown = json.loads(supervisor.variables[NAME])
    assert shown["format"] == "sealed-1"
    assert shown["generation"] == 3
    assert shown["entered_fingerprint"] == fingerprint(ENTERED)
    assert shown["lease"]["owner"] == "me"
    assert (shown["superseded"], shown["spent"]) == (["a"], ["b"])
    assert set(shown["keys"]) == set(ALL)
    assert set(shown) - set(sealed_record._CLEAR) == {"format", "keys", "record"}


def test_the_key_is_another_at_each_write(supervisor):
    """Who had a secret that was changed since, and the logs of then, can open nothing of later."""
    writer = store(client_secret=SECRET)
    version = write(grown(3), writer)
    first = json.loads(supervisor.variables[NAME])
    writer.write(grown(4), if_version=version)
    second = json.loads(supervisor.variables[NAME])

    purpose = sealed_record._purpose("xero")
    assert sealing.unlock(second["record"], second["keys"], (("client_secret", SECRET),), purpose)
    with pytest.raises(sealing.DamagedError):
        sealing.unlock(second["record"], first["keys"], (("client_secret", SECRET),), purpose)


def test_without_any_secret_it_is_written_in_clear(supervisor):
    write(grown(3), store())
    assert supervisor.variables[NAME] == grown(3).to_json()
    assert store().read().record == grown(3)
    assert store().sealed_with == ()


# -------------------------------------------------------------------------------------------- who can open it


@pytest.mark.parametrize("name", list(ALL))
def test_each_secret_opens_it_by_itself(supervisor, name):
    write(grown(3), store(**ALL))
    others = {other: "changed" for other in ALL if other != name}

    assert store(**{**others, name: ALL[name]}).read().record == grown(3)
    assert store(**{name: ALL[name]}).read().record == grown(3)


@pytest.mark.parametrize("name", list(ALL))
def test_the_next_write_seals_for_the_secrets_of_then(supervisor, name):
    write(grown(3), store(**ALL))
    write(grown(4), store(**{**ALL, name: "changed"}))

    assert store(**{name: "changed"}, rotates=False).read().record == grown(4)
    assert store(**{name: ALL[name]}, rotates=False).read().record.refresh_token is None


def test_of_several_secrets_of_a_name_the_first_seals_and_all_open(supervisor):
    old, new = (
        ConnectionKeys((("fernet_key", "old"),)),
        ConnectionKeys((("fernet_key", "new"), ("fernet_key", "old"))),
    )
    write(grown(3), variable.open_store("xero", old, sleep=lambda _: None))
    write(grown(4), variable.open_store("xero", new, sleep=lambda _: None))

    assert store(fernet_key="new").read().record == grown(4)
    with pytest.raises(StoreNotWritable):
        variable.open_store("xero", old).read()


def test_what_is_sealed_for_one_connection_opens_for_no_other(supervisor):
    write(grown(3), store(**ALL))
    supervisor.variables["oauth2_token_record__other"] = supervisor.variables[NAME]

    with pytest.raises(StoreNotWritable, match="'other'"):
        store("other", **ALL).read()


# --------------------------------------------------------------------------------------- where nobody can open it


def test_a_public_client_begins_anew_with_the_token_that_was_entered(supervisor, caplog):
    write(grown(3, superseded=("older",), spent=("older",)), store(**ALL))
    again = store(refresh_token="new-token")

    with caplog.at_level(logging.WARNING):
        found = again.read()
        supervisor.variables[NAME] = "".join(supervisor.variables[NAME])  # the same text, as it comes anew
        again.read()
    assert len([line for line in caplog.messages if "'xero'" in line and "client_secret" in line]) == 1

    account = GrantConfiguration("xero", Client("id", "https://as/token"), entered=EnteredTokens("new-token"))
    begun = precedence.current(account, found.record)
    assert (begun.refresh_token, begun.access_token) == ("new-token", None)
    assert begun.entered_fingerprint == fingerprint("new-token")
    assert begun.generation == 3, "generations never go back"
    assert begun.superseded == ("older", fingerprint(ENTERED))

    again.write(begun, if_version=found.version)
    assert store(refresh_token="new-token").read().record == begun


def test_a_lease_is_kept_even_where_the_record_cannot_be_opened(supervisor):
    """Its holder still has the old secrets, and is in the middle of a refresh."""
    write(grown(3, owner="holder"), store(**ALL))
    assert store(refresh_token="new-token").read().record.lease.owner == "holder"


FOREIGN = {
    "keys of somebody else": {"client_secret": "theirs"},
    "all names, other secrets": dict.fromkeys(ALL, "theirs"),
    "a name that nobody knows": {"": "theirs"},
    "Airflow's key, another one": {"fernet_key": "theirs"},
}


@pytest.mark.parametrize("theirs", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(
    "own", [{"client_secret": SECRET}, {"private_key": PRIVATE}, ALL], ids=lambda own: "+".join(own)
)
@pytest.mark.parametrize("entered", ["theirs", None], ids=["says another token", "says none"])
def test_what_somebody_else_has_sealed_is_not_taken_for_no_record(supervisor, theirs, own, entered):
    """Whoever may edit variables would have the token spent again that was entered, and with it end the grant."""
    planted = record(99, entered_fingerprint=fingerprint(entered), response_parameters={"instance_url": "https://evil"})
    write(planted, store(**theirs))
    before = supervisor.variables[NAME]
    worker = store(**{**own, "refresh_token": ENTERED})

    with pytest.raises(StoreNotWritable) as failure:
        worker.read()
    assert "'xero'" in str(failure.value)
    assert "remove the variable" in str(failure.value)
    with pytest.raises(StaleVersion):
        worker.write(grown(1), if_version=None)
    assert supervisor.variables[NAME] == before


def test_a_worker_with_an_old_copy_never_brings_its_token_back(supervisor):
    """A public client has no secret beside the token that was entered: an old copy opens nothing."""
    new = replace(grown(4), entered_fingerprint=fingerprint("new-token"), superseded=(fingerprint(ENTERED),))
    write(new, store(refresh_token="new-token"))
    before = supervisor.variables[NAME]

    with pytest.raises(StoreUnavailable, match=r"oauth2_token_record__xero.*newer secrets.*'xero'"):
        store(refresh_token=ENTERED).read()
    assert supervisor.variables[NAME] == before
    assert store(refresh_token="new-token").read().record == new


def test_a_person_may_go_back_to_a_token_that_was_never_spent(supervisor):
    dead = replace(
        grown(4),
        entered_fingerprint=fingerprint("new-token"),
        superseded=(fingerprint(ENTERED),),
        spent=(fingerprint("new-token"),),
        dead=DeadGrant("mark", "invalid_grant", 1.0),
    )
    write(dead, store(refresh_token="new-token"))

    found = store(refresh_token=ENTERED).read().record
    account = GrantConfiguration("xero", Client("id", "https://as/token"), entered=EnteredTokens(ENTERED))
    assert precedence.current(account, found).refresh_token == ENTERED


@pytest.mark.parametrize(
    "left", [{"client_secret": "changed"}, {"client_secret": "changed", "refresh_token": ENTERED}, {}]
)
def test_where_no_other_token_was_entered_nothing_is_given_up(supervisor, left):
    """The token that was entered is as good as spent: to begin with it again would kill the grant."""
    write(grown(3), store(client_secret=SECRET, private_key=PRIVATE))
    before = supervisor.variables[NAME]

    with pytest.raises(StoreNotWritable) as failure:
        store(**left).read()
    for part in (NAME, "'xero'", "client_secret, private_key", "enter a new refresh token"):
        assert part in str(failure.value)
    assert "secret-3" not in str(failure.value)
    assert supervisor.variables[NAME] == before
    assert store(client_secret=SECRET).read().record == grown(3)


def test_a_grant_without_refresh_token_just_begins_anew(supervisor):
    kept = Record(generation=5, access_token="access-secret-5", expires_in=60.0)
    write(kept, store(client_secret=SECRET, rotates=False))

    again = store(client_secret="changed", rotates=False)
    found = again.read()
    assert found.record == Record(generation=5)
    again.write(replace(kept, generation=6), if_version=found.version)
    assert store(client_secret="changed", rotates=False).read().record.generation == 6


def test_what_could_not_be_opened_is_not_replaced_by_the_little_that_is_known_of_it(supervisor):
    """The doctor writes back what it has read."""
    write(grown(3), store(**ALL))
    examined = store(refresh_token="new-token")
    found = examined.read()

    assert examined.write(found.record, if_version=found.version) == found.version
    assert store(**ALL).read().record == grown(3)


def _with(**members: Any):
    return lambda text: json.dumps({**json.loads(text), **members})


def _changed(text: str) -> str:
    ciphertext = json.loads(text)["record"]
    return _with(record=ciphertext[:50] + ("A" if ciphertext[50] != "A" else "B") + ciphertext[51:])(text)


DAMAGES = {
    "changed": _changed,
    "cut": lambda text: _with(record=json.loads(text)["record"][:-40])(text),
    "no ciphertext": _with(record=None),
    "no text as ciphertext": _with(record="ü"),
    "no keys": _with(keys=None),
    "keys of another kind": _with(keys={"client_secret": 1}),
    "clear part": _with(lease="soon"),
    "cut off": lambda text: text[:-20],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_damaged_is_an_error_that_leaves_it_as_it_is(supervisor, damage):
    write(grown(3), store(**ALL))
    damaged = damage(supervisor.variables[NAME])
    supervisor.variables[NAME] = damaged

    # A newly entered token does not make damage good: a person has to look.
    for other in ({}, {"refresh_token": "new-token"}):
        with pytest.raises(StoreNotWritable) as failure:
            store(**{**ALL, **other}).read()
        assert NAME in str(failure.value)
        assert "'xero'" in str(failure.value)
        assert not any(secret in str(failure.value) for secret in (*ALL.values(), "secret-3"))
    assert supervisor.variables[NAME] == damaged


def test_what_opens_but_is_no_record_is_an_error(supervisor):
    ciphertext, wrapped = sealing.lock("[1]", (("client_secret", SECRET),), sealed_record._purpose("xero"))
    supervisor.variables[NAME] = json.dumps({"format": "sealed-1", "keys": wrapped, "record": ciphertext})
    with pytest.raises(StoreNotWritable, match="not of format 1"):
        store(client_secret=SECRET).read()


# -------------------------------------------------------------------------------------------- the same text


@pytest.mark.parametrize("owner", [None, "me"])
def test_a_write_whose_answer_was_lost_is_known_again(supervisor, owner):
    writer = store(**ALL)
    before = write(grown(3), writer)
    supervisor.fail = _lose_one_answer(supervisor)
    if owner is None:
        with pytest.raises(StoreUnavailable):
            writer.write(grown(4), if_version=before)
    else:
        writer.write(grown(4, owner=owner), if_version=before)  # a lease has to settle anyway
    found = supervisor.variables[NAME]
    writer.write(grown(4, owner=owner), if_version=before)
    assert writer.read().record == grown(4, owner=owner)
    assert supervisor.variables[NAME] == found


def _lose_one_answer(supervisor: Supervisor):
    lost: list[Any] = []

    def fail(message: Any) -> Any:
        if type(message).__name__ == "PutVariable" and not lost:
            lost.append(message)
            supervisor.variables[message.key] = message.value
            return EOFError()
        return None

    return fail


def test_a_record_that_is_written_back_as_it_was_read_stays_as_it_is(tmp_path, monkeypatch):
    """The doctor does, on the database, and no worker in the middle of a refresh should notice."""
    with database(tmp_path, monkeypatch):
        write(grown(3, owner="worker"), store(**ALL))
        examined = store(**ALL)
        found, before = examined.read(), variables.read_variable(NAME)

        assert examined.write(found.record, if_version=found.version) == found.version
        assert variables.read_variable(NAME) == before


@pytest.mark.parametrize(
    "now",
    [
        {"refresh_token": ENTERED, "client_secret": "changed"},
        {"refresh_token": ENTERED, "client_secret": "changed", "private_key": PRIVATE},
        {"refresh_token": ENTERED},
        {"refresh_token": ENTERED, "client_secret": SECRET, "private_key": PRIVATE, "fernet_key": "new"},
    ],
    ids=["less and other", "other", "less", "more"],
)
def test_a_record_that_is_written_back_is_sealed_for_the_secrets_of_now(supervisor, now):
    write(grown(3), store(**ALL))
    later = store(**now)
    found = later.read()
    assert later.write(found.record, if_version=found.version) != found.version
    assert set(later.sealed_with) == set(now)
    for name, secret in now.items():
        assert store(**{name: secret}, rotates=False).read().record == grown(3)


def test_what_others_have_written_since_is_what_is_read(supervisor):
    reader, texts = store(**ALL), []
    for generation in (3, 4):
        write(grown(generation), store(**ALL))
        texts.append(supervisor.variables[NAME])
        assert reader.read().record == grown(generation)
    supervisor.variables[NAME] = texts[0]  # somebody has restored a backup
    assert reader.read().record == grown(3)


# --------------------------------------------------------------------------------------------- of a connection


@pytest.mark.parametrize("grant", ["refresh_token", "client_credentials", "password"])
def test_a_connection_seals_with_what_nobody_can_guess(grant):
    """A password that seals something in a log could be guessed at leisure, and opens more than these tokens."""
    secrets = {"refresh_token": ENTERED, "private_key": PRIVATE, "user_password": "person's password"}
    extra = {"oauth_url": "https://as.example.com/token", "grant_type": grant, "username": "me", **secrets}
    parts = {"conn_type": "oauth2", "host": "https://api.example.com", "schema": None, "port": None}
    parts |= {"login": "id", "password": SECRET}

    found = read_settings("xero", SimpleNamespace(**parts, extra=json.dumps(extra))).keys
    assert dict(found.secrets) == ALL
    assert found.rotates == (grant == "refresh_token")
    assert found.entered == fingerprint(ENTERED)
    assert not any(secret in repr(found) for secret in ALL.values())


@pytest.mark.parametrize("key", ["", KEY.decode()], ids=["without Airflow's key", "with it"])
def test_the_doctor_says_where_nothing_seals(supervisor, monkeypatch, key):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
    extra = {"oauth_url": "https://as.example.com/token", "auth_method": "none", "store": "variable"}
    supervisor.connections["xero"] = {"conn_type": "oauth2", "login": "id", "extra": json.dumps(extra)}
    report = Report("xero")

    assert doctor.read_store(report, read_settings("xero", connections.get_connection("xero"))) is not None
    warnings = [
        finding for finding in report.findings if finding.level == "warn" and "[core] fernet_key" in finding.change
    ]
    assert len(warnings) == (0 if key else 1)


def test_no_secret_is_shown():
    held = ConnectionKeys((("client_secret", SECRET),), opening=(("private_key", PRIVATE),))
    read = sealed_record.UnsealedRecord(SECRET, grown(3))
    assert not any(secret in repr(shown) for shown in (held, read) for secret in (*ALL.values(), "secret-3"))
    for value, name in ((held, "rotates"), (read, "whole")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, False)
        assert not hasattr(value, "__dict__")
    assert (held.rotates, read.whole) == (True, True)


@pytest.mark.parametrize("name", ["client_secret", "fernet_key", "private_key", "refresh_token"])
def test_airflows_key_is_not_the_connections_own(name):
    assert keys(**{name: "x"}).are_its_own is (name != "fernet_key")
    assert ConnectionKeys(((anew(name), "x"),)).are_its_own is (name != "fernet_key")
    assert not ConnectionKeys().are_its_own


# ------------------------------------------------------------------------------------------- Airflow's own key


def test_airflows_key_opens_what_a_command_line_sign_in_left_after_the_client_secret_was_changed(
    supervisor, monkeypatch
):
    """Such a connection has no refresh token in it, only the client secret, which vendors let end every other year."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", KEY.decode())

    def opened(secret: str) -> Any:
        return open_store("xero", StoreOptions("variable"), keys=keys(client_secret=secret))

    opened(SECRET).write(grown(3), if_version=None)
    assert set(json.loads(supervisor.variables[NAME])["keys"]) == {"client_secret", "fernet_key"}
    assert opened("changed").read().record == grown(3)


def test_a_connection_without_any_secret_is_sealed_with_airflows_key(supervisor, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", f"{KEY.decode()},{KEY.decode()[::-1]}")
    opened = open_store("xero", StoreOptions("variable"))
    opened.write(grown(3), if_version=None)
    assert "secret-3" not in supervisor.variables[NAME]
    assert opened.read().record == grown(3)


def test_the_command_line_does_not_seal_with_airflows_key_alone(tmp_path, monkeypatch):
    """It has that key always, tasks of Airflow 3 only where somebody gave it to them."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", KEY.decode())
    with database(tmp_path, monkeypatch):
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", list)
        signed_in = open_store("xero", StoreOptions("variable"))
        signed_in.write(grown(3), if_version=None)
        text = variables.read_variable(NAME)
        assert sealed_record.unseal(text, ConnectionKeys(), "xero", "here").record == grown(3)

        sealed_by_a_task = sealed_record.seal(grown(4), ConnectionKeys((("fernet_key", KEY.decode()),)), "xero")
        variables.write_variable(NAME, sealed_by_a_task, "as a task leaves it")
        found = signed_in.read()
        assert found.record == grown(4)
        signed_in.write(found.record, if_version=found.version)
        assert variables.read_variable(NAME) == sealed_by_a_task


@pytest.mark.parametrize(
    ("secrets", "warned"),
    [
        ({"client_secret": SECRET}, True),
        ({"private_key": PRIVATE}, True),
        ({"fernet_key": "F"}, False),
        ({"client_secret": SECRET, "fernet_key": "F"}, False),
        ({}, False),
    ],
)
def test_what_a_renewed_secret_would_lock_up_is_told_before(supervisor, secrets, warned):
    write(grown(3), store(**secrets))
    reader = store(**secrets)
    reader.read()
    assert reader.sealed_with == tuple(secrets)
    report = Report("xero")
    doctor.warn_of_one_key(report, reader)
    assert [finding.level for finding in report.findings] == ["warn"] * warned


def test_the_command_line_adds_airflows_key_to_the_connections_own(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", KEY.decode())
    with database(tmp_path, monkeypatch):
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", list)
        open_store("xero", StoreOptions("variable"), keys=keys(client_secret=SECRET)).write(grown(3), if_version=None)
        assert set(json.loads(variables.read_variable(NAME))["keys"]) == {"client_secret", "fernet_key"}


@pytest.mark.parametrize("text", ["", "{FERNET_KEY}", "short", "a" * 44 + "=", "ü"])
def test_what_stands_where_a_key_should_is_none(supervisor, monkeypatch, text):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", text)
    assert deployment.fernet_keys() == []
    deployment.fernet_keys.cache_clear()
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", f"{text}, {KEY.decode()}")
    assert deployment.fernet_keys() == [KEY.decode()]


def test_a_key_that_cannot_be_had_is_none(supervisor, monkeypatch):
    monkeypatch.delenv("AIRFLOW__CORE__FERNET_KEY", raising=False)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY_CMD", "false")
    assert deployment.fernet_keys() == []
