"""Every code block of the README and the docs runs, and every link leads somewhere."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_oauth_provider.connection import notices
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.doctor.grants import GRANTS_TO_SIGN_IN
from scripts import generate_connection_docs

METRICS = {
    *notices.COUNTERS.values(),
    *notices.TIMERS.values(),
    *notices.GAUGES.values(),
    GRANTS_TO_SIGN_IN,
}
ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(*languages):
    for page in PAGES:
        for number, (indent, language, code) in enumerate(BLOCK.findall(page.read_text())):
            if language in languages:
                text = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
                yield pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code):
    assert "airflow.sdk" not in code, "Airflow 2.11 has no such package"
    exec(compile(code, "<docs>", "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("code", blocks("json"))
def test_json(code):
    members = json.loads(code)
    if members.get("conn_type") == "oauth2":
        fields = {name: members.get(name) for name in ("conn_type", "host", "schema", "port", "login", "password")}
        extra = json.dumps(members.get("extra", {}))
        settings = read_settings("docs", SimpleNamespace(**fields, extra=extra))
        kept = {"client_id": "kept", "client_secret": "kept"}
        assert settings.grant_configuration(kept).client.client_id


@pytest.mark.parametrize("code", blocks("yaml"))
def test_yaml(code):
    import yaml

    for group in yaml.safe_load(code)["groups"]:
        for rule in group["rules"]:
            (metric,) = re.findall(r"airflow_(oauth2_\w+)", rule["expr"])
            assert metric.replace("oauth2_", "oauth2.", 1) in METRICS


@pytest.mark.parametrize("code", blocks("sh"))
def test_shell(code):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in filter(None, (line.partition("#")[0].strip() for line in code.splitlines())):
        program, *words = shlex.split(line)
        if program == "airflow":
            from airflow.cli.cli_parser import get_parser

            get_parser().parse_args(words)
        else:
            assert program == "make", f"a test has to know how to check {line!r}"
            assert words[0] in targets


def test_every_block_is_of_a_language_that_is_tested():
    for page in PAGES:
        for _, language, _ in BLOCK.findall(page.read_text()):
            assert language in ("python", "json", "sh", "text", "ini", "yaml"), f"{page.name}: {language!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_metric_is_listed():
    text = (ROOT / "docs" / "sign-in.md").read_text()
    assert [name for name in METRICS if f"`{name}`" not in text] == []


def test_the_page_of_keys_is_the_table_of_fields():
    assert generate_connection_docs.PAGE.read_text() == generate_connection_docs.render()


@pytest.mark.parametrize(
    ("key", "title", "values", "unset"),
    [
        ("leeway", "Refresh early by (seconds)", "number (seconds), at least 0", "`60`"),
        ("refresh_idle_days", "no", "number (days), at least 1", "unknown"),
        ("scope", "Scope", "string", "what was granted at sign-in"),
        ("stream", "no", "boolean", "`false`"),
    ],
)
def test_a_key_says_its_unit_its_bounds_and_what_holds_without_it(key, title, values, unset):
    (row,) = [
        line for line in generate_connection_docs.PAGE.read_text().splitlines() if line.startswith(f"| `{key}` | ")
    ]
    cells = row.strip("| ").split(" | ")
    assert (cells[1], cells[3], cells[4]) == (title, values, unset)
