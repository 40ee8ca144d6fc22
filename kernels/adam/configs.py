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

    def case(kernel: Any, signature: dict[str, str], constants: dict[str, Any]) -> CompileCase:
        return CompileCase("adam", kernel, "fp32", signature, constants, launch.num_warps, launch.num_stages)

    return [
        case(
            gradient_norm.square_sums_kernel,
            {"gradients": "*fp32", "partials": "*fp32", "n": "i64"},
            {"BLOCK": launch.sum_block},
        ),
        case(
            gradient_norm.scalars_kernel,
            {
                "partials": "*fp32",
                "n_partials": "i32",
                "step": "*fp32",
                "learning_rate": "*fp32",
                "apply": "*i1",
                "scalars": "*fp32",
                "weight_decay": "fp32",
                "clip_norm": "fp32",
            },
            {"LOG_BETA1": -0.1, "LOG_BETA2": -0.001, "CLIP": True, "BLOCK": launch.partials_block},
        ),
        case(
            update.adam_kernel,
            {
                "weights": "*fp32",
                "gradients": "*fp32",
                "first_moments": "*fp32",
                "second_moments": "*fp32",
                "scalars": "*fp32",
                "apply": "*i1",
                "n": "i64",
                "eps": "fp32",
            },
            {"BETA1": 0.9, "BETA2": 0.999, "BLOCK": launch.block},
        ),
    ]
