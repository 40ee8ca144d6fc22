"""The kernels as training launches them by default, for `compile_check`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mtaw_fast.kernels.compile_case import CompileCase
from mtaw_fast.kernels.prefix_interest import configs

_D = 100
_OTHER_D = (64, 128)  # in the types of training
# (label, dtype of clicks and weights, compute dtype); fp16 compiles to the code of bf16 with other instructions
_DTYPES = (
    ("fp32", torch.float32, torch.float32),
    ("fp32>bf16", torch.float32, torch.bfloat16),
    ("bf16", torch.bfloat16, torch.bfloat16),
)
_TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
_BY_NAME = {
    "seed": "*i64", "slot_click": "*i32", "slot_begin": "*i32", "tile_range": "*i32",
    "softmax_out": "*fp32", "softmax": "*fp32", "itl_softmax": "*fp32",
    "mean_slope": "*fp32", "mean_slope_out": "*fp32", "itl_mean_slope_out": "*fp32", "d_norm_out": "*fp32",
    "parts_out": "*fp32", "parts": "*fp32",
    "click_threshold": "i32", "ffn_threshold": "i32", "n_slots": "i32", "slots_a_part": "i32", "n_parts": "i32",
    "size": "i32", "click_factor": "fp32", "ffn_factor": "fp32", "scale": "fp32", "eps": "fp32",
}  # fmt: skip
_OF_THE_CALLER = {"clicks", "d_clicks_out", "d_out", "out"}  # as are all weights and biases


def compile_cases(backend: str) -> list[CompileCase]:
    """Every kernel in every pair of dtypes at d = 100, and in those of training at d = 64 and 128; both dropouts.

    Rare: a training in float32 at d = 64 and 128. Beyond 128 the op refuses.
    """
    hip = backend == "hip"
    cases = [case for dtypes in _DTYPES for case in _cases(*dtypes, _D, hip)]
    for d in _OTHER_D:
        cases += _cases(f"fp32>bf16 d={d}", torch.float32, torch.bfloat16, d, hip)
        cases += [replace(case, rare=True) for case in _cases(f"fp32 d={d}", torch.float32, torch.float32, d, hip)]
    return cases


def _cases(label: str, inputs: torch.dtype, compute: torch.dtype, d: int, hip: bool) -> list[CompileCase]:
    from mtaw_fast.kernels.prefix_interest.triton_kernels import backward, forward, weight_gradients

    columns, tile, weight = configs.padded(d), configs.tile_config(compute, hip), configs.WEIGHT[compute]
    constants = {
        "CLICK_DROPOUT": True, "FFN_DROPOUT": True,
        "M": configs.DEFAULT_TILE_CLICKS, "PART": configs.part_of(tile, columns), "d": d, "D": columns,
        "STEP": weight.step, "ROWS": weight.rows, "BLOCK": configs.ADD_BLOCK,
    }  # fmt: skip

    def case(kernel: Any, config: configs.TileConfig | configs.WeightConfig) -> CompileCase:
        names = [name for name in kernel.arg_names if name not in constants]
        types = {name: _type_of(name, inputs, compute) for name in names}
        if kernel is weight_gradients.add_parts:
            types["out"] = "*fp32"
        used = {name: value for name, value in constants.items() if name in kernel.arg_names}
        by_number = kernel is forward.interest_tracking  # clicks go to their slots in a loop
        return CompileCase(
            "prefix_interest", kernel, label, types, used, config.num_warps, config.num_stages, gathers=by_number
        )

    by_tile = (
        forward.interest_tracking,
        forward.interest_enhancing,
        backward.interest_enhancing_slopes,
        backward.interest_enhancing_backward,
        backward.interest_tracking_backward,
    )
    return [
        *(case(kernel, tile) for kernel in by_tile),
        case(weight_gradients.linear_gradients, weight),
        case(weight_gradients.add_parts, weight),
    ]


def _type_of(name: str, inputs: torch.dtype, compute: torch.dtype) -> str:
    if name in _BY_NAME:
        return _BY_NAME[name]
    of_the_caller = name in _OF_THE_CALLER or name.endswith(("_weight", "_bias"))
    return "*" + _TYPES[inputs if of_the_caller else compute]
