"""Inputs of prefix_interest, and its output and gradients by a backend."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights, Tiles, prefix_interest

SEED = 8_589_934_592_123  # over 32 bits: both words of the key count


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def draw(n_clicks: int, d: int, seed: int = 0) -> list[Tensor]:
    """float64 clicks, the ten weights and a gradient from above.

    The biases are far from 0, so that most ReLUs are firmly on or off: near 0 rounding decides which gradient is
    right, in eager PyTorch as here, and a comparison of errors would compare luck.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, deviation: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * deviation

    matrices = [normal(d, d, deviation=d**-0.5) for _ in range(4)]
    biases = [4 * normal(d).sign() + normal(d, deviation=d**-0.5) for _ in range(4)]
    norm = [1 + normal(d, deviation=0.2), normal(d, deviation=0.2)]
    linear = [tensor for pair in zip(matrices, biases, strict=True) for tensor in pair]
    return [normal(n_clicks, d), *linear[:6], *norm, *linear[6:], normal(n_clicks, d)]


def forward_and_gradients(
    backend: str, inputs: list[Tensor], lengths: list[int], given: torch.dtype, compute: torch.dtype,
    device: torch.device, *, capacity: int = 16, min_tiles: int = 0, dropout: tuple[float, float] = (0.0, 0.0),
) -> list[Tensor]:  # fmt: skip
    """o and the gradients of the clicks and of the ten weights, in float64 on the CPU."""
    *leaves, upstream = (tensor.to(device, given, copy=True) for tensor in inputs)
    for leaf in leaves:
        leaf.requires_grad_()
    offsets = offsets_of(lengths)
    o = prefix_interest(
        leaves[0], torch.from_numpy(offsets).to(device), PrefixInterestWeights(*leaves[1:]),
        tiles=Tiles.of(offsets, device, capacity=capacity, min_tiles=min_tiles),
        click_dropout=dropout[0], ffn_dropout=dropout[1], seed=SEED, compute_dtype=compute, backend=backend,
    )  # fmt: skip
    gradients = torch.autograd.grad(o, leaves, upstream)
    return [tensor.detach().cpu().double() for tensor in (o, *gradients)]
