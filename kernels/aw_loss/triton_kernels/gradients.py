"""Backward: both gradients by passes over B x N tiles of recomputed cosines, each summed in one order, no atomics."""

import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss.triton_kernels.tiles import chunked_dot, load_targets, load_tile, shifted_exp
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow


@triton.jit(do_not_specialize=["n_rows", "n_items", "first_item", "tiles_a_split"])
def query_gradients(
    queries_p,  # unit queries [n_rows, D]
    items_p,  # unit items [n_items, D]
    targets_p,  # int64[n_rows]
    factors_p,  # float32[n_rows]
    target_entries_p,  # float32[n_rows]
    partials_p,  # float32[splits, n_rows, D]
    n_rows,
    n_items,
    first_item,
    tiles_a_split,
    scale_log2e,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """partials[s, b] = the part of split s of the gradient by unit query b, in `unit`s; COLUMNS columns a program."""
    i_rows, i_split, i_columns = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    rows = i_rows * ROWS + tl.arange(0, ROWS)
    m_rows = rows < n_rows
    targets = load_targets(targets_p, rows, n_rows, first_item, n_items)
    factors = tl.load(factors_p + rows, mask=m_rows, other=0.0)
    target_entries = tl.load(target_entries_p + rows, mask=m_rows, other=0.0)
    if D <= DEPTH:
        queries = load_tile(queries_p, rows, n_rows, D, 0, D, DEPTH)
    gradient = tl.zeros((ROWS, COLUMNS), tl.float32)
    last_tile = tl.minimum((i_split + 1) * tiles_a_split, tl.cdiv(n_items, ITEMS))
    for tile in range(i_split * tiles_a_split, last_tile):
        items = tile * ITEMS + tl.arange(0, ITEMS)
        item_tile = load_tile(items_p, items, n_items, D, i_columns * COLUMNS, D, COLUMNS)
        if D <= DEPTH:
            cosines = dot(queries, tl.trans(item_tile), tl.zeros((ROWS, ITEMS), tl.float32))
        else:
            cosines = chunked_dot(queries_p, rows, n_rows, items_p, items, n_items, D, ROWS, ITEMS, DEPTH)
        entries = factors[:, None] * shifted_exp(cosines, scale_log2e)
        entries = tl.where(items[None, :] == targets[:, None], target_entries[:, None], entries)
        # Beyond the catalog a cosine of 0 can be out of all proportion to the row's: infinite in fp16, and inf * 0.
        entries = tl.where((items < n_items)[None, :], entries, 0.0)
        gradient = dot(narrow(entries, items_p.dtype.element_ty), item_tile, gradient)
    columns = i_columns * COLUMNS + tl.arange(0, COLUMNS)
    offsets = (i_split.to(tl.int64) * n_rows + rows)[:, None] * D + columns[None, :]
    tl.store(partials_p + offsets, gradient, mask=m_rows[:, None] & (columns < D)[None, :])


@triton.jit(do_not_specialize=["n_rows", "n_items", "first_item"])
def item_gradients(
    queries_p,  # unit queries [n_rows, D]
    items_p,  # unit items [n_items, D]
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
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradient by the items: softmax and targets' part in one sum over the rows, ascending.

    Where COLUMNS holds a whole vector it goes through the norm into `gradients`; else that is left to
    `finish_gradients`, and `gradients` takes the gradient by the unit items, in `unit`s.
    """
    i_items, i_columns = tl.program_id(0), tl.program_id(1)
    items = i_items * ITEMS + tl.arange(0, ITEMS)
    m_items = items < n_items
    if D <= DEPTH:
        item_tile = load_tile(items_p, items, n_items, D, 0, D, DEPTH)
    gradient = tl.zeros((ITEMS, COLUMNS), tl.float32)
    for first in range(0, n_rows, ROWS):
        rows = first + tl.arange(0, ROWS)
        m_rows = rows < n_rows
        targets = load_targets(targets_p, rows, n_rows, first_item, n_items)
        factors = tl.load(factors_p + rows, mask=m_rows, other=0.0)
        target_entries = tl.load(target_entries_p + rows, mask=m_rows, other=0.0)
        queries = load_tile(queries_p, rows, n_rows, D, i_columns * COLUMNS, D, COLUMNS)
        if D <= DEPTH:
            cosines = dot(item_tile, tl.trans(queries), tl.zeros((ITEMS, ROWS), tl.float32))
        else:
            cosines = chunked_dot(items_p, items, n_items, queries_p, rows, n_rows, D, ITEMS, ROWS, DEPTH)
        # Rows beyond n_rows have a factor of 0; items beyond n_items are not stored.
        entries = factors[None, :] * shifted_exp(cosines, scale_log2e)
        entries = tl.where(items[:, None] == targets[None, :], target_entries[None, :], entries)
        gradient = dot(narrow(entries, queries_p.dtype.element_ty), queries, gradient)
    columns = i_columns * COLUMNS + tl.arange(0, COLUMNS)
    if D <= COLUMNS:
        gradient *= tl.load(unit_p)
        inverse = tl.load(inverse_norms_p + items, mask=m_items, other=0.0)[:, None]
        unit_vectors = load_tile(vectors_p, items, n_items, vector_stride, 0, D, COLUMNS).to(tl.float32) * inverse
        gradient = through_norm(gradient, unit_vectors, inverse)
    offsets = items.to(tl.int64)[:, None] * D + columns[None, :]
    mask = m_items[:, None] & (columns < D)[None, :]
    tl.store(gradients_p + offsets, narrow(gradient, gradients_p.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["n_rows", "splits"])
def finish_gradients(
    partials_p,  # float32[splits, n_rows, D]
    unit_p,  # float32[1]
    vectors_p,  # [n_rows, D], rows vector_stride apart
    inverse_norms_p,  # float32[n_rows]
    gradients_p,  # [n_rows, D]
    n_rows,
    splits,
    vector_stride,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """A row a program: the sum of its partials in one order, through the norm."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, COLUMNS)[None, :]
    m_columns = columns < D
    gradient = tl.zeros((1, COLUMNS), tl.float32)
    for first in range(0, splits, SPLITS):
        i_split = first + tl.arange(0, SPLITS)[:, None]
        offsets = (i_split.to(tl.int64) * n_rows + row) * D + columns
        partials = tl.load(partials_p + offsets, mask=(i_split < splits) & m_columns, other=0.0)
        gradient += tl.sum(partials, axis=0)[None, :]
    inverse = tl.load(inverse_norms_p + row)
    vector = tl.load(vectors_p + row * vector_stride + columns, mask=m_columns, other=0.0).to(tl.float32)
    gradient = through_norm(gradient * tl.load(unit_p), vector * inverse, inverse)
    tl.store(gradients_p + row * D + columns, narrow(gradient, gradients_p.dtype.element_ty), mask=m_columns)


@triton.jit
def through_norm(gradient, unit_vectors, inverse_norms):
    """Gradient by v of a function of unit = v / |v|, from the gradient by unit: [R, COLUMNS]."""
    along = tl.sum(gradient * unit_vectors, axis=1)[:, None]
    return (gradient - along * unit_vectors) * inverse_norms
