"""The AW loss and its gradients on a CPU, over tiles of the catalog."""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = ["MAX_GAMMA", "aw_loss", "kept_matrix", "multiplies_bfloat16", "release_kept_blocks"]

MAX_GAMMA = 64.0  # with negatives: (2p)^gamma of a p above 1/2 stays a float32


def multiplies_bfloat16(isa: str | None = None) -> bool:
    """Return whether `isa` (None: the one in use) has products of bfloat16."""
    return (isa or _native.active_isa()) in ("bf16", "amx")


def kept_matrix(rows: int, d: int) -> np.ndarray:
    """Return float32[rows, d], uninitialized, in memory that the process keeps when the array is freed.

    The next call uses it again, so a training's gradient needs no fresh pages at every step. The two largest blocks of
    memory are kept, including the scratch of `aw_loss`.
    """
    return _native.kept_matrix(rows, d)


def release_kept_blocks() -> None:
    """Free the memory that `kept_matrix` and `aw_loss` keep, as after the last step of a training."""
    _native.release_kept_blocks()


def aw_loss(
    queries: np.ndarray,
    items: np.ndarray,
    targets: np.ndarray,
    row_weights: np.ndarray,
    *,
    scale: float,
    gamma: float,
    loss: np.ndarray,
    d_queries: np.ndarray | None,
    d_items: np.ndarray | None,
    compute: str = "float32",
    threads: int = 1,
    isa: str | None = None,
    negatives: bool = False,
    item_weights: np.ndarray | None = None,
) -> None:
    """Write loss and gradients of B rows over N items; kernels/aw_loss/README.md has the formulas and the plan.

    queries: float32[B, d]; items: float32[N, d]; normalized inside. targets: int64[B] in 0..N-1.
    row_weights: float32[B]; the gradients are those of sum_b row_weights[b] * loss[b].
    loss: float32[B], out, unweighted. d_queries: float32[B, d], d_items: float32[N, d], out, or None if not
    needed. All arrays C-contiguous. compute: 'float32' or 'bfloat16', of the matrix products, which accumulate in
    float32. isa: instruction set, None for the one in use. negatives: whether to add the term over the other items.
    item_weights: float32[N], how often an item counts in the softmax's sum (once if None); a row's target always
    counts once. Not with negatives.

    The same bits for every number of threads and on every run. A vector that is not finite makes its losses NaN, an
    item's vector all losses. In addition to the results it takes O(B d), 4 bytes an item, and 128 MiB or 512 bytes an
    item, whichever is more, for exponentials; the next call uses them again.

    Raises ValueError on a wrong type or shape, on an `isa` without such products, on a gamma above MAX_GAMMA
    or item weights with negatives; IndexError on a target outside the catalog. Releases the GIL.
    """
    _native.aw_loss(
        queries, items, targets, row_weights, scale, gamma, loss, d_queries, d_items, compute, threads, isa, negatives,
        item_weights,
    )  # fmt: skip
