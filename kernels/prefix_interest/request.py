"""The request that a prefix-interest backend gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtaw_fast.kernels.prefix_interest.tiles import Tiles


class PrefixInterestWeights(NamedTuple):
    """Weights in PyTorch's Linear convention, y = x W^T + b: float[d, d]; biases and those of the norm: float[d]."""

    itl_query_weight: Tensor
    itl_query_bias: Tensor
    ffn_in_weight: Tensor
    ffn_in_bias: Tensor
    ffn_out_weight: Tensor
    ffn_out_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    iel_query_weight: Tensor
    iel_query_bias: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class InterestRequest:
    """Arguments of `prefix_interest`, checked; see there for their meaning. seed: int64[1] on the clicks' device."""

    clicks: Tensor
    offsets: Tensor
    weights: PrefixInterestWeights
    tiles: Tiles | None
    click_dropout: float
    ffn_dropout: float
    seed: Tensor | None
    ffn_dropout_mask: Tensor | None
    compute_dtype: torch.dtype

    def describe(self) -> str:
        """Shapes and dtypes on one line, for error messages."""
        clicks, weight = self.clicks, self.weights.itl_query_weight
        return (
            f"clicks {clicks.dtype}{list(clicks.shape)}, offsets {list(self.offsets.shape)}, weights {weight.dtype}, "
            f"device {clicks.device}, compute_dtype {self.compute_dtype}, "
            f"tiles {'none' if self.tiles is None else self.tiles.capacity}"
        )
