"""Every test that docs/guarantees.md and docs/trust.md name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
DOCS = TESTS.parent / "docs"


@pytest.mark.parametrize(("page", "modules_at_least", "tests_at_least"), [("guarantees", 5, 20), ("trust", 8, 20)])
def test_every_test_that_the_page_names_is_there(page, modules_at_least, tests_at_least):
    text = (DOCS / f"{page}.md").read_text()
    named = [part for quoted in re.findall(r"`([^`\n]+)`", text) for part in re.split(r"::|\s", quoted)]
    files = {path.name for path in TESTS.rglob("test_*.py")}
    text = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    found = set(re.findall(r"^(?:class|    def|def|    async def|async def) (\w+)", text, flags=re.MULTILINE))
    modules = {part.rpartition("/")[2] for part in named if part.endswith(".py")}
    tests = {part for part in named if re.fullmatch(r"test_\w+|Test[A-Z]\w+", part)}
    assert len(modules) > modules_at_least
    assert len(tests) > tests_at_least
    assert modules - files == set()
    assert tests - found == set()


@pytest.mark.parametrize(
    ("heading", "at_least"), [("Who is trusted with what", 15), ("What each key of a connection may name", 8)]
)
def test_each_line_of_the_trust_model_has_its_test(heading, at_least):
    page = (DOCS / "trust.md").read_text()
    table = page.partition(f"## {heading}")[2].partition("## ")[0]
    rows = [line.strip("| \n").split(" | ") for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > at_least
    for row in rows:
        paths = [part.partition("::")[0] for part in re.findall(r"`([^`]+)`", row[-1])]
        assert paths, row
        assert all((TESTS / path).is_file() for path in paths), row


def test_the_security_policy_leads_to_the_trust_model():
    assert "docs/trust.md" in (TESTS.parent / "SECURITY.md").read_text()
    assert "(trust.md)" in (DOCS / "security.md").read_text()
