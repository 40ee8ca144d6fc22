"""Triton kernels compile within their limits, without a GPU.

Here those of one op for one GPU architecture, in the long form all for one of each maker. `compile_check`, run by
`make slow`, has every architecture that we name.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.compile_case import PerTile
from mtaw_fast.kernels.compile_check import OPS, TARGETS, Compiled, op_name
from mtaw_fast.kernels.compile_mix import Mix, mix_faults, mix_of
from tests.support.cache import ROOT, cached, digest, digest_of_tree

KERNELS = ROOT / "kernels"

pytestmark = pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")


def compiled_rows(op: str, targets: Sequence[str]) -> list[dict[str, Any]]:
    """Return what `compile_check` prints of an op for the targets, from the test cache if nothing changed.

    The key covers every Python file of kernels/ but the native kernels', so all kernels, configurations, cases and the
    check itself, and the versions of Python, Triton (with its assemblers and LLVM) and PyTorch. Only rows without a
    fault are stored.
    """
    sources = [path for path in KERNELS.rglob("*.py") if "native" not in path.relative_to(KERNELS).parts]
    versions = (sys.version, version("triton"), version("torch"), platform.machine())

    def compile_all(file: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        command = [sys.executable, "-m", "mtaw_fast.kernels.compile_check", "--op", op, "--json", str(file)]
        command += [part for name in targets for part in ("--target", name)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr

    rows: list[dict[str, Any]] = json.loads(
        cached("compiled", digest(op, targets, digest_of_tree(sources), versions), compile_all).read_text()
    )
    return rows


_LONG = pytest.mark.long(caught="tests/kernels/test_on_triton.py: what does not run; here, by adam: the check itself")


@pytest.mark.parametrize(
    ("op", "targets"),
    [
        ("adam", ("sm_90",)),
        *(pytest.param(op_name(module), ("sm_90", "gfx942"), marks=_LONG) for module in OPS),
    ],
)
def test_every_kernel_compiles_within_the_limits(op: str, targets: tuple[str, ...]) -> None:
    """One op a test: without the cache, its variants take two cores up to a minute."""
    rows = compiled_rows(op, targets)
    variants: dict[str, set[tuple[str, str]]] = {}  # by backend: NVIDIA's has products that the other has not
    for target in (candidate for candidate in TARGETS if candidate.name in targets):
        target_rows = [row for row in rows if row["target"] == target.name]
        assert target_rows
        names = {(row["kernel"], row["dtype"]) for row in target_rows}
        assert names == variants.setdefault(target.backend, names)
        assert all(0 < row["registers"] <= 512 and row["shared"] <= target.shared_limit for row in target_rows)
        assert target.may_spill or all(row["spills"] == 0 for row in target_rows)
    if "hip" in variants:
        assert variants["hip"] <= variants["cuda"]
        assert all(">tf32x3" in dtype for _, dtype in variants["cuda"] - variants["hip"])


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
        "op: kernel (bf16) on sm_90 has 1 64-bit multiplications in its main loop",
        "op: kernel (bf16) on sm_90: exponentials a tile: 256, not 512",
        "op: kernel (bf16) on sm_90: bytes a tile copied 16 at a time: 4096, not 8192",
        "op: kernel (bf16) on sm_90: multiply-adds a tile: 393216, not 1048576",
    ]


@pytest.mark.parametrize(
    ("chunk", "faults"),
    [
        (PerTile(256, 393216, 12, 4096), 0),  # the inner loop's
        (PerTile(0, 1, 1, 1), 0),  # unrolled: the trip does all, and copies are not counted
        (PerTile(256, 393216, 12, 2048), 1),
    ],
    ids=["chunk", "unrolled", "neither"],
)
def test_vectors_in_chunks_are_held_to_one_of_two_loops(chunk: PerTile, faults: int) -> None:
    whole = 0 if chunk.entries else 256
    per_tile = PerTile(whole, 393216, 12, 1 << 20, chunk=chunk)
    assert len(mix_faults(mix_of(PTX, num_warps=8), per_tile, "wgmma", 256)) == faults


def test_interpreted_kernels_are_refused() -> None:
    command = [sys.executable, "-m", "mtaw_fast.kernels.compile_check"]
    run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 2
    assert "TRITON_INTERPRET" in run.stderr
