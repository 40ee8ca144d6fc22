"""The variants of aw_loss's Triton kernels that compile_check compiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mtaw_fast.kernels.aw_loss import configs
from mtaw_fast.kernels.aw_loss.launchers import SCALARS
from mtaw_fast.kernels.aw_loss.triton_kernels import gradients, negative_rows, negatives, rows, sums, units
from mtaw_fast.kernels.compile_case import CompileCase, PerTile

# (dtype of queries and items, dtype of the matrix products)
_DTYPES = (("fp32", "fp32"), ("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "bf16"), ("fp16", "fp16"))
_D = 100
# What training passes on a GPU, and what everything falls back to; 256: vectors that go in chunks.
_OTHER_D = {64: (("fp32", "bf16"),), 128: (("fp32", "bf16"),), 256: (("fp32", "fp32"), ("fp32", "bf16"))}
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def compile_cases(backend: str) -> list[CompileCase]:
    """Every kernel at d = 100 in every dtype, in those of training at d = 64, 128 and 256, and every other tile."""
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
    cases += [
        _case(
            negative_rows.negative_rows, f"gamma{'=' if plain else '>'}0", " ".join(["*fp32"] * 11)
            + " i32 i32 fp32 fp32 fp32", {"PLAIN": plain, "ROWS": SCALARS},
        )
        for plain in (False, True)
    ]  # fmt: skip
    cases.append(
        _case(
            negative_rows.negative_scalars, "fp32", " ".join(["*fp32"] * 10) + " i32 fp32", {"ROWS": SCALARS}
        )
    )
    for given, products in _DTYPES:
        cases += _of_dtypes(given, products, _D, backend)
    for d, dtypes in _OTHER_D.items():
        for given, products in dtypes:
            cases += _of_dtypes(given, products, d, backend)
    return cases + (_other_tiles("fp32", "bf16", _D, backend) if backend == "cuda" else [])


def _of_dtypes(given: str, products: str, d: int, backend: str) -> list[CompileCase]:
    label = given if given == products else f"{given}>{products}"
    label = label if d == _D else f"{label} d={d}"
    launches = configs.knobs(d, products, backend)
    width = configs.width(d)
    cases = [
        _case(
            units.unit_rows, label, f"*{given} *{products} *fp32 i32 i32",
            {"D": d, "WIDTH": width, **configs.row_tile(d)},
        ),
        _queries_pass(label, products, d, launches.queries, vectors=True),
        _queries_pass(f"{label} sums", products, d, launches.queries, vectors=False),
        _case(
            sums.finish_sums, label, f"*{given} *{given} *i64 *fp32 *fp32 *fp32 i32 i32 i32 i32 i32 i32 i32",
            {"D": d, "COLUMNS": configs.power_of_two(d), "SPLITS": configs.MAX_SPLITS}, warps=1,
        ),
        _case(
            gradients.finish_queries, label,
            f"*fp32 *fp32 *fp32 *i64 *{given} *fp32 *{given} *fp32 *{given} i32 i32 i32 i32 fp32 i32 i32",
            {"D": d, "WIDTH": width, **configs.split_tile(d)},
        ),
        _items_pass(label, given, products, d, launches.items),
    ]  # fmt: skip
    if d > launches.items.columns:
        cases.append(
            _case(
                gradients.finish_items, label, f"*fp32 *fp32 *{given} *fp32 *{given} i32 i32",
                {"D": d, **configs.row_tile(d)},
            )
        )  # fmt: skip
    return cases


def _negatives(given: str, products: str, d: int, backend: str, label: str, plain: bool) -> list[CompileCase]:
    """The passes of negatives=True, and what lies between them."""
    knobs, width = configs.knobs(d, products, backend), configs.width(d)
    first, second, third = knobs.queries, knobs.negatives, knobs.negative_items
    gradient = given if d <= third.columns else "fp32"
    powers = 1 if plain else 2

    def second_pass(label: str, vectors: bool) -> CompileCase:
        case = _case(
            negatives.negative_sums, label,
            f"*{products} *{products} *i64 *i32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 i32 i32 i32 fp32 fp32 fp32 fp32",
            {"VECTORS": vectors, "PLAIN": plain, **second.constants(width)}, second,
        )  # fmt: skip
        return replace(case, per_tile=_per_tile(products, d, second, second.items, 2 * vectors, powers))

    largest = _case(
        negatives.largest_sums, label, f"*{products} *{products} *i64 *fp32 *i32 *fp32 i32 i32 i32 fp32",
        first.constants(width), first,
    )  # fmt: skip
    items = _case(
        negatives.negative_item_gradients, label,
        f"*{products} *{products} *i64 *i32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *{given} *fp32 *{gradient} "
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
            f"*{given} *{given} *i64 *fp32 *i32 *fp32 *fp32 *i32 *fp32 *fp32 *fp32 *fp32 i32 i32 i32 fp32 i32 i32",
            {"D": d, "COLUMNS": configs.power_of_two(d), "SPLITS": configs.MAX_SPLITS}, warps=1,
        ),
        _case(
            negative_rows.finish_negative_queries, label,
            f"*fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *i64 *i32 *{given} *fp32 *{given} *fp32 *{given} "
            "i32 i32 i32 fp32 fp32 i32 i32",
            {"D": d, "WIDTH": width, **configs.split_tile(d)},
        ),
    ]  # fmt: skip


def _other_tiles(given: str, products: str, d: int, backend: str) -> list[CompileCase]:
    """The tiles of configs that are not chosen."""
    first_queries, first_items = configs.CHOSEN
    by_queries = [
        _queries_pass(
            f"{products} {tile}", products, d, configs.knobs(d, products, backend, (tile, first_items)).queries, True
        )
        for tile in configs.QUERIES_TILES
        if tile != first_queries
    ]
    by_items = [
        _items_pass(
            f"{products} {tile}", given, products, d, configs.knobs(d, products, backend, (first_queries, tile)).items
        )
        for tile in configs.ITEMS_TILES
        if tile != first_items
    ]
    return by_queries + by_items


def _queries_pass(label: str, products: str, d: int, launch: configs.Launch, vectors: bool) -> CompileCase:
    case = _case(
        sums.partial_sums, label, f"*{products} *{products} *i64 *fp32 *fp32 i32 i32 i32 i32 fp32",
        {"VECTORS": vectors, **launch.constants(configs.width(d))}, launch,
    )  # fmt: skip
    return replace(case, per_tile=_per_tile(products, d, launch, launch.items, vectors))


def _items_pass(label: str, given: str, products: str, d: int, launch: configs.Launch) -> CompileCase:
    gradient = given if d <= launch.columns else "fp32"
    case = _case(
        gradients.item_gradients, label,
        f"*{products} *{products} *i64 *fp32 *fp32 *fp32 *{given} *fp32 *{gradient} i32 i32 i32 i32 fp32",
        {"D": d, **launch.constants(configs.width(d))}, launch,
    )  # fmt: skip
    return replace(case, per_tile=_per_tile(products, d, launch, launch.rows, True))


def _per_tile(
    products: str, d: int, launch: configs.Launch, loaded: int, sums: int, powers: int = 1
) -> PerTile | None:
    """README's formulas: a tile's exponentials, and its products of padded depth, the cosines' and the vectors'.

    loaded: vectors that a trip loads, of those the products sum over. sums: how many sums of vectors. powers:
    exponentials an entry. None in float32, whose products are not the tensor cores', and for vectors in chunks, whose
    trips are shared by two loops.
    """
    if products == "fp32" or d > launch.depth:
        return None
    entries = launch.rows * launch.items
    columns = launch.depth + sums * launch.columns
    steps = launch.depth // 16 + sums * (loaded // 16)
    return PerTile(powers * entries, entries * columns, steps, loaded * launch.depth * _BYTES[products])


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
