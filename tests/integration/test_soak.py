"""A short soak; ``make soak`` runs long ones, on every store."""

from __future__ import annotations

import pytest

from benchmarks.soak import STORES, soak


@pytest.mark.parametrize("store", ["vault", "connection (2.11, ORM)"])
def test_eight_processes_and_ten_expiries(store):
    assert store in STORES
    result = soak(store, processes=8, expiries=10, limit=300)
    assert result.failures == []
    assert result.reuses == 0
    assert result.alive
    assert result.expiries >= 10
    assert result.calls > result.refreshes
