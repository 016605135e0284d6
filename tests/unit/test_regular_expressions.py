"""No regular expression of the package takes more time than in proportion to its text, whatever that is.

Python counts no steps, so processor time of a text is compared with that of one that is eight times as long. A
quadratic expression takes 64 times as long, a linear one 8 times; in between there is room for a loaded machine.
"""

from __future__ import annotations

import importlib
import re
import time

import pytest

import airflow_oauth_provider
from airflow_oauth_provider.http.errors import api_error, failure_text, show_target
from airflow_oauth_provider.oauth2 import redaction
from tests.unit.test_http_refusals import answered
from tests.unit.test_layers import MODULES, ROOT

SHORT, LONG = 1_000, 8_000
#: A quadratic expression takes 64 times as long for a text that is 8 times as long, a linear one 8 times.
MOST = 24
#: Seconds of processor time within which a long text is no trouble, whatever the ratio.
FAST = 0.004

PIECES = [
    '"', "'", "<", "a", "a-", "a_", "aA", '"a":"', '"a":"\\', " ", "a(", "(", "object at 0x", "\\", '\\"', "%41",
    "&#65;", "token=", "token:", "token: bearer ", "a=", "&", "A1", "Aa1+", "1", ".", "a.", "[", "$.", "$[", "{a}", "{",
    ",", ";", "/", "://", "@", ":", "0", "\n", "\t", "é", "\u202e", "bearer ", "<a object at 0x", "\\u0041", "a token ",
]  # fmt: skip
SURROUNDINGS = [("", ""), ("", "!"), ('"', "\0")]

WAYS = {
    "match": lambda pattern: pattern.match,
    "fullmatch": lambda pattern: pattern.fullmatch,
    "search": lambda pattern: pattern.search,
    "findall": lambda pattern: pattern.findall,
    "finditer": lambda pattern: pattern.findall,
    "split": lambda pattern: pattern.split,
    "sub": lambda pattern: lambda text: pattern.sub("", text),
}


def patterns():
    """Each expression of the package, and the ways in which its module uses it."""
    found = {}
    for module in MODULES:
        name = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        if name == "__main__":
            continue
        code = (ROOT / module).read_text()
        loaded = importlib.import_module(f"{airflow_oauth_provider.__name__}.{name}".removesuffix(".__init__"))
        for variable, value in vars(loaded).items():
            for pattern in _patterns_in(value):
                # Also where the module hands it to a function of its own, which calls it "pattern".
                used = re.findall(rf"\b(?:{re.escape(variable)}(?:\[\w+\])?|pattern)\.({'|'.join(WAYS)})\b", code)
                _, ways = found.get(f"{module}:{variable}", (pattern, set()))
                found[f"{module}:{variable}"] = pattern, ways | {"match", "fullmatch", *used}
    return found


def _patterns_in(value):
    owner = getattr(value, "__self__", None)  # re.compile(…).fullmatch
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(owner, re.Pattern):
        yield owner
    elif isinstance(value, dict):
        for member in value.values():
            yield from _patterns_in(member)
    elif isinstance(value, tuple | list | frozenset):
        for member in value:
            yield from _patterns_in(member)


FOUND = patterns()


def cost(function, text):
    """The least processor time of some calls: what else the machine does makes it only longer."""
    times = []
    for _ in range(3):
        began = time.process_time()
        function(text)
        times.append(time.process_time() - began)
        if times[-1] < FAST / 8:
            break
    return min(times)


def grows_too_fast(function, piece, beginning="", ending=""):
    def text(length):
        return beginning + (piece * (length // len(piece) + 1))[:length] + ending

    long = cost(function, text(LONG))
    return long > FAST and long > MOST * max(cost(function, text(SHORT)), FAST / MOST)


def test_it_finds_the_expressions():
    assert len(FOUND) > 30
    assert any("search" in ways for _, ways in FOUND.values())
    assert any("redaction" in name for name in FOUND)
    assert any("errors" in name for name in FOUND)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_time_is_in_proportion_to_the_text(name):
    pattern, ways = FOUND[name]
    slow = [
        (way, piece, around)
        for way in sorted(ways)
        for piece in PIECES
        for around in SURROUNDINGS
        if grows_too_fast(WAYS[way](pattern), piece, *around)
    ]
    assert slow == []


@pytest.mark.parametrize("quadratic", [r"\b[\w-]*(?:token)[\w-]*=", r"<[^>]*object at 0x", r"\s*x"])
def test_the_measure_sees_what_was_mended(quadratic):
    """The first two are expressions that error texts went through once."""
    pattern = re.compile(quadratic)
    assert any(grows_too_fast(pattern.search, piece) for piece in PIECES)


@pytest.mark.parametrize("piece", PIECES)
def test_what_errors_say_takes_no_longer_for_longer_texts(piece):
    """A status line, a body and an address are cut before they are looked at."""

    def failure(text):
        failure_text("GET", "https://api.example.com/x", OSError(text), "api")

    def refusal(text):
        api_error(answered(500, text.encode("utf-8", "replace"), reason=text), "api")

    def target(text):
        show_target(f"https://api.example.com/x?{text}")

    for function in (failure, refusal, target, redaction.redact, redaction.redact_members):
        assert not grows_too_fast(function, piece), function
