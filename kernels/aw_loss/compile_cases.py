"""The variants of aw_loss's Triton kernels that compile_check compiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mtaw_fast.kernels.aw_loss import configs
from mtaw_fast.kernels.aw_loss.launchers import SCALARS
from mtaw_fast.kernels.aw_loss.negative_launchers import ROWS
from mtaw_fast.kernels.aw_loss.triton_kernels import gradients, negative_rows, negatives, rows, sums, units
from mtaw_fast.kernels.compile_case import CompileCase, PerTile

# (dtype of queries and items, dtype of the matrix products)
_DTYPES = (("fp32", "fp32"), ("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "bf16"), ("fp16", "fp16"))
_D = 100
# What training passes on a GPU, and what everything falls back to; 256: vectors that go in chunks.
_OTHER_D = {64: (("fp32", "bf16"),), 128: (("fp32", "bf16"),), 256: (("fp32", "fp32"), ("fp32", "bf16"))}
_SELDOM = {64: (("fp32", "fp32"),), 128: (("fp32", "fp32"),)}  # a training in float32
_BYTES = {"fp32": 4, "tf32x3": 4, "bf16": 2, "fp16": 2}


def compile_cases(backend: str) -> list[CompileCase]:
    """Every kernel at d = 100 in every dtype, in those of training at d = 64, 128 and 256.

    Rare: training in float32 at d = 64 and 128, tf32x3 beyond 100, `negatives=True` except training's dtypes at 100.
    """
    cases = _of_rows()
    for inputs, products in _DTYPES:
        cases += _of_dtypes(inputs, products, _D, backend)
    for d, dtypes in _OTHER_D.items():
        for inputs, products in dtypes:
            cases += _of_dtypes(inputs, products, d, backend)
    cases += _negatives("fp32", "bf16", _D, backend, plain=False)
    rare = [case for d, dtypes in _SELDOM.items() for pair in dtypes for case in _of_dtypes(*pair, d, backend)]
    rare += _negatives("fp32", "bf16", _D, backend, plain=True) + _negatives("fp32", "fp32", _D, backend, plain=False)
    for d in _OTHER_D:
        rare += _negatives("fp32", "bf16", d, backend, plain=False)
    if backend == "cuda":
        cases += _passes("fp32", "tf32x3", _D, backend)
        rare += _passes("fp32", "tf32x3", 256, backend) + _negatives("fp32", "tf32x3", _D, backend, plain=False)
    return cases + [replace(case, rare=True) for case in rare]


def _label(inputs: str, products: str, d: int) -> str:
    label = inputs if inputs == products else f"{inputs}>{products}"
    return label if d == _D else f"{label} d={d}"


def _of_rows() -> list[CompileCase]:
    """The kernels with one scalar a row."""
    cases = []
    for plain in (False, True):
        label, types = f"gamma{'=' if plain else '>'}0", "i32 fp32 fp32"
        cases += [
            _case(rows.row_losses, label, "*fp32 " * 5 + types, {"PLAIN": plain, "ROWS": SCALARS}),
            _case(negative_rows.negative_rows, label, "*fp32 " * 11 + "i32 " + types, {"PLAIN": plain, "ROWS": ROWS}),
        ]
    constants = {"ROWS": SCALARS}
    cases.append(_case(rows.gradient_scalars, "fp32", f"{'*fp32 ' * 6}i32 fp32", constants))
    cases.append(_case(negative_rows.negative_scalars, "fp32", f"{'*fp32 ' * 10}i32 fp32", constants))
    return cases


def _passes(inputs: str, products: str, d: int, backend: str) -> list[CompileCase]:
    """Return only the passes over the catalog."""
    launches, label = configs.knobs(d, products, backend), _label(inputs, products, d)
    return [
        _queries_pass(label, products, d, launches.queries, vectors=True),
        _queries_pass(f"{label} sums", products, d, launches.queries, vectors=False),
        _items_pass(label, inputs, products, d, launches.items),
    ]


def _of_dtypes(inputs: str, products: str, d: int, backend: str) -> list[CompileCase]:
    label, launches, width = _label(inputs, products, d), configs.knobs(d, products, backend), configs.width(d)
    cases = [
        *_passes(inputs, products, d, backend),
        _case(
            units.unit_rows, label, f"*{inputs} *{_kind(products)} *fp32 i32 i32",
            {"D": d, "WIDTH": width, **configs.row_tile(d)},
        ),
        _case(
            sums.finish_sums, label, f"*{inputs} *{inputs} *i64 *fp32 *fp32 *fp32 i32 i32 i32 i32 i32 i32 i32",
            {"D": d, "COLUMNS": configs.power_of_two(d), "SPLITS": configs.MAX_SPLITS}, warps=1,
        ),
        _case(
            gradients.finish_queries, label,
            f"*fp32 *fp32 *fp32 *i64 *{inputs} *fp32 *{inputs} *fp32 *{inputs} i32 i32 i32 i32 fp32 i32 i32",
            {"D": d, "WIDTH": width, **configs.split_tile(d)},
        ),
    ]  # fmt: skip
    if d > launches.items.columns:
        cases.append(
            _case(
                gradients.finish_items, label, f"*fp32 *fp32 *{inputs} *fp32 *{inputs} i32 i32",
                {"D": d, **configs.row_tile(d)},
            )
        )  # fmt: skip
    return cases


def _negatives(inputs: str, products: str, d: int, backend: str, plain: bool) -> list[CompileCase]:
    """Return the passes of negatives=True, and the kernels between them. plain: gamma = 0."""
    knobs, width = configs.knobs(d, products, backend), configs.width(d)
    label, kind = _label(inputs, products, d) + " gamma=0" * plain, _kind(products)
    first, second, third = knobs.queries, knobs.negatives, knobs.negative_items
    gradient = inputs if d <= third.columns else "fp32"
    powers = 1 if plain else 2

    def second_pass(label: str, vectors: bool) -> CompileCase:
        case = _case(
            negatives.negative_sums, label,
            f"*{kind} *{kind} *i64 *i32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 i32 i32 i32 fp32 fp32 fp32 fp32",
            {"VECTORS": vectors, "PLAIN": plain, **second.constants(width)}, second,
        )  # fmt: skip
        return replace(case, per_tile=_per_tile(products, d, second, second.items, 2 * vectors, powers))

    largest = _case(
        negatives.largest_sums, label, f"*{kind} *{kind} *i64 *fp32 *i32 *fp32 i32 i32 i32 fp32",
        first.cosines(width), first,
    )  # fmt: skip
    items = _case(
        negatives.negative_item_gradients, label,
        f"*{kind} *{kind} *i64 *i32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *{inputs} *fp32 *{gradient} "
        "i32 i32 i32 fp32 fp32",
        {"D": d, "PLAIN": plain, **third.constants(width)}, third,
    )  # fmt: skip
    return [
        replace(largest, per_tile=_per_tile(products, d, first, first.items, 0)),
        second_pass(label, vectors=True),
        second_pass(f"{label} sums", vectors=False),
        replace(items, per_tile=_per_tile(products, d, third, third.rows, 1, powers)),
        _case(
            negative_rows.finish_largest, label,
            f"*{inputs} *{inputs} *i64 *fp32 *i32 *fp32 *fp32 *i32 *fp32 *fp32 *fp32 *fp32 i32 i32 i32 fp32 i32 i32",
            {"D": d, "COLUMNS": configs.power_of_two(d), "SPLITS": configs.MAX_SPLITS}, warps=1,
        ),
        _case(
            negative_rows.finish_negative_queries, label,
            f"*fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *i64 *i32 *{inputs} *fp32 *{inputs} *fp32 *{inputs} "
            "i32 i32 i32 fp32 fp32 i32 i32",
            {"D": d, "WIDTH": width, **configs.split_tile(d)},
        ),
    ]  # fmt: skip


def _queries_pass(label: str, products: str, d: int, launch: configs.Launch, vectors: bool) -> CompileCase:
    case = _case(
        sums.partial_sums, label,
        f"*{_kind(products)} *{_kind(products)} *i64 *fp32 *fp32 i32 i32 i32 i32 fp32",
        {"VECTORS": vectors, **launch.constants(configs.width(d))}, launch,
    )  # fmt: skip
    per_tile = _per_tile(products, d, launch, launch.items, vectors)
    return replace(case, per_tile=per_tile)


def _items_pass(label: str, inputs: str, products: str, d: int, launch: configs.Launch) -> CompileCase:
    gradient = inputs if d <= launch.columns else "fp32"
    case = _case(
        gradients.item_gradients, label,
        f"*{_kind(products)} *{_kind(products)} *i64 *fp32 *fp32 *fp32 *{inputs} *fp32 "
        f"*{gradient} i32 i32 i32 i32 fp32",
        {"D": d, **launch.constants(configs.width(d))}, launch,
    )  # fmt: skip
    per_tile = _per_tile(products, d, launch, launch.rows, True)
    return replace(case, per_tile=per_tile)


def _kind(products: str) -> str:
    """Type of the unit vectors."""
    return "fp32" if products == "tf32x3" else products


def _per_tile(products: str, d: int, launch: configs.Launch, loaded: int, sums: int, powers: int = 1) -> PerTile | None:
    """README's formulas: a tile's exponentials, and its products of padded depth, the cosines' and the vectors'.

    loaded: vectors that a trip loads, of those the products sum over. sums: how many sums of vectors. powers:
    exponentials an entry. None in float32, whose products are not the tensor cores'.
    """
    if products == "fp32":
        return None
    entries, size, chunk = launch.rows * launch.items, _BYTES[products], None
    # Of an instruction of tf32: 8 columns; three for each product.
    times, step = (3, 8) if products == "tf32x3" else (1, 16)
    depth = launch.depth
    if d > depth:
        copied = (launch.rows + launch.items) * depth * size
        chunk = PerTile(0, times * entries * depth, times * (depth // step), copied)
        depth = -(-d // depth) * depth
    columns = depth + sums * launch.columns
    steps = times * (depth // step + sums * (loaded // step))
    return PerTile(powers * entries, times * entries * columns, steps, loaded * launch.columns * size, chunk)


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
