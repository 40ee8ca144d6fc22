"""Forward: sums over the catalog, of exponentials and of the items weighted by them, and the target's cosine."""

import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss.triton_kernels.tiles import chunked_dot, load_targets, load_tile, shifted_exp
from mtaw_fast.kernels.aw_loss.triton_kernels.units import inverse_norm
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow

# fp16's entries are scaled so that a row's largest lies between 2^14 and 2^15, of the 65504 it holds.
LIFT = tl.constexpr(16384.0)
SMALLEST_POWER = tl.constexpr(2.0**-100)  # below every exp(z - scale / 2): scale is at most 40


@triton.jit(do_not_specialize=["n_rows", "n_items", "first_item", "tiles_a_split"])
def partial_sums(
    queries_p,  # unit queries [n_rows, WIDTH]
    items_p,  # unit items [n_items, WIDTH]
    targets_p,  # int64[n_rows]
    partials_p,  # float32[splits, n_rows]
    vectors_p,  # float32[splits, n_rows, WIDTH]; without VECTORS not touched
    n_rows,
    n_items,
    first_item,
    tiles_a_split,
    scale_log2e,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    VECTORS: tl.constexpr,
):
    """partials[s, b] = sum of P = exp(z - scale / 2) over the items of split s without b's target.

    VECTORS: also vectors[s, b] = the sum of P_i e_i over them, COLUMNS columns a program: all that the gradient by the
    queries needs of the catalog. PRECISION: of `dot`.
    """
    i_rows, i_split, i_columns = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    rows = i_rows * ROWS + tl.arange(0, ROWS)
    m_rows = rows < n_rows
    dtype: tl.constexpr = queries_p.dtype.element_ty
    targets = load_targets(targets_p, rows, n_rows, first_item, n_items)
    if WIDTH <= DEPTH:
        queries = load_tile(queries_p, rows, n_rows, WIDTH, 0, WIDTH, DEPTH)
    sums = tl.zeros((ROWS,), tl.float32)
    if VECTORS:
        vectors = tl.zeros((ROWS, COLUMNS), tl.float32)
        power = tl.full((ROWS,), SMALLEST_POWER, tl.float32)
    last_tile = tl.minimum((i_split + 1) * tiles_a_split, tl.cdiv(n_items, ITEMS))
    for tile in range(i_split * tiles_a_split, last_tile):
        items = tile * ITEMS + tl.arange(0, ITEMS)
        if VECTORS or WIDTH <= DEPTH:
            item_tile = load_tile(items_p, items, n_items, WIDTH, i_columns * COLUMNS, WIDTH, COLUMNS)
        if WIDTH <= DEPTH:
            cosines = dot(queries, tl.trans(item_tile), tl.zeros((ROWS, ITEMS), tl.float32), PRECISION)
        else:
            cosines = chunked_dot(
                queries_p, rows, n_rows, items_p, items, n_items, WIDTH, ROWS, ITEMS, DEPTH, PRECISION
            )
        others = (items[None, :] != targets[:, None]) & (items < n_items)[None, :]
        exps = tl.where(others, shifted_exp(cosines, scale_log2e), 0.0)
        sums += tl.sum(exps, axis=1)
        if VECTORS:
            if dtype == tl.float16:
                # exp(z - scale / 2) goes up to e^20: entries are in units of the row's largest so far. Powers of two,
                # so that neither the units nor their changes round anything.
                larger = tl.maximum(power, power_below(tl.max(exps, axis=1)))
                rise = (power / larger)[:, None]
                vectors *= rise
                power = larger
                exps *= (1.0 / power * LIFT)[:, None]
            entries = narrow(exps, dtype)
            vectors = dot(entries, item_tile, vectors, PRECISION)
    if i_columns == 0:
        tl.store(partials_p + i_split.to(tl.int64) * n_rows + rows, sums, mask=m_rows)
    if VECTORS:
        unit = tl.full((ROWS,), 1.0, tl.float32)
        if dtype == tl.float16:
            unit = power / LIFT
        split_rows = i_split.to(tl.int64) * n_rows + rows
        columns = i_columns * COLUMNS + tl.arange(0, COLUMNS)
        offsets = split_rows[:, None] * WIDTH + columns[None, :]
        mask = m_rows[:, None] & (columns < WIDTH)[None, :]
        tl.store(vectors_p + offsets, vectors * unit[:, None], mask=mask)


@triton.jit
def power_below(x):
    """The largest power of two that is at most x, for normal float32 x >= 0: its exponent bits alone."""
    return (x.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["n_rows", "n_items", "first_item", "catalog_size"])
def finish_sums(
    queries_p,  # [n_rows, D], rows query_stride apart
    items_p,  # [n_items, D], rows item_stride apart
    targets_p,  # int64[n_rows]
    partials_p,  # float32[splits, n_rows]
    others_p,  # float32[n_rows]
    target_cosines_p,  # float32[n_rows]
    n_rows,
    n_items,
    first_item,
    catalog_size,
    splits,
    query_stride,
    item_stride,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """A row a program: others = the sum of its partials in one order; the target's cosine in float32."""
    row = tl.program_id(0)
    i_split = tl.arange(0, SPLITS)
    partials = tl.load(partials_p + i_split.to(tl.int64) * n_rows + row, mask=i_split < splits, other=0.0)
    tl.store(others_p + row, tl.sum(partials, axis=0))

    # Blocks of one row: the interpreter cannot combine masks of a scalar and a block.
    rows = row + tl.arange(0, 1)
    cosines = target_cosine(
        queries_p, items_p, targets_p, rows, first_item, n_items, catalog_size, query_stride, item_stride, D, COLUMNS
    )
    tl.store(target_cosines_p + rows, cosines)


@triton.jit
def target_cosine(
    queries_p, items_p, targets_p, rows, first_item, n_items, catalog_size, query_stride, item_stride,
    D: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """float32 cosines of a block of rows and their targets: 0 where a target is in another slice, NaN where in none."""
    columns = tl.arange(0, COLUMNS)[None, :]
    targets = tl.load(targets_p + rows)
    exist = (targets >= 0) & (targets < catalog_size)
    numbers = targets - first_item
    in_slice = (numbers >= 0) & (numbers < n_items)
    query_p = queries_p + rows.to(tl.int64)[:, None] * query_stride + columns
    item_p = items_p + numbers[:, None] * item_stride + columns
    query = tl.load(query_p, mask=columns < D, other=0.0).to(tl.float32)
    item = tl.load(item_p, mask=(columns < D) & in_slice[:, None], other=0.0).to(tl.float32)
    cosines = tl.sum(query * item, axis=1) * inverse_norm(query) * inverse_norm(item)
    return tl.where(exist, cosines, float("nan"))
