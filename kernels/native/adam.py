"""One clipped AdamW step on a CPU, in two passes over the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = ["adam_step"]


def adam_step(
    groups: Sequence[Sequence[np.ndarray]],
    *,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    threads: int = 1,
    isa: str | None = None,
) -> float:
    """Update weights and moments in place; return the norm of the whole gradient before clipping.

    groups: (weights, gradients, first moments, second moments) each, float32[n], C-contiguous. step: its number, the
    first is 1; with 0 nothing changes and only the norm is returned. kernels/adam/README.md has the formulas.

    The same bits for every number of threads and on every run; with FMA (AVX2 and up) those of torch.optim.AdamW with
    fused=True, given the same factor of the gradient. The norm is summed in float64, the same on every instruction set.

    Raises ValueError on a wrong type or shape. Releases the GIL.
    """
    return _native.adam_step(
        groups, beta1, beta2, eps, weight_decay, clip_norm, step, learning_rate, threads, isa
    )  # fmt: skip
