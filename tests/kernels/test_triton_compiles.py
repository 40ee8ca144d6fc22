"""Every Triton kernel compiles for every GPU architecture we name, without a GPU, within its limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.compile_check import OPS, TARGETS, Compiled, op_name

pytestmark = pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("op", [op_name(module) for module in OPS])
def test_every_kernel_compiles_within_the_limits(op: str, tmp_path: Path) -> None:
    """One op a test: a cold compilation of its variants for all targets is a minute or two of two cores."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "mtaw_fast.kernels.compile_check", "--op", op, "--json", str(file)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = json.loads(file.read_text())
    variants = {(row["kernel"], row["dtype"]) for row in rows}
    assert variants
    for target in TARGETS:
        here = [row for row in rows if row["target"] == target.name]
        assert {(row["kernel"], row["dtype"]) for row in here} == variants
        assert all(0 < row["registers"] <= 512 and row["shared"] <= target.shared_limit for row in here)
        assert target.may_spill or all(row["spills"] == 0 for row in here)


def test_what_goes_over_a_limit_is_named() -> None:
    sm_90 = next(target for target in TARGETS if target.name == "sm_90")
    heavy = Compiled("op", "kernel", "bf16", "sm_90", shared=1 << 20, registers=255, spills=64)
    assert heavy.faults(sm_90) == [
        "op: kernel (bf16) on sm_90 takes 1048576 bytes of shared memory, more than 232448",
        "op: kernel (bf16) on sm_90 spills 64 bytes a thread",
    ]


def test_interpreted_kernels_are_refused() -> None:
    command = [sys.executable, "-m", "mtaw_fast.kernels.compile_check"]
    run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 2
    assert "TRITON_INTERPRET" in run.stderr
