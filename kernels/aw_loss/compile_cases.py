"""The variants of aw_loss's Triton kernels that compile_check compiles."""

from __future__ import annotations

from typing import Any

from mtaw_fast.kernels.aw_loss import configs
from mtaw_fast.kernels.aw_loss.launchers import SCALARS
from mtaw_fast.kernels.aw_loss.triton_kernels import gradients, rows, sums, units
from mtaw_fast.kernels.compile_case import CompileCase

# (dtype of queries and items, dtype of the matrix products)
_DTYPES = (("fp32", "fp32"), ("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "bf16"), ("fp16", "fp16"))
_D = 100
# Vectors that go in chunks.
_WIDE_D = 300
_WIDE_DTYPES = (("fp32", "fp32"), ("fp32", "bf16"))


def compile_cases(backend: str) -> list[CompileCase]:
    """Every kernel at d = 100 in every dtype, and those that see d in chunks at a d that needs them."""
    cases = [
        _case(
            rows.row_losses, f"gamma{'=' if plain else '>'}0", "*fp32 *fp32 *fp32 *fp32 *fp32 i32 fp32 fp32 fp32",
            {"PLAIN": plain, "ROWS": SCALARS},
        )
        for plain in (False, True)
    ]  # fmt: skip
    cases.append(
        _case(rows.gradient_scalars, "fp32", "*fp32 *fp32 *fp32 *fp32 *fp32 *fp32 i32 fp32", {"ROWS": SCALARS})
    )
    for given, products in _DTYPES:
        cases += _of_dtypes(given, products, _D, backend)
        if (given, products) in _WIDE_DTYPES:
            cases += _of_dtypes(given, products, _WIDE_D, backend)
    return cases


def _of_dtypes(given: str, products: str, d: int, backend: str) -> list[CompileCase]:
    label = given if given == products else f"{given}>{products}"
    label = label if d == _D else f"{label} d={d}"
    knobs = configs.knobs(d, products, backend)
    whole = configs.power_of_two(d)
    units_and_targets = f"*{products} *{products} *i64"
    by_items = given if d <= knobs.items.columns else "fp32"
    return [
        _case(units.unit_rows, label, f"*{given} *{products} *fp32 i32 i32", {"D": d, **configs.row_tile(d)}),
        _case(
            sums.partial_sums, label, f"{units_and_targets} *fp32 i32 i32 i32 i32 fp32",
            knobs.sums.constants(d, gradient=False), knobs.sums,
        ),
        _case(
            sums.finish_sums, label, f"*{given} *{given} *i64 *fp32 *fp32 *fp32 i32 i32 i32 i32 i32 i32 i32",
            {"D": d, "COLUMNS": whole, "SPLITS": configs.MAX_SPLITS}, warps=1,
        ),
        _case(
            gradients.query_gradients, label, f"{units_and_targets} *fp32 *fp32 *fp32 i32 i32 i32 i32 fp32",
            knobs.queries.constants(d), knobs.queries,
        ),
        _case(
            gradients.item_gradients, label,
            f"{units_and_targets} *fp32 *fp32 *fp32 *{given} *fp32 *{by_items} i32 i32 i32 i32 fp32",
            knobs.items.constants(d), knobs.items,
        ),
        _case(
            gradients.finish_gradients, label, f"*fp32 *fp32 *{given} *fp32 *{given} i32 i32 i32",
            {"D": d, **configs.split_tile(d)},
        ),
    ]  # fmt: skip


def _case(
    kernel: Any,
    label: str,
    signature: str,
    constants: dict[str, Any],
    launch: configs.Launch | None = None,
    warps: int = 4,
) -> CompileCase:
    names = [name for name in kernel.arg_names if name not in constants]
    types = dict(zip(names, signature.split(), strict=True))
    if launch is None:
        return CompileCase("aw_loss", kernel, label, types, constants, warps, 3)
    return CompileCase("aw_loss", kernel, label, types, constants, launch.warps, launch.stages)
