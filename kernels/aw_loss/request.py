"""The request that an AW-loss backend gets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossRequest:
    """Arguments of `aw_loss`, checked; see there for their meaning."""

    queries: Tensor
    items: Tensor
    targets: Tensor
    scale: float
    gamma: float
    negatives: bool
    compute_dtype: torch.dtype | None
    threads: int | None = None
    item_weights: Tensor | None = None  # float32[N], 'native' only: how often an item counts if it is no target

    def describe(self) -> str:
        """Shapes and dtypes on one line, for error messages."""
        queries, items = self.queries, self.items
        return (
            f"queries {queries.dtype}{list(queries.shape)}, items {items.dtype}{list(items.shape)}, "
            f"device {queries.device}, compute_dtype {self.compute_dtype}, negatives {self.negatives}"
        )
