"""Every Triton kernel compiles for every GPU architecture we name, without a GPU, within its limits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.compile_case import PerTile
from mtaw_fast.kernels.compile_check import OPS, TARGETS, Compiled, op_name
from mtaw_fast.kernels.compile_mix import Mix, mix_of

OTHER_TILE = re.compile(r" \d+x\d+x\d+$")  # ends the name of a variant of NVIDIA's alone: a tile that is not chosen

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
    variants: dict[str, set[tuple[str, str]]] = {}  # by backend: NVIDIA's has tiles that the other has not
    for target in TARGETS:
        here = [row for row in rows if row["target"] == target.name]
        assert here
        assert {(row["kernel"], row["dtype"]) for row in here} == variants.setdefault(
            target.backend, {(row["kernel"], row["dtype"]) for row in here}
        )
        assert all(0 < row["registers"] <= 512 and row["shared"] <= target.shared_limit for row in here)
        assert target.may_spill or all(row["spills"] == 0 for row in here)
    assert variants["hip"] <= variants["cuda"]
    assert all(OTHER_TILE.search(dtype) for _, dtype in variants["cuda"] - variants["hip"])


def test_what_goes_over_a_limit_is_named() -> None:
    sm_90 = next(target for target in TARGETS if target.name == "sm_90")
    heavy = Compiled("op", "kernel", "bf16", "sm_90", shared=1 << 20, registers=255, spills=64)
    assert heavy.faults(sm_90) == [
        "op: kernel (bf16) on sm_90 takes 1048576 bytes of shared memory, more than 232448",
        "op: kernel (bf16) on sm_90 spills 64 bytes a thread",
    ]


PTX = """
$L__BB0_1:
	cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;
	cp.async.ca.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x8, %r2;
	@%p1 bra 	$L__BB0_3;
$L__BB0_2:
	wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%r3}, %rd2, %rd3, 1, 1, 1, 0, 0;
	wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%r3}, {%r4}, %rd3, 1, 1, 1, 0;
	ex2.approx.ftz.f32 	%r5, %r6;
	mul.lo.s64 	%rd4, %rd5, 100;
	cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;
	@%p2 bra 	$L__BB0_2;
$L__BB0_3:
	ex2.approx.ftz.f32 	%r5, %r6;
	atom.global.gpu.acq_rel.add.f32 	%r7, [%rd6], %r8;
	red.relaxed.gpu.global.add.f32 	[%rd6], %r8;
"""


def test_a_loops_instructions_are_counted() -> None:
    mix = mix_of(PTX, num_warps=8)
    expected = Mix("wgmma", 2, 2 * 64 * (64 + 128) * 16, 1, (16,), wide_multiplies=1, atomics=2)
    assert mix == expected
    assert mix.describe() == "2 wgmma, 1 ex2, copies 1x16, 1 64-bit multiplies"


def test_work_that_is_not_the_formulas_is_named() -> None:
    per_tile = PerTile(entries=512, multiply_adds=1 << 20, steps=12, copied=8192)
    row = Compiled("op", "kernel", "bf16", "sm_90", 1, 1, 0, mix_of(PTX, num_warps=8), 256, per_tile)
    assert row.faults(next(target for target in TARGETS if target.name == "sm_90")) == [
        "op: kernel (bf16) on sm_90 has 2 atomic operations",
        "op: kernel (bf16) on sm_90: exponentials a tile: 256, not 512",
        "op: kernel (bf16) on sm_90: bytes a tile copied 16 at a time: 4096, not 8192",
        "op: kernel (bf16) on sm_90: 64-bit multiplies in the loop: 1, not 0",
        "op: kernel (bf16) on sm_90: multiply-adds a tile: 393216, not 1048576",
    ]


def test_interpreted_kernels_are_refused() -> None:
    command = [sys.executable, "-m", "mtaw_fast.kernels.compile_check"]
    run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 2
    assert "TRITON_INTERPRET" in run.stderr
