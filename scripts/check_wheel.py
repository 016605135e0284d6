"""Build the package and test what was built, not the checkout: `make test-wheel`.

The wheel goes into an environment of its own, and the unit tests run in a copy of the repository that lacks the
package: nothing can be taken from the checkout by accident.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from scripts import environments as env
from scripts.setup_env import build_options, install_package, make_environment, run, set_up_pinned, uv

PACKAGE = "airflow_oauth_provider"
#: Beside Python modules. Whatever else is in the wheel got there by mistake.
DATA = {"py.typed", "connection/presets/schema.json", "connection/presets/vendors.json"}
DATA_FOLDERS = ("api_server/templates/", "api_server/static/")


def main(arguments: list[str]) -> int:
    wheel = build(env.ROOT / "dist")
    check_content(wheel)
    folder = env.environment("wheel")
    set_up(folder, wheel)
    with tempfile.TemporaryDirectory() as copy:
        copy_without_package(Path(copy))
        return run_tests(folder, Path(copy), arguments)


def build(target: Path) -> Path:
    """Build sdist and wheel, the wheel from the sdist as an index's users would, and have twine look at both."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as lists:
        command = [uv(), "build", "--quiet", *build_options(Path(lists)), "--out-dir", str(target), str(env.ROOT)]
        run(command, "build the package")
    (wheel,) = target.glob("*.whl")
    set_up_pinned("build", "twine")
    twine = str(env.environment("build") / "bin" / "twine")
    run(
        [twine, "check", "--strict", *map(str, [*target.glob("*.tar.gz"), wheel])],
        "check the metadata",
    )
    print(f"wheel: {wheel.name}", flush=True)
    return wheel


def check_content(wheel: Path) -> None:
    """Every module is there, and nothing that is none but what has to be."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    inside = {name.removeprefix(f"{PACKAGE}/") for name in names}
    stray = {name for name in names if not name.startswith(f"{PACKAGE}/")}
    stray |= {n for n in inside - DATA if not n.endswith(".py") and not n.startswith(DATA_FOLDERS)}
    modules = {str(path.relative_to(env.ROOT / PACKAGE)) for path in (env.ROOT / PACKAGE).rglob("*.py")}
    missing = (modules | DATA) - inside
    if stray or missing:
        raise SystemExit(f"{wheel.name}: stray files {sorted(stray)}, missing files {sorted(missing)}")


def set_up(folder: Path, wheel: Path) -> None:
    """The main cell's environment, with the wheel in place of the checkout."""
    make_environment(folder, sys.executable)
    files = [env.REQUIREMENTS / name for name in env.requirements_of(env.MAIN_AIRFLOW)]
    install_package(folder, [env.CONSTRAINTS / f"airflow-{env.MAIN_AIRFLOW}.txt"], files, str(wheel))


def copy_without_package(target: Path) -> None:
    """Copy what is committed or could be, but for the package."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=env.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        source = env.ROOT / name
        if not name.startswith(f"{PACKAGE}/") and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)


def run_tests(folder: Path, copy: Path, arguments: list[str]) -> int:
    """Run the unit tests in `copy`, after a look at where the package comes from."""
    python = str(folder / "bin" / "python")
    code = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    found = subprocess.run([python, "-c", code], cwd=copy, env=env.clean_environ(), capture_output=True, text=True)
    if not found.stdout.startswith(str(folder)):
        raise SystemExit(f"the package is imported from {found.stdout.strip() or found.stderr}")
    command = [python, "-m", "pytest", "--quiet", "--timeout=120", "tests/unit", *arguments]
    return subprocess.run(command, cwd=copy, env=env.clean_environ()).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
