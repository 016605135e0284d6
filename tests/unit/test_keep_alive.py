"""The example DAG that uses refresh tokens before they die unused."""

from __future__ import annotations

import pytest

from example_dags import keep_alive
from tests.unit.fakes import World


@pytest.fixture
def refresh(monkeypatch):
    """The DAG's task on a connection of a world in memory."""
    world = World(lifetime=1800.0)

    class Hook:
        def __init__(self, conn_id):
            self.manager, _ = world.worker()

        def refresh(self, force):
            from airflow_oauth_provider.tokens.decision import TokenRequirements

            return self.manager.obtain(TokenRequirements(force=force)).status

    monkeypatch.setattr(keep_alive, "OAuth2Hook", Hook)
    return world, keep_alive.refresh.function


def test_it_maps_over_the_list_once_a_week():
    dag = keep_alive.keep_alive()
    assert dag.get_task("refresh").is_mapped
    assert "weekly" in str(dag.schedule)


def test_an_unused_connection_is_refreshed_and_one_used_lately_is_left_alone(refresh):
    world, task = refresh
    for week in range(1, 4):
        assert task("demo")["generation"] == week
        assert task("demo")["action"] == "reused"
        world.pass_time(7 * 86400.0)
    assert world.server.refreshes == 3
