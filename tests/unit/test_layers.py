"""Imports point downwards only: from what Airflow sees to the protocol, never back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_oauth_provider

ROOT = Path(airflow_oauth_provider.__file__).parent
PACKAGE = "airflow_oauth_provider"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

#: From the lowest layer to the highest, by the names in the package's folder.
LAYERS = (
    {"__init__", "exceptions"},
    {"oauth2"},
    {"compat"},
    {"tokens"},
    {"stores"},
    {"connection"},
    {"http"},
    {"auth", "pagination", "doctor"},
    {"hooks", "links"},
    {"api_server", "cli", "notifications", "operators", "sensors", "transfers", "triggers", "get_provider_info"},
    {"__main__"},
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}


#: What stands below everything, the exceptions included, though its folder does not: where Airflow has its classes.
FOUNDATION = {"compat.sdk"}


def top(module: str) -> str:
    """The file or folder of the package in which ``module`` is."""
    return module.partition("/")[0].removesuffix(".py")


def imported(module: str) -> set[str]:
    """The modules that ``module`` imports anywhere in it, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(module: str) -> set[str]:
    """The file or folder of the package of everything that ``module`` imports of it."""
    names = {name.removeprefix(f"{PACKAGE}.") for name in imported(module) if name.startswith(f"{PACKAGE}.")}
    names = {name for name in names if ".".join(name.split(".")[:2]) not in FOUNDATION and name != "compat"}
    # Not only modules are imported of the package: it has a version, too.
    return {name.partition(".")[0] for name in names} & HEIGHT.keys()


def of_airflow(module: str) -> list[str]:
    return [name for name in imported(module) if name.partition(".")[0] == "airflow"]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    assert not {name for name in own(module) if HEIGHT[name] > HEIGHT[top(module)]}


@pytest.mark.parametrize("module", sorted(FOUNDATION))
def test_the_foundation_imports_nothing_above_it(module):
    names = {name for name in imported(f"{module.replace('.', '/')}.py") if name.startswith(f"{PACKAGE}.")}
    assert {name.removeprefix(f"{PACKAGE}.").rpartition(".")[0] for name in names} <= FOUNDATION | {"compat"}


#: Where Airflow has moved names between the versions that this package supports.
MOVING = ("airflow.sdk", "airflow.exceptions", "airflow.configuration", "airflow.providers.common.compat", "airflow.io")


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) != "compat"])
def test_only_compat_knows_where_airflow_has_a_name(module):
    assert not [name for name in of_airflow(module) if name.startswith(MOVING)]


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) in ("oauth2", "tokens")])
def test_protocol_and_life_cycle_know_nothing_of_airflow(module):
    """Airflow's own classes come in by the exceptions only, whose base Airflow has to know."""
    assert not of_airflow(module)


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) == "oauth2"])
def test_the_protocol_knows_nothing_of_the_rest(module):
    assert own(module) <= {"oauth2"}


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
    assert users_of("oauth2.grants.parameters", "tokens.callbacks.request_token") == {"tokens/refresh.py"}
    assert users_of("the grant, spelled out") == {
        "oauth2/grants.py",
        "oauth2/token_endpoint.py",  # only compares with it, since some servers refresh at a URL of its own
        "doctor/servers.py",  # makes its refresh token up, and takes none
    }


def test_who_else_sends_token_requests_redeems_a_sign_in():
    senders = {"tokens/manager.py"}  # which hands it on to the refresh
    sign_ins = {"connection/sign_in.py", "oauth2/device.py"}
    checks = {"doctor/servers.py"}
    assert users_of("oauth2.token_endpoint.request_token") == senders | sign_ins | checks
