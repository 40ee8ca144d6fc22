"""The tests of the kernels on the device, and its limits: how fast it multiplies, copies and computes exponentials."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl

from bench.gpu.setting import Setting, WrongResultError

_ROOT = Path(__file__).resolve().parents[2]
_TESTS = ("tests/kernels/on_triton", "tests/kernels/test_scatter.py", "tests/training/steps/test_static_step.py")
_SIZES = {"side": 8192, "programs": 8192, "block": 4096, "rounds": 512}
_DRY_SIZES = {"side": 64, "programs": 2, "block": 16, "rounds": 8}


@triton.jit
def exp2_chains(out, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803 - constants
    """Run BLOCK chains of ROUNDS exponentials, each of the last one minus one: all stay within (0, 1]."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = offsets.to(tl.float32) * 1e-9
    for _ in range(ROUNDS):
        values = tl.exp2(values - 1.0)
    tl.store(out + offsets, values)


def limits(setting: Setting) -> Iterator[dict[str, Any]]:
    """Measure tflops of a bf16 product, gb_s of a copy (read and written bytes), gexp_s of ex2 in registers."""
    size, programs, block, rounds = (_DRY_SIZES if setting.device.type == "cpu" else _SIZES).values()
    matrix = setting.normal(size, size).bfloat16()
    product, copy = setting.time(lambda: matrix @ matrix), setting.time(lambda: matrix.clone())
    values = torch.empty(programs * block, device=setting.device)
    chains = setting.time(
        lambda: exp2_chains[(programs,)](values, ROUNDS=rounds, BLOCK=block, num_warps=4, enable_fp_fusion=True)
    )
    assert bool(((values > 0) & (values <= 1)).all())
    rates = {}
    if product:
        rates = {
            "tflops": round(2 * size**3 / product["p50_us"] * 1e-6, 1),
            "gb_s": round(4 * size**2 / copy["p50_us"] * 1e-3, 1),
            "gexp_s": round(programs * block * rounds / chains["p50_us"] * 1e-3, 1),
        }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    yield {"part": "the device's limits", "device": device, **rates}


def kernels(setting: Setting) -> Iterator[dict[str, Any]]:
    """Run the tests of the kernels and of the captured step on the device."""
    tests = " ".join(_TESTS)
    if setting.dry:
        yield {"tests": tests, "skipped": "the test suite runs them in the interpreter"}
        return
    line = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *_TESTS]
    run = subprocess.run(line, cwd=_ROOT, capture_output=True, text=True)
    last = (run.stdout.strip().splitlines() or ["no output"])[-1]
    if run.returncode != 0:
        raise WrongResultError(f"tests failed ({last})")
    yield {"tests": tests, "result": last}
