"""Imports point downwards only: protocol, stores, refresh, and what Airflow sees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_oauth_provider

ROOT = Path(airflow_oauth_provider.__file__).parent
PACKAGE = "airflow_oauth_provider"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

#: What the refresh protocol is made of, and the values that it shares with the stores.
REFRESH = {
    "refresh", "manager", "safekeeping", "leases", "lineage", "in_hand", "freshness", "outcome", "pauses", "account",
    "clock", "advice", "uninterruptible",
}  # fmt: skip
SURFACES = {"hooks", "operators", "sensors", "triggers", "auth", "session", "cli", "plugin", "plugins"}


def imported(module: str) -> set[str]:
    """The modules that ``module`` imports anywhere in it, in this package by their name below it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(module: str) -> set[str]:
    """The first name below the package of everything that ``module`` imports of it."""
    names = {name.removeprefix(f"{PACKAGE}.") for name in imported(module) if name.startswith(f"{PACKAGE}.")}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("oauth2/")])
def test_the_protocol_knows_nothing_of_airflow_or_of_the_rest(module):
    assert not [name for name in imported(module) if name.partition(".")[0] == "airflow"]
    assert own(module) <= {"oauth2"}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("stores/")])
def test_stores_are_below_the_refresh(module):
    assert not own(module) & ((REFRESH | SURFACES) - {"account"})


@pytest.mark.parametrize("name", sorted(REFRESH))
def test_the_refresh_is_below_what_airflow_sees(name):
    assert not own(f"{name}.py") & SURFACES
    # Airflow's own classes come in by the exceptions only, whose base Airflow has to know.
    assert not [found for found in imported(f"{name}.py") if found.partition(".")[0] == "airflow"]


def test_one_place_spends():
    """Nothing but the refresh and its manager hands a refresh token to the token endpoint."""
    spenders = {name for name in MODULES if f"{PACKAGE}.oauth2.grants.refresh_token" in imported(name)}
    spenders |= {name for name in MODULES if "grants.refresh_token(" in (ROOT / name).read_text()}
    assert spenders <= {"refresh.py", "oauth2/grants.py", "account.py"}
