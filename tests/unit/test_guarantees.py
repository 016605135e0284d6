"""Every test that docs/guarantees.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "guarantees.md"


def test_every_test_that_the_page_names_is_there():
    named = [part for quoted in re.findall(r"`([^`\n]+)`", PAGE.read_text()) for part in re.split(r"::|\s", quoted)]
    files = {path.name for path in TESTS.rglob("test_*.py")}
    text = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    found = set(re.findall(r"^(?:class|    def|def|    async def|async def) (\w+)", text, flags=re.MULTILINE))
    modules = {part.rpartition("/")[2] for part in named if part.endswith(".py")}
    tests = {part for part in named if re.fullmatch(r"test_\w+|Test[A-Z]\w+", part)}
    assert len(modules) > 5
    assert len(tests) > 20
    assert modules - files == set()
    assert tests - found == set()
