"""Runs every file of tests/kernels/on_triton under Triton's interpreter, each in a process of its own.

What is marked `slow` there is left to `make slow`: the widths and sessions of a training, which take the interpreter
minutes. The same kernels run here on smaller ones, and `test_triton_compiles.py` compiles them for the larger.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtaw_fast.kernels import triton_device

FILES = sorted(path.name for path in (Path(__file__).parent / "on_triton").glob("test_*.py"))


@pytest.mark.slow
@pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: on_triton runs on it, in this process")
@pytest.mark.skipif(triton_device.interpreting(), reason="TRITON_INTERPRET=1: on_triton runs in this process")
@pytest.mark.parametrize("file", FILES)
def test_under_the_interpreter(file: str, pytestconfig: pytest.Config) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", f"tests/kernels/on_triton/{file}"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
