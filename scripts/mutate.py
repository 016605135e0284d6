"""Change the code of the token life cycle, one operator at a time, and see whether the unit tests notice.

    python -m scripts.mutate [--sample N] [--seed S] [--all]

cosmic-ray makes the changes, in a copy of the checkout. Airflow takes seconds to import, so the tests of each mutant
run in a fork of a process that has imported it. What survives and may survive stands, with the reason, in
`tests/mutation_survivors.txt`; anything else that survives is a failure.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from scripts import environments as env

WORK = env.BUILD / "mutation"
TREE = WORK / "tree"
SESSION = WORK / "session.sqlite"
SOCKET = WORK / "server.sock"
SURVIVORS = env.ROOT / "tests" / "mutation_survivors.txt"

PACKAGE = "airflow_oauth_provider/tokens"
#: Sentences for people, and protocols without code.
LEFT_OUT = ("messages.py", "store.py", "__init__.py")
#: `X | None` in annotations is never evaluated.
JUNK = ("core/ReplaceBinaryOperator_BitOr", "core/RemoveDecorator")
TESTS = (
    "tests/unit/test_refresh_decision.py",
    "tests/unit/test_stores_record.py",
    "tests/unit/test_refresh_once.py",
    "tests/unit/test_refresh_kept.py",
    "tests/unit/test_refresh_lease.py",
    "tests/unit/test_refresh_events.py",
    "tests/unit/test_refresh_cost.py",
    "tests/unit/test_refresh_configuration.py",
    "tests/unit/test_fallback_recovery.py",
    "tests/unit/test_answers_kept.py",
    "tests/unit/test_authorization_code.py",
    "tests/unit/test_refresh_interrupted.py",
    "tests/unit/test_stores_fallback.py",
    "tests/unit/test_stores_sealed.py",
    "tests/unit/test_model.py",
    "tests/unit/test_grant_state.py",
)
#: Modules whose tests stand together: those run first, and most mutants live no longer.
FIRST = {
    "record.py": "record",
    "json_members.py": "record",
    "decision.py": "decision",
    "lease.py": "lease",
    "process.py": "lease",
    "events.py": "events",
    "sealing.py": "stores_sealed",
    "precedence.py": "authorization_code",
    "callbacks.py": "configuration",
    "cache.py": "configuration",
    "clock.py": "configuration",
    "configuration.py": "configuration",
    "expiry.py": "configuration",
    "shield.py": "interrupted",
    "revocation.py": "configuration",
    "grant_state.py": "grant_state",
}
#: Seconds of processor time that the tests of one mutant may take: a changed loop may not end.
LONGEST = 60


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.mutate")
    parser.add_argument("--sample", type=int, default=200, help="how many mutants, chosen at random (200)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice (1)")
    parser.add_argument("--all", action="store_true", help="all mutants: an hour")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return serve(options.serve)
    prepare()
    total = choose(None if options.all else options.sample, options.seed)
    server = subprocess.Popen([sys.executable, "-B", "-m", "scripts.mutate", "--serve", str(SOCKET)], cwd=TREE)
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


def prepare() -> None:
    """Copy what git knows, and list all mutants."""
    python = env.environment("mutation") / "bin" / "python"
    if not python.exists():
        uv = str(env.environment("tools") / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--no-project", str(env.environment("mutation"))], check=True)
        pins = str(env.CONSTRAINTS / "mutation.txt")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), "-r", pins], check=True)
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
    excluded = ", ".join(f'"{PACKAGE}/{name}"' for name in LEFT_OUT)
    (TREE / "config.toml").write_text(
        f'[cosmic-ray]\nmodule-path = "{PACKAGE}"\ntimeout = 900.0\nexcluded-modules = [{excluded}]\n'
        f'test-command = "{sys.executable} -S -E ask.py"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    run_cosmic_ray("init", "config.toml", str(SESSION))


def run_cosmic_ray(*arguments: str) -> None:
    subprocess.run([str(env.environment("mutation") / "bin" / "cosmic-ray"), *arguments], cwd=TREE, check=True)


def choose(sample: int | None, seed: int) -> int:
    """Keep `sample` mutants of the session and return how many there were."""
    with sqlite3.connect(SESSION) as session:
        rows = session.execute(
            "select job_id, operator_name from mutation_specs order by module_path, operator_name, occurrence"
        ).fetchall()
        worth = [job for job, operator in rows if not operator.startswith(JUNK)]
        kept = set(worth if sample is None else random.Random(seed).sample(worth, min(sample, len(worth))))
        for job, _ in rows:
            if job not in kept:
                session.execute("delete from mutation_specs where job_id = ?", [job])
                session.execute("delete from work_items where job_id = ?", [job])
    return len(worth)


def serve(address: Path) -> int:
    """Import what is not changed, and run the tests in a fork for each connection to `address`."""
    sys.path.insert(0, os.getcwd())
    original = {path: path.read_bytes() for path in Path(PACKAGE).glob("*.py")}
    import hypothesis  # noqa: F401 - imported before the forks
    import pytest

    import tests.conftest  # noqa: F401
    from airflow_oauth_provider import exceptions  # noqa: F401
    from airflow_oauth_provider.oauth2 import token_endpoint  # noqa: F401

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen()
        Path(f"{address}.new").rename(address)
        while True:
            connection, _ = listener.accept()
            child = os.fork()
            if child == 0:
                resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
                with open(os.devnull, "w") as nothing:
                    os.dup2(nothing.fileno(), 1)
                    os.dup2(nothing.fileno(), 2)
                status = pytest.main(["-x", "-q", "--timeout=300", "-p", "no:cacheprovider", *in_order(original)])
                os._exit(min(int(status), 100))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            connection.sendall(bytes([1 if status else 0]))
            connection.close()


def in_order(original: dict[Path, bytes]) -> list[str]:
    """Return the tests, those of the changed module first."""
    changed = [path.name for path, content in original.items() if path.read_bytes() != content]
    first = FIRST.get(changed[0], "kept") if changed else ""
    return sorted(TESTS, key=lambda name: not name.endswith(f"_{first}.py"))


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
