"""Ends what the test servers started when the test servers itself was killed.

Runs as a process of its own that reads lines from its parent: `+PID START` (a session was started), `-PID` (it
was ended), `dFOLDER` (a temporary folder was made). When the parent is gone the pipe ends, and whatever is left
is ended and removed. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

_SELF = os.getpid()


def started_at(pid: int) -> str:
    """When a process started, in the kernel's ticks: with the id it names one process for good. "" if unknown."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def session_members(session: int) -> list[int]:
    """The processes of a session, whatever process groups they made; without the dead ones."""
    members = []
    for entry in _processes():
        fields = _stat(entry)
        if fields and fields[3] == str(session) and fields[0] not in "ZX":
            members.append(entry)
    return members


def end_session(session: int) -> None:
    """Kill what is left of a session that the test servers started, and the descendants that left the session."""
    for _ in range(20):  # one that forks meanwhile is found in the next round
        members = session_members(session)
        members += [pid for pid in _descendants(members) if pid not in members]
        if not members:
            return
        for pid in members:
            _kill(pid)


def family(pid: int) -> list[tuple[int, str]]:
    """A process and its descendants, each with when it started."""
    return [(member, started_at(member)) for member in (pid, *_descendants([pid]))]


def end(processes: Iterable[tuple[int, str]]) -> None:
    """Kill those of `processes` that still are what they were."""
    for pid, start in processes:
        if start and started_at(pid) == start:
            _kill(pid)


def _descendants(roots: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in _processes():
        fields = _stat(pid)
        if fields and fields[0] not in "ZX":
            children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child != _SELF:
                found.append(child)
                waiting.append(child)
    return found


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on: state, parent, group, session, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # these are meant for the parent
        signal.signal(number, signal.SIG_IGN)
    sessions: dict[int, str] = {}
    folders: list[str] = []
    for line in sys.stdin:
        kind, rest = line[0], line[1:].rstrip("\n")
        if kind == "+":
            pid, _, start = rest.partition(" ")
            sessions[int(pid)] = start
        elif kind == "-":
            sessions.pop(int(rest), None)
        elif kind == "d":
            folders.append(rest)
    for session, start in sessions.items():
        now = started_at(session)
        if now in ("", start):  # otherwise the id has gone to a process that is not the tests'
            end_session(session)
    if not os.environ.get("TEST_KEEP"):
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
