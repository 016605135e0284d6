"""Processes that are killed by SIGKILL at each step of a refresh, with a real store and a real HTTP server.

The outcomes are the table in ``docs/guarantees.md``; ``OAUTH2_WRITE_DOCS=1`` writes what was measured into it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from airflow_oauth_provider.stores import vault
from airflow_oauth_provider.stores.backend import StoreOptions
from tests.integration.crashes import GOES_ON, SAYS_SO, STEPS, measure, send_half

#: Between the server's rotation and the write.
IN_THE_WINDOW = STEPS[2:5]
EXPECTED = [[step, GOES_ON, SAYS_SO if step in IN_THE_WINDOW else GOES_ON] for step in STEPS]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- crash table -->", "<!-- end of crash table -->"


@pytest.fixture
def measured(openbao, monkeypatch):
    extra = {"use_tls": False, "kv_engine_version": 2, "auth_type": "token"}
    bao = {
        "conn_type": "vault", "host": "127.0.0.1", "port": openbao.port, "schema": "secret",
        "password": openbao.root_token, "extra": extra,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_BAO", json.dumps(bao))
    return measure(
        lambda conn_id: vault.open_store(
            conn_id, StoreOptions("vault", vault_conn_id="bao", vault_path=f"crashes/{conn_id}")
        ),
        send_half,
    )


HEAD = ("Killed", "Server with a grace period", "Server without one", "On the same machine", "On another machine")


def as_table(rows) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join("|" + "|".join(f" {cell} " if cell != "---" else cell for cell in line) + "|" for line in lines)


def outcomes(rows):
    """Without the times, which depend on the machine."""
    return [row[:3] for row in rows]


def test_the_table_in_the_docs_is_what_happens(measured):
    assert outcomes(measured) == EXPECTED
    text = DOCS.read_text()
    if os.environ.get("OAUTH2_WRITE_DOCS"):
        text = re.sub(f"{BEGIN}.*{END}", f"{BEGIN}\n{as_table(measured)}\n{END}", text, flags=re.DOTALL)
        DOCS.write_text(text)
    table = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")][:3] for line in table[2:]] == EXPECTED


def test_it_is_the_same_in_the_database_of_airflow_2(airflow_2_database):
    printed = airflow_2_database.run("-m", "tests.integration.crashes")
    assert outcomes(json.loads(printed.splitlines()[-1])) == EXPECTED
