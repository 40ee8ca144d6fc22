"""Backward: the items' gradient by a pass over B x N tiles of recomputed cosines, the queries' from forward's sums."""

import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss.triton_kernels.tiles import chunked_dot, load_targets, load_tile, shifted_exp
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow


@triton.jit(do_not_specialize=["n_rows", "n_items", "first_item"])
def item_gradients(
    queries_p,  # unit queries [n_rows, WIDTH]
    items_p,  # unit items [n_items, WIDTH]
    targets_p,  # int64[n_rows]
    factors_p,  # float32[n_rows]
    target_entries_p,  # float32[n_rows]
    unit_p,  # float32[1]
    vectors_p,  # the items as given, [n_items, D], rows vector_stride apart
    inverse_norms_p,  # float32[n_items]
    gradients_p,  # [n_items, D]
    n_rows,
    n_items,
    first_item,
    vector_stride,
    scale_log2e,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient by the items: softmax and targets' part in one sum over the rows, ascending.

    Where COLUMNS holds a whole vector, it goes through the norm into `gradients`; else `finish_items` does that, and
    `gradients` takes the gradient by the unit items, in `unit`s.
    """
    i_items, i_columns = tl.program_id(0), tl.program_id(1)
    items = i_items * ITEMS + tl.arange(0, ITEMS)
    dtype: tl.constexpr = items_p.dtype.element_ty
    if WIDTH <= DEPTH:
        item_tile = load_tile(items_p, items, n_items, WIDTH, 0, WIDTH, DEPTH)
    gradient = tl.zeros((ITEMS, COLUMNS), tl.float32)
    for first in range(0, n_rows, ROWS):
        rows = first + tl.arange(0, ROWS)
        m_rows = rows < n_rows
        targets = load_targets(targets_p, rows, n_rows, first_item, n_items)
        factors = tl.load(factors_p + rows, mask=m_rows, other=0.0)
        target_entries = tl.load(target_entries_p + rows, mask=m_rows, other=0.0)
        queries = load_tile(queries_p, rows, n_rows, WIDTH, i_columns * COLUMNS, WIDTH, COLUMNS)
        if WIDTH <= DEPTH:
            cosines = dot(item_tile, tl.trans(queries), tl.zeros((ITEMS, ROWS), tl.float32), PRECISION)
        else:
            cosines = chunked_dot(
                items_p, items, n_items, queries_p, rows, n_rows, WIDTH, ITEMS, ROWS, DEPTH, PRECISION
            )
        # Rows beyond n_rows have a factor of 0; items beyond n_items are not stored.
        entries = factors[None, :] * shifted_exp(cosines, scale_log2e)
        entries = tl.where(items[:, None] == targets[None, :], target_entries[None, :], entries)
        entries = narrow(entries, dtype)
        gradient = dot(entries, queries, gradient, PRECISION)
    m_items = items < n_items
    if D <= COLUMNS:
        gradient *= tl.load(unit_p)
        inverse = tl.load(inverse_norms_p + items, mask=m_items, other=0.0)[:, None]
        unit_vectors = load_tile(vectors_p, items, n_items, vector_stride, 0, D, COLUMNS).to(tl.float32) * inverse
        gradient = through_norm(gradient, unit_vectors, inverse)
    columns = i_columns * COLUMNS + tl.arange(0, COLUMNS)
    offsets = items.to(tl.int64)[:, None] * D + columns[None, :]
    mask = m_items[:, None] & (columns < D)[None, :]
    tl.store(gradients_p + offsets, narrow(gradient, gradients_p.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["n_rows"])
def finish_items(
    sums_p,  # float32[n_rows, D]
    unit_p,  # float32[1]
    vectors_p,  # [n_rows, D], rows vector_stride apart
    inverse_norms_p,  # float32[n_rows]
    gradients_p,  # [n_rows, D]
    n_rows,
    vector_stride,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Whole rows of what `item_gradients` left in COLUMNS at a time, through the norm."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    offsets = rows.to(tl.int64)[:, None] * D + columns[None, :]
    mask = (rows < n_rows)[:, None] & (columns < D)[None, :]
    gradient = tl.load(sums_p + offsets, mask=mask, other=0.0) * tl.load(unit_p)
    inverse = tl.load(inverse_norms_p + rows, mask=rows < n_rows, other=0.0)[:, None]
    unit_vectors = load_tile(vectors_p, rows, n_rows, vector_stride, 0, D, COLUMNS).to(tl.float32) * inverse
    gradient = through_norm(gradient, unit_vectors, inverse)
    tl.store(gradients_p + offsets, narrow(gradient, gradients_p.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["n_rows", "n_items", "first_item", "splits", "scale"])
def finish_queries(
    vectors_p,  # float32[splits, n_rows, WIDTH], of `partial_sums`
    d_others_p,  # float32[n_rows]
    d_cosines_p,  # float32[n_rows]
    targets_p,  # int64[n_rows]
    items_p,  # the items as given, [n_items, D], rows item_stride apart
    item_norms_p,  # float32[n_items], inverse
    queries_p,  # the queries as given, [n_rows, D], rows query_stride apart
    query_norms_p,  # float32[n_rows], inverse
    gradients_p,  # [n_rows, D]
    n_rows,
    n_items,
    first_item,
    splits,
    scale,
    query_stride,
    item_stride,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """The gradient by the queries, a row a program: d_others scale sum P_i e_i + d_cosine e_target, through the norm.

    The splits' sums are added in one order; the target's vector is the float32 one, as it was for its cosine.
    """
    rows = tl.program_id(0) + tl.arange(0, 1)
    columns = tl.arange(0, COLUMNS)[None, :]
    m_columns = columns < D
    sums = tl.zeros((1, COLUMNS), tl.float32)
    i_split = tl.arange(0, SPLITS)[:, None]
    offsets = (i_split.to(tl.int64) * n_rows + tl.program_id(0)) * WIDTH + columns
    step = tl.full((1, 1), SPLITS * WIDTH, tl.int64) * n_rows
    for first in range(0, splits, SPLITS):
        parts = tl.load(vectors_p + offsets, mask=(first + i_split < splits) & m_columns, other=0.0)
        sums += tl.sum(parts, axis=0)[None, :]
        offsets += step
    numbers = tl.load(targets_p + rows) - first_item
    in_slice = (numbers >= 0) & (numbers < n_items)
    target = load_unit_rows(items_p, item_norms_p, numbers, in_slice, item_stride, D, COLUMNS)
    d_cosine = tl.where(in_slice, tl.load(d_cosines_p + rows), 0.0)
    gradient = (tl.load(d_others_p + rows) * scale)[:, None] * sums + d_cosine[:, None] * target
    inverse = tl.load(query_norms_p + rows)[:, None]
    query_p = queries_p + rows.to(tl.int64)[:, None] * query_stride + columns
    unit_query = tl.load(query_p, mask=m_columns, other=0.0).to(tl.float32) * inverse
    gradient = through_norm(gradient, unit_query, inverse)
    gradient_p = gradients_p + rows.to(tl.int64)[:, None] * D + columns
    tl.store(gradient_p, narrow(gradient, gradients_p.dtype.element_ty), mask=m_columns)


@triton.jit
def load_unit_rows(vectors_p, inverse_norms_p, rows, m_rows, stride, D: tl.constexpr, COLUMNS: tl.constexpr):
    """float32[len(rows), COLUMNS] unit vectors of rows (int64) of the vectors as given; 0 where masked and beyond D."""
    columns = tl.arange(0, COLUMNS)[None, :]
    mask = m_rows[:, None] & (columns < D)
    vectors = tl.load(vectors_p + rows[:, None] * stride + columns, mask=mask, other=0.0).to(tl.float32)
    return vectors * tl.load(inverse_norms_p + rows, mask=m_rows, other=0.0)[:, None]


@triton.jit
def through_norm(gradient, unit_vectors, inverse_norms):
    """Gradient by v of a function of unit = v / |v|, from the gradient by unit: [R, COLUMNS]."""
    along = tl.sum(gradient * unit_vectors, axis=1)[:, None]
    return (gradient - along * unit_vectors) * inverse_norms
