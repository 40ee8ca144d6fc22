"""The virtual environments of the systems, made by pip, and why a system cannot run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.systems import System
from mtaw_fast.errors import MtawError

ENVIRONMENTS: Mapping[str, Sequence[str]] = {
    # The code of S2-DHCN also imports numba and scipy.
    "recbole": ("recbole==1.2.1", "numpy<2", "scipy<2", "numba", "setuptools<81"),
    "rectools": ("rectools[torch]==0.19.0",),
}
DRIVERS = Path(__file__).with_name("drivers")
_MADE = "made.txt"  # written last: an interrupted environment is made again


def set_up(folder: Path) -> None:
    """Make every missing environment; MtawError with pip's last line if one cannot be made."""
    for name, packages in ENVIRONMENTS.items():
        environment = folder / name
        if (environment / _MADE).exists() and (environment / _MADE).read_text() == "\n".join(packages):
            print(f"{environment}: exists already", file=sys.stderr)
            continue
        print(f"{environment}: pip install {' '.join(packages)}", file=sys.stderr, flush=True)
        venv.create(environment, with_pip=True, clear=True)
        command = [str(python_of(folder, name)), "-m", "pip", "install", "--quiet", *packages]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise MtawError(f"{environment}: pip could not install {' '.join(packages)}: {last}")
        (environment / _MADE).write_text("\n".join(packages))


def python_of(folder: Path, name: str) -> Path:
    """Return the interpreter of an environment."""
    return folder / name / "bin" / "python"


def why_not(system: System, folder: Path, checkouts: Path | None) -> str | None:
    """Return why a system cannot run (no environment or no authors' code) and how to get it, or None."""
    if system.environment is not None and not python_of(folder, system.environment).exists():
        return f"no environment {folder / system.environment}; make it with: python -m bench.peers --setup"
    if system.authors is None:
        return None
    if checkouts is None:
        return f"needs a checkout of github.com/{system.authors}; give its folder's folder with --checkouts"
    source = source_of(system, checkouts)
    if not (source / "model.py").exists():
        return f"no model.py in {source}; check out github.com/{system.authors} there"
    return None


def source_of(system: System, checkouts: Path) -> Path:
    """Return the folder of the authors' code."""
    return checkouts / str(system.authors).rpartition("/")[2]


def digest_of(source: Path) -> dict[str, str]:
    """Return the sha256 of each Python file of the authors, so that a record identifies the code."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(source.glob("*.py"))}
