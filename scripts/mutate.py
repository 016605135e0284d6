"""Change the code of the token life cycle, one operator at a time, and see whether the unit tests notice.

    python -m scripts.mutate [--sample N] [--seed S] [--all]

cosmic-ray makes the changes, in a copy of the checkout. Airflow takes seconds to import, so the tests of each mutant
run in a fork of a process that has imported it. What survives and may survive stands, with the reason, in
`tests/mutation_survivors.txt`; anything else that survives is a failure.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path

from scripts import environments as env
from scripts.setup_env import set_up_pinned

WORK = env.BUILD / "mutation"
TREE = WORK / "tree"
SESSION = WORK / "session.sqlite"
SOCKET = WORK / "server.sock"
SURVIVORS = env.ROOT / "tests" / "mutation_survivors.txt"

#: The life cycle, without sentences for people; what stands around it; the tests.
MODULES = (
    *(
        path.relative_to(env.ROOT).as_posix()
        for path in sorted((env.ROOT / "airflow_oauth_provider" / "tokens").glob("*.py"))
        if path.name not in ("messages.py", "__init__.py")
    ),
    "airflow_oauth_provider/stores/fallback.py",
    "airflow_oauth_provider/stores/record_store.py",
    "airflow_oauth_provider/stores/sealed_record.py",
    "airflow_oauth_provider/oauth2/times.py",
)
#: `X | None` in annotations is never evaluated.
JUNK = ("core/ReplaceBinaryOperator_BitOr", "core/RemoveDecorator")
TESTS = tuple(f"tests/unit/test_{name}.py" for name in (
    "refresh_decision",
    "refresh_times",
    "refresh_limits",
    "stores_record",
    "refresh_once",
    "refresh_kept",
    "refresh_lease",
    "refresh_events",
    "refresh_cost",
    "refresh_configuration",
    "fallback_recovery",
    "answers_kept",
    "authorization_code",
    "grant_state",
    "stores_fallback",
    "stores_sealed",
    "dpop",
    "notices",
    "settings",
    "record_store",
    "timed_lease",
    "variable_store",
    "times",
    "refresh_interrupted",
    "rfc",
))  # fmt: skip
#: Modules whose tests stand together: those run first, and most mutants live no longer.
FIRST = {
    "manager.py": "refresh_times",
    "clock.py": "refresh_times",
    "record.py": "stores_record",
    "json_members.py": "stores_record",
    "decision.py": "refresh_decision",
    "lease.py": "refresh_lease",
    "events.py": "refresh_events",
    "persistence.py": "refresh_kept",
    "precedence.py": "authorization_code",
    "callbacks.py": "refresh_configuration",
    "configuration.py": "refresh_configuration",
    "grant_state.py": "grant_state",
    "sealing.py": "stores_sealed",
    "fallback.py": "stores_fallback",
    "sealed_record.py": "stores_sealed",
    "record_store.py": "record_store",
    "times.py": "times",
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.mutate")
    parser.add_argument("--sample", type=int, default=200, help="how many mutants, chosen at random (200)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice (1)")
    parser.add_argument("--all", action="store_true", help="all mutants: an hour")
    parser.add_argument("--modules", nargs="*", default=[], help="names of files, such as lease.py (all)")
    options = parser.parse_args(arguments)
    modules = [path for path in MODULES if not options.modules or Path(path).name in options.modules]
    prepare(modules)
    total = choose(None if options.all else options.sample, options.seed)
    server = subprocess.Popen([sys.executable, "-B", "-m", "scripts.mutation_server", str(SOCKET)], cwd=TREE)
    try:
        while not SOCKET.exists() and server.poll() is None:
            time.sleep(0.1)
        if subprocess.run([sys.executable, "-S", "-E", "ask.py"], cwd=TREE, check=False).returncode:
            print("The tests fail without any change: see to that first.")
            return 1
        run_cosmic_ray("exec", "config.toml", str(SESSION))
    finally:
        server.terminate()
        server.wait()
    return report(total)


def prepare(modules: list[str]) -> None:
    """Copy what git knows, and list all mutants of `modules`."""
    set_up_pinned("mutation", "cosmic-ray")
    shutil.rmtree(WORK, ignore_errors=True)
    TREE.mkdir(parents=True)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=env.ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        if (env.ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(env.ROOT / name, TREE / name)
    ask = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(SOCKET)!r}); raise SystemExit(s.recv(1)[0])"
    )
    (TREE / "ask.py").write_text(ask)
    (TREE / "config.toml").write_text(
        f"[cosmic-ray]\nmodule-path = {json.dumps(modules)}\ntimeout = 900.0\nexcluded-modules = []\n"
        f'test-command = "{sys.executable} -S -E ask.py"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    run_cosmic_ray("init", "config.toml", str(SESSION))


def run_cosmic_ray(*arguments: str) -> None:
    subprocess.run([str(env.environment("mutation") / "bin" / "cosmic-ray"), *arguments], cwd=TREE, check=True)


def choose(sample: int | None, seed: int) -> int:
    """Keep `sample` mutants of the session and return how many there were."""
    with sqlite3.connect(SESSION) as session:
        rows = session.execute(
            "select job_id, operator_name, module_path, start_pos_row from mutation_specs "
            "order by module_path, operator_name, occurrence"
        ).fetchall()
        worth = [
            job
            for job, operator, path, row in rows
            if not operator.startswith(JUNK) and row not in find_protocol_lines(path)
        ]
        kept = set(worth if sample is None else random.Random(seed).sample(worth, min(sample, len(worth))))
        for job, *_ in rows:
            if job not in kept:
                session.execute("delete from mutation_specs where job_id = ?", [job])
                session.execute("delete from work_items where job_id = ?", [job])
    return len(worth)


@cache
def find_protocol_lines(path: str) -> frozenset[int]:
    """Return the lines of a module that belong to protocols: nobody runs them, and mypy holds the classes to them."""
    return frozenset(
        line
        for node in ast.walk(ast.parse((env.ROOT / path).read_text()))
        if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    )


def report(total: int) -> int:
    """Print the survivors; fail for one that is not listed."""
    listed = SURVIVORS.read_text() if SURVIVORS.exists() else ""
    with sqlite3.connect(SESSION) as session:
        rows = session.execute(
            "select m.module_path, m.operator_name, m.occurrence, m.start_pos_row, r.test_outcome, r.diff "
            "from mutation_specs m join work_results r on m.job_id = r.job_id order by 1, 4"
        ).fetchall()
    outcomes = Counter(str(row[4]).rpartition(".")[2].lower() for row in rows)
    unlisted = 0
    for path, operator, _, row, outcome, diff in rows:
        if not str(outcome).lower().endswith("survived"):
            continue
        changed = [line for line in str(diff).splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        name = (
            f"{Path(path).name}: {operator.removeprefix('core/')}: {' => '.join(line[1:].strip() for line in changed)}"
        )
        is_listed = name in listed
        unlisted += not is_listed
        print(f"{'listed  ' if is_listed else 'SURVIVED'} line {row}: {name}")
    killed = outcomes["killed"] + outcomes["incompetent"]
    print(f"{killed} of {len(rows)} mutants killed ({killed / max(1, len(rows)):.0%}); there are {total} in all")
    return 1 if unlisted else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
