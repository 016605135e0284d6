"""A first look at the interleavings of the refresh protocol; ``tests/exploration`` has the long one."""

from __future__ import annotations

import pytest

from tests.unit.model import Setting, explore


@pytest.mark.parametrize("setting", [Setting(), Setting(grace=None), Setting(one_machine=True)], ids=repr)
def test_each_fault_at_each_step(setting):
    assert explore(setting, 1) > 50


def test_whatever_the_order_one_refresh_serves_all():
    assert explore(Setting(), 3, frozenset({"yield"})) > 20
