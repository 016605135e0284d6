"""Run the tests of one mutant after the other, each in a fork of a process that has imported all but what is changed.

    python -m scripts.mutation_server SOCKET

Airflow takes seconds to import, a fork milliseconds. The tests run once without a change and are watched. For a mutant
run only the tests that execute the changed function, until one fails. Who connects to SOCKET is answered
with one byte: 1 when a test has failed, or did not end, else 0. `scripts.mutate` uses it.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import coverage
import pytest

from scripts.mutate import FIRST, MODULES, TESTS

#: Without the plugins that collect garbage after each run, which takes longer than most tests.
PYTEST = (
    "-x",
    "-q",
    "--timeout=240",
    "--timeout-method=thread",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:unraisableexception",
    "-p",
    "no:threadexception",
)
#: For each test: the lines that it executes, by the module's path, and its seconds of processor time.
Watched = dict[str, tuple[dict[str, list[int]], float]]


def main(address: str) -> int:
    sys.path.insert(0, os.getcwd())
    original = {path: Path(path).read_text() for path in MODULES}
    import tests.conftest  # noqa: F401 - sets Airflow up, which the imports below need

    for name in in_child(list_imports) or ():
        with suppress(Exception):
            importlib.import_module(name)
    under_change = {path.removesuffix(".py").replace("/", ".") for path in MODULES}
    if loaded := under_change & set(sys.modules):
        raise SystemExit(f"imported before the forks: {', '.join(sorted(loaded))}")
    gc.freeze()
    watched: Watched | None = in_child(watch_tests)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen()
        Path(f"{address}.new").rename(address)
        while True:
            connection, _ = listener.accept()
            answer = 1 if watched is None or notice_change(original, watched) else 0
            connection.sendall(bytes([answer]))
            connection.close()


def in_child(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a fork (JSON), None when it fails or is ended."""
    answer = Path(f"{sys.argv[1]}.answer")
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
            answer.write_text(json.dumps(work()))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return json.loads(answer.read_text()) if answer.exists() else None


def list_imports() -> list[str]:
    """Return what all tests import of others' modules."""
    pytest.main([*PYTEST, "--collect-only", *TESTS])
    return [
        name for name in sys.modules if name.partition(".")[0] not in ("airflow_oauth_provider", "tests", "scripts")
    ]


def watch_tests() -> Watched | None:
    """Run all tests without a change; None when one fails."""
    watcher = Watcher()
    sys.dont_write_bytecode = False  # the tests themselves, which pytest rewrites, are compiled once
    status = pytest.main([*PYTEST, *TESTS], plugins=[watcher])
    for path in MODULES:
        for compiled in Path(path).parent.glob(f"__pycache__/{Path(path).stem}.*"):
            compiled.unlink()
    return None if status else watcher.read()


class Watcher:
    """A plugin of pytest that notes which lines a test executes."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(data_file=None, include=list(MODULES), config_file=False)
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_sessionstart(self) -> None:
        import _thread

        _thread.start_new_thread = _start_watched_thread  # type: ignore[assignment]
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        name, began = strip_parameters(item.nodeid), time.process_time()
        self.coverage.switch_context(name)
        try:
            return (yield)
        finally:
            self.seconds[name] += time.process_time() - began

    def read(self) -> Watched:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for path in MODULES:
            for line, tests in data.contexts_by_lineno(str(Path(path).resolve())).items():
                for test in filter(None, tests):
                    lines[test][path].append(line)
        return {test: (lines[test], seconds) for test, seconds in self.seconds.items()}


_start_thread = threading._start_new_thread  # type: ignore[attr-defined]


def _start_watched_thread(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    """Start a thread without :class:`threading.Thread`, as `manager.py` does; coverage does not see those by itself."""

    def run() -> None:
        sys.settrace(threading.gettrace())
        function(*arguments)

    return int(_start_thread(run, ()))


def notice_change(original: dict[str, str], watched: Watched) -> bool:
    """Tell whether a test fails with the modules as they are now."""
    changed = [path for path, content in original.items() if Path(path).read_text() != content]
    if not changed:
        return False
    lines = find_lines(original[changed[0]], Path(changed[0]).read_text())
    chosen = {
        test: seconds
        for test, (executed, seconds) in watched.items()
        if lines is None or not lines.isdisjoint(executed.get(changed[0], ()))
    }
    return in_child(lambda: run_until_failure(chosen, in_order(chosen, changed[0]))) is not False


def find_lines(original: str, now: str) -> set[int] | None:
    """Return the lines of the changed function; None where the change is in none, and concerns all tests."""
    pairs = enumerate(zip(original.splitlines(), now.splitlines(), strict=False), start=1)
    line = next((number for number, (before, after) in pairs if before != after), 0)
    around = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(original))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if not around:
        return None
    first, last = max(around)
    return set(range(first + 1, last + 1))


def in_order(chosen: dict[str, float], changed: str) -> dict[str, list[str]]:
    """Return the tests by file: first the file that stands for the module, then those that take the least time."""
    files: dict[str, list[str]] = defaultdict(list)
    for test in sorted(chosen, key=chosen.__getitem__):
        files[test.partition("::")[0]].append(test)
    first = f"test_{FIRST.get(Path(changed).name, 'refresh_once')}.py"
    return dict(sorted(files.items(), key=lambda item: (not item[0].endswith(first), sum(map(chosen.get, item[1])))))  # type: ignore[arg-type]


def run_until_failure(seconds: dict[str, float], files: dict[str, list[str]]) -> bool:
    """Run the tests of the first file, and then all others: most mutants live no longer than the first."""
    names = list(files)
    for part in filter(None, (names[:1], names[1:])):
        selection = Selection({test: seconds[test] for name in part for test in files[name]})
        if pytest.main([*PYTEST, *part], plugins=[selection]) not in (0, 5):
            return True
    return False


class Selection:
    """A plugin of pytest that leaves only some tests, in this order; a change may have changed their parameters.

    :param seconds: of processor time, for each test without a change. Where a change makes a loop endless, the process
        ends after three times as much.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.rank = {test: rank for rank, test in enumerate(seconds)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if strip_parameters(item.nodeid) in self.rank]
        items[:] = sorted(kept, key=lambda item: self.rank[strip_parameters(item.nodeid)])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        # Its signal ends the process, also where the main thread waits for another one.
        signal.setitimer(signal.ITIMER_VIRTUAL, 2 + 3 * self.seconds[strip_parameters(item.nodeid)])


def strip_parameters(test: str) -> str:
    return test.partition("[")[0]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
