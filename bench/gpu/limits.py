"""What the device can do at most, measured: matrix products, memory, exponentials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl

from bench.gpu.setting import Setting

SIZES = {"side": 8192, "programs": 8192, "block": 4096, "rounds": 512}
DRY_SIZES = {"side": 64, "programs": 2, "block": 16, "rounds": 8}


@triton.jit
def exp2_chains(out, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803 - constants
    """BLOCK chains of ROUNDS exponentials, each of the one before less one: all stay within (0, 1]."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = places.to(tl.float32) * 1e-9
    for _ in range(ROUNDS):
        values = tl.exp2(values - 1.0)
    tl.store(out + places, values)


def limits(setting: Setting) -> Iterator[dict[str, Any]]:
    """tflops of a bf16 product, gb_s of a copy (read and written bytes), gexp_s of chains of ex2 in registers."""
    found = rates(setting)
    yield {"part": "the device's limits", "device": _name(setting), **found}


def rates(setting: Setting) -> dict[str, float]:
    """The three rates; empty where the run is dry."""
    sizes = DRY_SIZES if setting.dry else SIZES
    size, programs, block, rounds = sizes["side"], sizes["programs"], sizes["block"], sizes["rounds"]
    a = setting.normal(size, size).bfloat16()
    product, copy = setting.time(lambda: a @ a), setting.time(lambda: a.clone())
    out = torch.empty(programs * block, device=setting.device)
    chains = setting.time(
        lambda: exp2_chains[(programs,)](out, ROUNDS=rounds, BLOCK=block, num_warps=4, enable_fp_fusion=True)
    )
    assert bool(((out > 0) & (out <= 1)).all())
    if not product:
        return {}
    return {
        "tflops": round(2 * size**3 / product["p50_us"] * 1e-6, 1),
        "gb_s": round(4 * size**2 / copy["p50_us"] * 1e-3, 1),
        "gexp_s": round(programs * block * rounds / chains["p50_us"] * 1e-3, 1),
    }


def _name(setting: Setting) -> str:
    return "none" if setting.dry else torch.cuda.get_device_name()
