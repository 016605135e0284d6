"""Nothing that the test servers started is left running, whatever happens to the test servers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.environments import clean_environ
from tests.servers.processes import Process, ServerError, wait_until

ROOT = Path(__file__).resolve().parents[2]

# A parent with a child in a process group of its own and one in a session of its own, as daemons do.
FAMILY = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
group = subprocess.Popen(sleep, process_group=0)
session = subprocess.Popen(sleep, start_new_session=True)
open(sys.argv[1] + ".tmp", "w").write(f"{os.getpid()} {group.pid} {session.pid}")
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
time.sleep(600)
"""

OWNER = """
import sys, time
from pathlib import Path
from tests.servers.processes import Process, temporary_folder
folder = temporary_folder("family")
Process("family", [sys.executable, "-c", sys.argv[1], sys.argv[2]], folder / "log")
Path(sys.argv[2] + ".folder").write_text(str(folder))
time.sleep(600)
"""


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids_in(path):
    wait_until(path.exists, 20, "the family is there")
    return [int(word) for word in path.read_text().split()]


def test_stop_ends_children_in_other_groups_and_sessions(tmp_path):
    family = Process("family", [sys.executable, "-c", FAMILY, str(tmp_path / "pids")], tmp_path / "log")
    pids = pids_in(tmp_path / "pids")
    assert all(map(is_alive, pids))
    family.stop(grace=1)
    wait_until(lambda: not any(map(is_alive, pids)), 5, "all have ended")


def test_a_killed_rig_leaves_nothing(tmp_path):
    note = tmp_path / "pids"
    command = [sys.executable, "-c", OWNER, FAMILY, str(note)]
    owner = subprocess.Popen(command, cwd=ROOT, env=clean_environ())
    try:
        parent, group, session = pids_in(note)
        wait_until((tmp_path / "pids.folder").exists, 10, "the folder is named")
        folder = Path((tmp_path / "pids.folder").read_text())
        assert folder.is_dir()
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    wait_until(lambda: not any(map(is_alive, (parent, group, session))), 10, "all have ended")
    wait_until(lambda: not folder.exists(), 10, "the folder is gone")


def test_a_process_that_ends_early_says_so_with_its_log(tmp_path):
    process = Process("doomed", [sys.executable, "-c", "print('why it failed'); exit(3)"], tmp_path / "log")
    started = time.monotonic()
    with pytest.raises(ServerError, match=r"(?s)doomed ended \(exit code 3\) before it listens.*why it failed"):
        wait_until(lambda: False, 30, "it listens", process)
    assert time.monotonic() - started < 10
    process.stop()
