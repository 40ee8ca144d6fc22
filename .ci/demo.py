"""Run the main job in an environment of its own: click log, data set, bundle, quality, recommendations.

    make demo        or: python3 .ci/demo.py

The environment holds `.[train,cpu]` and nothing else: no Triton, Ray, MLflow, docs or linters. Every command is shown
before it runs. A second run reuses the environment unless its inputs changed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

import progress

ROOT = Path(__file__).resolve().parent.parent
CPU_BUILD = "https://download.pytorch.org/whl/cpu"
SESSION = ("item-2439", "item-326")
AT = "2023-12-12"  # just after the last training click
_ROW = re.compile(r"^\| (.+?) +\| .*?\| .*?\| ([\d.]+) \[", re.M)  # name, P@20
_RANKED = re.compile(r"^ *\d+ +-?[\d.]+ +\S+ +\(.+\)$", re.M)


def main() -> None:
    """Set up, then run the job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    os.chdir(ROOT)
    parser.add_argument("--venv", type=Path, default=Path(".venv-demo"), help="the environment (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="the job's folder (%(default)s)")
    parser.add_argument("--constraints", default="constraints.txt", help="pinned packages; empty: the newest")
    parser.add_argument("--torch-index", default=CPU_BUILD, help="where PyTorch comes from; empty: pip's own index")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    setup(options.venv, pins(options.constraints), options.torch_index)
    job(options.venv / "bin", options.out)


def pins(file: str) -> str:
    """The constraints, where they hold for this Python and machine."""
    host = (platform.python_implementation(), sys.version_info[:2], sys.platform, platform.machine())
    if file and host != ("CPython", (3, 11), "linux", "x86_64"):
        print(f"{file} is for CPython 3.11 on Linux, x86-64: installing the newest versions instead")
        return ""
    return file


def setup(folder: Path, constraints: str, torch_index: str) -> None:
    """Make the environment, step by step."""
    ready = folder / ".ready"
    inputs = [Path("pyproject.toml"), Path("CMakeLists.txt"), *sorted(Path("kernels/native").rglob("*.[ch]pp"))]
    inputs += [Path(constraints)] if constraints else []
    if ready.exists() and all(path.stat().st_mtime <= ready.stat().st_mtime for path in inputs):
        print(f"{folder} is ready")
        return
    settings = tomllib.loads(Path("pyproject.toml").read_text())
    project, build = settings["project"], settings["build-system"]["requires"]
    extras = project["optional-dependencies"]
    torch = next(requirement for requirement in extras["train"] if requirement.startswith("torch"))
    start = time.monotonic()
    pip = [str(folder / "bin/pip"), "install", "--disable-pip-version-check"]
    heading("Setup 1 of 4: a virtual environment", f"$ python3 -m venv {folder}")
    venv.create(folder, with_pip=True, clear=True)

    heading("Setup 2 of 4: packages for `.[train,cpu]`", "")
    if constraints:
        requirements = folder / "requirements.txt"
        lines = Path(constraints).read_text().splitlines()
        lines = [line for line in lines if "demo" in line.partition("#")[2].split()]
        requirements.write_text("\n".join(lines) + "\n")
        progress.run([*pip, "--require-hashes", "--no-deps", "--requirement", str(requirements)])
    else:
        packages = [*project["dependencies"], *extras["train"], *extras["cpu"], *build]
        progress.run([*pip, *(package for package in packages if package != torch), "cmake", "ninja"])

    heading("Setup 3 of 4: PyTorch", "")
    source = ["--retries", "1", "--timeout", "30", "--index-url", torch_index]
    if torch_index and progress.run([*pip, *source, torch], check=False) != 0:
        print(f"{torch_index} did not answer: PyTorch comes from pip's own index (its CUDA build has gigabytes)")
        torch_index = ""
    if not torch_index:
        progress.run([*pip, torch])

    heading("Setup 4 of 4: mtaw_fast; the native module compiles a minute on two cores", "")
    arguments = ["--no-build-isolation", "--no-deps", "--config-settings", "build-dir=build/demo", "--editable", "."]
    progress.run([*pip, *arguments])
    ready.touch()
    print(f"the environment is ready after {time.monotonic() - start:.0f} s")


def job(programs: Path, out: Path) -> None:
    """From a click log to recommendations."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command, log, dataset, bundle = str(programs / "mtaw-fast"), f"{out}/clicks.csv", f"{out}/dataset", f"{out}/bundle"
    heading("1 of 5: a click log of an imaginary shop", "")
    run([str(programs / "python"), "-m", "mtaw_fast.data.synthetic_log", log, "--items", "3000", "--sessions", "20000"])
    heading("2 of 5: a data set", "sessions are cut, items numbered, the last three days kept for the test")
    run([command, "prepare", "clicks", log, dataset, "--test-days", "3"])
    heading("3 of 5: a bundle", "encoder, session memory and ranker are trained: about a minute")
    run([command, "train", dataset, bundle])
    heading("4 of 5: its quality", "on the last three days, next to baselines that need no training")
    table = read([command, "evaluate", bundle, dataset])
    heading("5 of 5: recommendations", f"somebody clicked {SESSION[0]}, then {SESSION[1]}; what is next?")
    ranking = read([command, "recommend", bundle, *SESSION, "-k", "5", "--reasons", "--at", AT], echo=False)
    summary(command, bundle, table, ranking)


def summary(command: str, bundle: str, table: str, ranking: str) -> None:
    """Say what came out of it."""
    values = {name: round(float(value)) for name, value in _ROW.findall(table)}
    model, simple, popular = (values[name] for name in ("model", "co-occurrence + repeats", "popularity"))
    print("\n".join(_RANKED.findall(ranking)))
    heading("Result", f"The bundle predicts the next click after {' and '.join(SESSION)}, with a reason for each item.")
    print(f"""
Quality: of 100 next clicks, {model} are among the bundle's 20 recommendations, {simple} among those of
the simple baseline (items clicked together, no training), {popular} among the most popular items.

{bundle} is all that a service needs. Next, other clicks, or your own log:

  {command} recommend {bundle} item-7 item-42 -k 5 --reasons --at {AT}
  {command} prepare clicks YOUR.csv my.dataset --session SESSION --item ITEM --time TIME

docs/tutorial.md goes on from there to a running service.""")


def heading(title: str, text: str) -> None:
    """Begin a step."""
    print(f"\n=== {title}" + (f"\n{text}" if text else ""))


def show(command: Sequence[str]) -> None:
    """Print a command as one would type it."""
    print(f"$ {shlex.join(command)}")


def run(command: Sequence[str]) -> None:
    """Run a command that speaks for itself; end with its status where it fails."""
    show(command)
    status = subprocess.run(command, check=False).returncode
    if status:
        sys.exit(status)


def read(command: Sequence[str], echo: bool = True) -> str:
    """Run a command and return what it prints; echo: print that, too."""
    show(command)
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if echo or result.returncode:
        print(result.stdout, end="")
    if result.returncode:
        sys.exit(result.returncode)
    return result.stdout


if __name__ == "__main__":
    main()
