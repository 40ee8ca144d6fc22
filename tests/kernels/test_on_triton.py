"""Run tests/kernels/on_triton under Triton's interpreter, in a process of its own: each formula, or a whole file.

Cases marked `slow` there are left to `make slow`: the widths and sessions of a training, which take the interpreter
minutes. The same kernels run here on smaller ones, and `test_triton_compiles.py` compiles them for the larger.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.native import _native
from tests.support.cache import ROOT, cached, digest, digest_of_tree

FILES = sorted(path.name for path in (Path(__file__).parent / "on_triton").glob("test_*.py"))
# Each kernel against its reference, forward and backward.
FORMULAS = "as_close or (every_gamma and 6.0) or steps_of or products_are_exact or perfect_row or refus or 32_bits"
PACKAGES = ("torch", "triton", "numpy", "pytest", "hypothesis")


@cache
def everything() -> str:
    """Return the hash of all that these tests can depend on.

    The Python files of mtaw_fast, kernels, tests/kernels and tests/support, the native module, the CPU's instruction
    set, and the versions of Python and of the packages that the tests use.
    """
    folders = ("mtaw_fast", "kernels", "tests/kernels", "tests/support")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    versions = [version(package) for package in PACKAGES]
    return digest(
        digest_of_tree(sources), Path(_native.__file__), _native.active_isa(), platform.machine(), sys.version, versions
    )


@pytest.mark.slow
@pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: on_triton runs on it, in this process")
@pytest.mark.skipif(triton_device.interpreting(), reason="TRITON_INTERPRET=1: on_triton runs in this process")
@pytest.mark.parametrize(
    ("name", "selected"),
    [
        pytest.param("", ["-k", FORMULAS], id="formulas"),
        *(pytest.param(name, [], marks=pytest.mark.long(caught="here, by the formulas"), id=name) for name in FILES),
    ],
)
def test_under_the_interpreter(name: str, selected: list[str]) -> None:
    """Pass at once if the same tests have passed with equal inputs: see `everything`."""

    def run(passed: Path) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow"]
        command += [f"tests/kernels/on_triton/{name}", *selected]
        environment = os.environ | {"TRITON_INTERPRET": "1"}
        process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert process.returncode == 0, process.stdout + process.stderr
        passed.touch()

    cached("passed", digest(name, selected, everything()), run)
