"""An environment or an output folder in the checkout is no part of the source distribution."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytest.importorskip("scikit_build_core", reason="scikit-build-core is not installed")
JUNK = ("env", "venv", ".venv", ".venv-demo", "ENV", "examples/venv", "tutorial", "runs", "build", "dist")


def test_what_is_left_out_of_the_sdist(tmp_path: Path) -> None:
    kept = ["pyproject.toml", "README.md", "LICENSE", "CMakeLists.txt", "mtaw_fast/__init__.py", ".ci/build_backend.py"]
    for name in kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for folder in JUNK:
        (tmp_path / folder / "lib").mkdir(parents=True)
        (tmp_path / folder / "lib/junk.py").touch()
    code = "import build_backend; print(build_backend.build_sdist('../sdist'))"
    environment = {"PYTHONPATH": ".ci", "PATH": "/usr/bin:/bin"}
    (tmp_path.parent / "sdist").mkdir(exist_ok=True)
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    with tarfile.open(tmp_path.parent / "sdist" / process.stdout.split()[-1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {*kept, "PKG-INFO"}
