"""How the Adam kernels are launched, and why so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtaw_fast.kernels.compile_case import CompileCase


@dataclass(frozen=True, slots=True)
class AdamLaunch:
    """Launch settings of the AdamW kernels.

    block: weights that a program updates. sum_block: gradients that a program squares and sums. num_warps: warps of
    both.

    The update is bound by memory: 16 bytes read and 12 written a weight. 1024 weights on 4 warps give a thread 8
    of them, two 16-byte loads an array. Not measured on a GPU.
    partials_block: partial sums that the one program of the scalar kernel adds at a time.
    """

    block: int = 1024
    sum_block: int = 4096
    partials_block: int = 1024
    num_warps: int = 4
    num_stages: int = 1


DEFAULT = AdamLaunch()


def compile_cases(backend: str) -> list[CompileCase]:
    """What `compile_check` compiles: every kernel in its default launch."""
    from mtaw_fast.kernels.adam.triton_kernels import gradient_norm, update

    del backend  # the same on every architecture
    launch = DEFAULT

    def case(kernel: Any, signature: str, constants: dict[str, Any]) -> CompileCase:
        names = [name for name in kernel.arg_names if name not in constants]
        types = dict(zip(names, signature.split(), strict=True))
        return CompileCase("adam", kernel, "fp32", types, constants, launch.num_warps, launch.num_stages)

    scalars = {"LOG_BETA1": -0.1, "LOG_BETA2": -0.001, "CLIP": True, "BLOCK": launch.partials_block}
    weights = {"BETA1": 0.9, "BETA2": 0.999, "BLOCK": launch.block}
    return [
        case(gradient_norm.square_sums_kernel, "*fp32 *fp32 i64", {"BLOCK": launch.sum_block}),
        case(gradient_norm.scalars_kernel, "*fp32 i32 *fp32 *fp32 *i1 *fp32 fp32 fp32", scalars),
        case(update.adam_kernel, "*fp32 *fp32 *fp32 *fp32 *fp32 *i1 i64 fp32", weights),
    ]
