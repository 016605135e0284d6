"""Tokens that their store did not take: encrypted with what only its readers know, and found again."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_oauth_provider.exceptions import StoreUnavailable
from airflow_oauth_provider.stores.fallback import FallbackChain, PathFallback, VariableFallback, open_fallback
from airflow_oauth_provider.tokens.record import Record
from airflow_oauth_provider.tokens.sealing import fallback_key, seal, unseal
from tests.unit.store_fakes import put_in_task, record, server_error

SPENT = "refresh-secret-1"


@given(st.text(min_size=1), st.text(min_size=1))
def test_only_the_spent_token_opens(spent, other):
    sealed = seal(record(2), spent)
    assert unseal(sealed, spent) == record(2)
    if other != spent:
        assert unseal(sealed, other) is None
    assert "secret" not in sealed


def test_the_same_record_is_sealed_differently_each_time():
    assert seal(record(2), SPENT) != seal(record(2), SPENT)


@pytest.mark.parametrize("text", ["", "junk", "ü", "gAAAAA=="])
def test_what_is_not_sealed_is_not_opened(text):
    assert unseal(text, SPENT) is None


def test_a_change_of_one_character_is_noticed():
    sealed = seal(record(2), SPENT)
    assert unseal(sealed[:40] + ("A" if sealed[40] != "A" else "B") + sealed[41:], SPENT) is None


def test_what_opens_but_is_no_record_is_none():
    from airflow_oauth_provider.tokens.sealing import _FALLBACK_PURPOSE, cipher

    assert unseal(cipher(SPENT, _FALLBACK_PURPOSE).encrypt(b"[1]").decode(), SPENT) is None


def test_without_a_spent_token_nothing_is_sealed():
    with pytest.raises(StoreUnavailable):
        seal(record(2), "")
    assert unseal(seal(record(2), SPENT), "") is None


def test_keys_tell_generations_and_sign_ins_apart():
    keys = {fallback_key(n, spent) for n in (1, 11) for spent in (SPENT, "other")}
    assert len(keys) == 4
    assert not [key for key in keys if SPENT in key]
    assert all(key.startswith("oauth2_token_fallback__") and len(key) <= 250 and "/" not in key for key in keys)


# ------------------------------------------------------------------------------------------------------ files


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "deep" / "fallback"


def test_a_file_is_kept_read_and_removed(folder):
    store = PathFallback(str(folder))
    assert store.load("key") is None
    store.save("key", "one")
    store.save("key", "two")
    assert store.load("key") == "two"
    store.remove("key")
    store.remove("key")
    assert store.load("key") is None


def test_only_the_owner_can_read_it(folder):
    before = os.umask(0)
    try:
        PathFallback(str(folder)).save("key", "one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_is_whole_or_not_there(folder, monkeypatch):
    store = PathFallback(str(folder))
    store.save("key", "one")

    def full(_handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable):
        store.save("key", "two")
    assert store.load("key") == "one"
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_readers_never_see_half_a_file(folder):
    store = PathFallback(str(folder))
    texts = ["a" * 100_000, "b" * 100_000]
    store.save("key", texts[0])
    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(store.load("key") or "")

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(50):
        store.save("key", texts[number % 2])
    stop.set()
    reader.join()
    assert seen <= set(texts)


def test_a_folder_that_cannot_be_used_is_said_and_not_empty(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    store = PathFallback(str(blocked))
    for call in (lambda: store.save("key", "secret"), lambda: store.load("key"), lambda: store.remove("key")):
        with pytest.raises(StoreUnavailable) as failure:
            call()
        assert "secret" not in str(failure.value)


def test_the_default_folder_is_below_airflow_home(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    PathFallback().save("key", "one")
    assert (tmp_path / "oauth2_fallback" / "key").read_text() == "one"


def test_the_folder_can_be_configured(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OAUTH2__FALLBACK_PATH", f"file://{tmp_path}/configured")
    PathFallback().save("key", "one")
    assert (tmp_path / "configured" / "key").read_text() == "one"


def test_object_storage_is_used_by_url(monkeypatch):
    store = PathFallback("memory://fallback-test")
    assert store.load("key") is None
    store.save("key", "one")
    assert PathFallback("memory://fallback-test").load("key") == "one"
    store.remove("key")
    store.remove("key")
    assert store.load("key") is None


# ---------------------------------------------------------------------------------------------------- variables


def test_a_variable_is_kept_read_and_removed(monkeypatch):
    supervisor = put_in_task(monkeypatch)
    store = VariableFallback()
    assert store.load("key") is None
    store.save("key", "one")
    assert store.load("key") == "one"
    store.remove("key")
    store.remove("key")
    assert store.load("key") is None
    supervisor.fail = lambda _message: server_error()
    for call in (lambda: store.save("key", "one"), lambda: store.load("key"), lambda: store.remove("key")):
        with pytest.raises(StoreUnavailable):
            call()


# -------------------------------------------------------------------------------------------------------- chain


class Memory:
    """A fallback store that can be away."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.away = False

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("away")

    def save(self, key: str, ciphertext: str) -> None:
        self._check()
        self.kept[key] = ciphertext

    def load(self, key: str) -> str | None:
        self._check()
        return self.kept.get(key)

    def remove(self, key: str) -> None:
        self._check()
        self.kept.pop(key, None)


@pytest.fixture
def stores() -> tuple[Memory, Memory]:
    return Memory(), Memory()


def test_the_first_that_works_keeps(stores):
    chain = FallbackChain(stores)
    chain.save("a", "1")
    stores[0].away = True
    chain.save("b", "2")
    assert [store.kept for store in stores] == [{"a": "1"}, {"b": "2"}]


def test_all_are_looked_into(stores):
    stores[0].kept["a"], stores[1].kept["b"] = "1", "2"
    chain = FallbackChain(stores)
    assert [chain.load(key) for key in "abc"] == ["1", "2", None]


def test_one_that_does_not_answer_may_have_it(stores):
    stores[0].away = True
    stores[1].kept["b"] = "2"
    chain = FallbackChain(stores)
    assert chain.load("b") == "2"
    with pytest.raises(StoreUnavailable):
        chain.load("a")


def test_it_is_removed_everywhere(stores):
    for store in stores:
        store.kept["a"] = "1"
    chain = FallbackChain(stores)
    stores[0].away = True
    with pytest.raises(StoreUnavailable):
        chain.remove("a")
    assert stores[1].kept == {}
    stores[0].away = False
    chain.remove("a")
    assert stores[0].kept == {}


@pytest.mark.parametrize("trouble", [AttributeError("no ciphertext here"), ValueError("ciphertext"), KeyError("a")])
def test_whatever_ails_one_of_them_the_others_are_tried(stores, trouble):
    def fail(*_arguments: str) -> str:
        raise trouble

    broken = Memory()
    broken.save, broken.load, broken.remove = fail, fail, fail
    chain = FallbackChain([broken, *stores])
    chain.save("a", "ciphertext")
    assert stores[0].kept == {"a": "ciphertext"}
    assert chain.load("a") == "ciphertext"
    for call in (lambda: chain.load("b"), lambda: chain.remove("a"), lambda: FallbackChain([broken]).save("a", "1")):
        with pytest.raises(StoreUnavailable, match=type(trouble).__name__) as failure:
            call()
        assert "ciphertext" not in str(failure.value)
    assert stores[0].kept == {}


def test_where_none_works_it_is_said_without_what_was_to_be_kept(stores):
    for store in stores:
        store.away = True
    with pytest.raises(StoreUnavailable, match=r"Memory: away.*Memory: away") as failure:
        FallbackChain(stores).save("a", "ciphertext")
    assert "ciphertext" not in str(failure.value)


def test_a_sealed_record_is_json_of_all_its_members():
    full = Record(
        generation=3, superseded=("a",), response_parameters={"id_token": "x"}, refresh_token="r", expires_in=1.5
    )
    assert unseal(seal(full, SPENT), SPENT) == full
    assert json.loads(full.to_json())["format"] == 1


@pytest.mark.parametrize(
    ("multi_team", "kinds"), [("True", [PathFallback]), ("False", [VariableFallback, PathFallback])]
)
def test_teams_have_no_fallback_in_a_variable_that_others_do_not_see(monkeypatch, multi_team, kinds):
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", multi_team)
    assert [type(place) for place in open_fallback()._stores] == kinds
