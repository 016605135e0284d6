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


def used(module: str) -> set[str]:
    """What ``module`` names of this package, as a path below it: ``oauth2.grants.parameters``."""
    tree = ast.parse((ROOT / module).read_text())
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{PACKAGE}."):
            below = f"{node.module}.".removeprefix(f"{PACKAGE}.")
            known |= {alias.asname or alias.name: f"{below}{alias.name}" for alias in node.names}
    found = {known[node.id] for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in known}
    found |= {
        f"{known[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known
    }
    if any(isinstance(node, ast.Tuple) and _spells_the_grant(node) for node in ast.walk(tree)):
        found.add("the grant, spelled out")
    return found


def _spells_the_grant(node: ast.Tuple) -> bool:
    return [getattr(part, "value", None) for part in node.elts] == ["grant_type", "refresh_token"]


def users_of(*names: str) -> set[str]:
    return {module for module in MODULES if used(module) & set(names)}


def test_one_place_spends():
    """Only the refresh makes a token request of a refresh token, or hands one to a callback that does."""
    assert users_of("oauth2.grants.parameters", "oauth2.grants.refresh_token", "callbacks.request_token") == {
        "refresh.py"
    }
    # The latter only compares with it, since some servers refresh at a URL of its own.
    assert users_of("the grant, spelled out") == {"oauth2/grants.py", "oauth2/token_endpoint.py"}


def test_who_else_sends_token_requests_redeems_a_sign_in():
    senders = {"manager.py"}  # which hands it on to the refresh
    sign_ins = {"cli/authorize.py", "oauth2/device.py"}
    assert users_of("oauth2.token_endpoint.request_token") == senders | sign_ins
