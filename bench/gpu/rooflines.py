"""Every Triton kernel of a training step: its time by CUDA's profiler and what it must move and compute.

A kernel's roof is the largest of three times: bytes from memory over the device's copy rate, operations over its rate
of bf16 products, exponentials over its rate of ex2. Bytes count once (a second read comes from L2), products with
their vectors padded as in registers, attention by the sessions' own lengths. A kernel without a line in `works` has a
time but no roof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from bench.gpu.setting import Setting
from bench.gpu.step_cases import steppers
from mtaw_fast.kernels.aw_loss import configs
from mtaw_fast.kernels.prefix_interest import configs as tile_configs

SIZES = {"side": 8192, "programs": 8192, "block": 4096, "rounds": 512}
DRY_SIZES = {"side": 64, "programs": 2, "block": 16, "rounds": 8}

_STEPS = 20
_LAYERS = 4  # matrices d x d of the encoder


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
    measured = rates(setting)
    yield {"part": "the device's limits", "device": _name(setting), **measured}


def rates(setting: Setting) -> dict[str, float]:
    """Return the three rates; empty in a dry run."""
    sizes = DRY_SIZES if setting.dry else SIZES
    size, programs, block, rounds = sizes["side"], sizes["programs"], sizes["block"], sizes["rounds"]
    matrix = setting.normal(size, size).bfloat16()
    product, copy = setting.time(lambda: matrix @ matrix), setting.time(lambda: matrix.clone())
    values = torch.empty(programs * block, device=setting.device)
    chains = setting.time(
        lambda: exp2_chains[(programs,)](values, ROUNDS=rounds, BLOCK=block, num_warps=4, enable_fp_fusion=True)
    )
    assert bool(((values > 0) & (values <= 1)).all())
    if not product:
        return {}
    return {
        "tflops": round(2 * size**3 / product["p50_us"] * 1e-6, 1),
        "gb_s": round(4 * size**2 / copy["p50_us"] * 1e-3, 1),
        "gexp_s": round(programs * block * rounds / chains["p50_us"] * 1e-3, 1),
    }


def _name(setting: Setting) -> str:
    return "none" if setting.dry else torch.cuda.get_device_name()


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one kernel in a step: bytes moved, floating-point operations in products, exponentials."""

    bytes: float
    flops: float = 0.0
    exps: float = 0.0

    def roof_us(self, limits: dict[str, float]) -> tuple[float, str]:
        """Return the least time in us, and what sets it."""
        times = {
            "memory": self.bytes / limits["gb_s"] * 1e-3,
            "products": self.flops / limits["tflops"] * 1e-6,
            "exponentials": self.exps / limits["gexp_s"] * 1e-3,
        }
        limit = max(times, key=times.__getitem__)
        return times[limit], limit


def rooflines(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the kernels of a training step with their time a step, their roof and the share of it that they reach."""
    stepper, batch = steppers(setting, dropout=0.05)
    work = works(setting, len(batch.clicks), len(batch.rows))
    stepper.step(batch, 1.0)
    if setting.dry:
        yield {"kernels with a roof": sorted(work)}
        return
    times = _profiled(lambda: stepper.step(batch, 1.0))
    if not times:
        yield {"kernel": "all", "skipped": "CUDA's profiler gives no kernels here (its counters may need a permission)"}
        return
    device = rates(setting)
    for name, (us, launches) in sorted(times.items(), key=lambda entry: -entry[1][0]):
        facts: dict[str, Any] = {"kernel": name, "step_us": round(us, 2), "launches": launches}
        if name in work:
            kernel_work = work[name]
            roof, limit = kernel_work.roof_us(device)
            facts |= {
                "roof_us": round(roof, 2), "bound by": limit, "share": round(roof / us, 3),
                "gb_s": round(kernel_work.bytes / us * 1e-3, 1), "tflops": round(kernel_work.flops / us * 1e-6, 1),
                "gexp_s": round(kernel_work.exps / us * 1e-3, 1),
            }  # fmt: skip
        yield facts


def works(setting: Setting, clicks: int, rows: int) -> dict[str, Work]:
    """Return the work of each kernel, for T clicks and S samples over the setting's catalog; B = S."""
    n, d, b = setting.items, setting.d, rows
    width, columns = configs.width(d), configs.power_of_two(d)
    knobs = configs.knobs(d, "bf16", "cuda")
    splits, _ = configs.splits(b, n, knobs.queries)
    unit, product = 2 * width, 2 * b * n * columns  # bytes of a unit vector; operations of one product B x N
    small = _LAYERS * d * (d + 1) + 2 * d
    padded = tile_configs.padded(d)
    length = sum(size * size for size in setting.lengths)  # of attention, over sessions
    linear, attention = 2 * clicks * padded**2, 4 * length * padded
    slot = 2 * d  # bytes of a click's vector in bf16
    return {
        "unit_rows": Work((b + n) * (4 * d + unit + 4)),
        "partial_sums": Work(unit * (n + b) + 4 * splits * b * (1 + width), 2 * product, b * n),
        "finish_sums": Work(4 * b * (splits + 2 * d + 3)),
        "row_losses": Work(4 * b * 5),
        "finish_queries": Work(4 * b * (splits * width + 4 * d)),
        "item_gradients": Work(unit * (n + b) + 4 * n * d, 2 * product, b * n),
        "square_sums_kernel": Work(4 * (n * d + small)),
        "adam_kernel": Work(4 * 7 * (n * d + small)),
        "interest_tracking": Work(clicks * (4 * d + 5 * slot), 3 * linear + attention, length),
        "interest_enhancing": Work(clicks * (4 * d + 3 * slot), linear + attention, length),
        "interest_enhancing_backward": Work(clicks * (4 * d + 5 * slot), linear + 2.5 * attention, length),
        "interest_tracking_backward": Work(clicks * (4 * d + 8 * slot), 3 * linear + 2.5 * attention, length),
        "linear_gradients": Work(clicks * 2 * _LAYERS * slot, _LAYERS * linear),
    }


def _profiled(step: Callable[[], Any]) -> dict[str, tuple[float, int]]:
    """Return (us a step, launches a step) of every kernel that ran on the device, by name."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_STEPS):
            step()
        torch.cuda.synchronize()
    kernels: dict[str, tuple[float, int]] = {}
    for event in profile.key_averages():
        total = getattr(event, "self_device_time_total", None)
        total = event.self_cuda_time_total if total is None else total
        if total > 0:
            kernels[event.key] = total / _STEPS, round(event.count / _STEPS)
    return kernels
