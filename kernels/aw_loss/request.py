"""What is asked of an AW-loss backend."""

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

    def describe(self) -> str:
        """Shapes and dtypes on one line, for error messages."""
        return (
            f"queries {self.queries.dtype}{list(self.queries.shape)}, items {self.items.dtype}{list(self.items.shape)}, "
            f"device {self.queries.device}, compute_dtype {self.compute_dtype}, negatives {self.negatives}"
        )
