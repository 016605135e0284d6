"""Tokens in the fallback store are found by whoever shares the record, and what does not open stops the next spend."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_oauth_provider.exceptions import StoreNotWritable
from airflow_oauth_provider.stores.fallback import FallbackChain, PathFallback
from airflow_oauth_provider.tokens import sealing
from tests.unit.fakes import Faults, World


def _rescued() -> tuple[World, str]:
    """Return a world whose newest tokens are in the fallback store, and the refresh token that was spent."""
    world = World()
    spent = world.connection.configuration.entered.refresh_token or ""
    seam = Faults(store_write=[None])
    seam.always["store.write"] = "fail"
    world.worker(seam)[0].access_token()
    assert world.kept
    return world, spent


def test_another_connection_with_the_same_record_finds_them():
    """Two hosts of one API, say, with one sign-in and one path in Vault."""
    world, _ = _rescued()
    world.connection.configuration = replace(world.connection.configuration, conn_id="xero_payroll")
    assert world.server.is_good(world.worker()[0].access_token())
    assert (world.server.refreshes, world.server.reuses) == (1, 0)
    assert not world.kept


def _cut_off(world: World, _spent: str) -> str:
    return next(iter(world.kept.values()))[:-7]


def _of_a_later_format(world: World, spent: str) -> str:
    opened = sealing.unseal(next(iter(world.kept.values())), spent)
    assert opened is not None
    later = json.loads(opened.to_json()) | {"format": 2}
    return sealing.cipher(spent, sealing._FALLBACK_PURPOSE).encrypt(json.dumps(later).encode()).decode()


def _emptied(_world: World, _spent: str) -> str:
    return ""


@pytest.mark.parametrize("damage", [_cut_off, _of_a_later_format, _emptied])
def test_an_entry_that_does_not_open_stops_the_spend(damage):
    world, spent = _rescued()
    place = next(iter(world.kept))
    whole = world.kept[place]
    world.kept[place] = damage(world, spent)

    with pytest.raises(StoreNotWritable, match=rf"'xero'.*'{place}'.*enter a new refresh token"):
        world.worker()[0].access_token()
    assert (world.server.refreshes, world.server.reuses) == (1, 0)

    world.kept[place] = whole
    assert world.server.is_good(world.worker()[0].access_token())
    assert (world.server.refreshes, world.server.reuses) == (1, 0)


def test_after_a_new_sign_in_it_is_in_nobodys_way():
    world, _ = _rescued()
    world.kept = dict.fromkeys(world.kept, "junk")
    world.sign_in_again()
    assert world.server.is_good(world.worker()[0].access_token())


class Broken:
    """Fails in a way that is none of this package's."""

    def save(self, key: str, ciphertext: str) -> None:
        raise AttributeError("'NoneType' object has no attribute 'encrypt'")

    def load(self, key: str) -> str | None:
        return None

    def remove(self, key: str) -> None:
        raise AttributeError


def test_tokens_get_into_the_folder_where_variables_are_broken(tmp_path):
    world = World()
    chain = FallbackChain([Broken(), PathFallback(str(tmp_path))])
    seam = Faults(store_write=[None])
    seam.always["store.write"] = "fail"
    manager, _ = world.worker(seam)
    manager._persistence._fallback = chain
    assert world.server.is_good(manager.access_token())
    assert [path.name.startswith("oauth2_token_fallback__1_") for path in tmp_path.iterdir()] == [True]

    other, _ = world.worker()
    other._persistence._fallback = chain
    assert world.server.is_good(other.access_token())
    assert (world.server.refreshes, world.server.reuses) == (1, 0)
