"""What CI installs is held against hashes: `requirements/hashes.txt`."""

from __future__ import annotations

import re

import pytest

from scripts import environments as env
from scripts import hashes

LINES = {line.split(" ")[0]: line for line in hashes.FILE.read_text().splitlines()}


@pytest.mark.parametrize("path", sorted(env.CONSTRAINTS.glob("*.txt")), ids=lambda path: path.name)
def test_each_release_that_is_pinned_has_its_hashes(path, tmp_path):
    written = hashes.write_hashed(tmp_path / "list.txt", path.read_text().split()).read_text()
    assert len(written.splitlines()) == len(path.read_text().split())


def test_there_are_hashes_and_nothing_else():
    for pin, line in LINES.items():
        assert re.fullmatch(re.escape(pin) + r"( --hash=sha256:[0-9a-f]{64})+", line)
        assert re.fullmatch(r"[a-z0-9._-]+==[a-z0-9.!+-]+", pin)


def test_a_release_that_is_not_listed_is_not_installed(tmp_path):
    with pytest.raises(hashes.UnknownReleaseError, match=r"unheard-of==1\.0.*make hashes"):
        hashes.write_hashed(tmp_path / "list.txt", ["unheard-of==1.0"])
