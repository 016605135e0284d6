"""Build the site of the docs: `make docs`. Strictly: a link that leads nowhere fails."""

from __future__ import annotations

import os
import subprocess
import sys

from scripts import environments as env
from scripts.setup_env import set_up_pinned


def main(arguments: list[str]) -> int:
    set_up_pinned("docs", "mkdocs")
    command = [str(env.environment("docs") / "bin" / "mkdocs"), "build", "--strict", "--quiet", *arguments]
    # The theme says at each build what it thinks of the future of mkdocs.
    done = subprocess.run(command, cwd=env.ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "true"})
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
