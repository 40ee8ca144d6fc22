"""The inputs of a loss: queries more or less close to their targets, and the true answer in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.kernels.aw_loss import aw_loss

_SLICE_LOGITS = 1 << 24  # logits that the float64 answer holds at once


@dataclass(frozen=True, slots=True)
class LossShape:
    """The shape of a loss. rows: B. items: N. It is picklable; the same shape makes the same inputs anywhere."""

    rows: int
    items: int
    d: int = 100
    scale: float = 16.0
    gamma: float = 2.0
    seed: int = 0

    def describe(self) -> str:
        """Return 'batch B, N items, gamma g'."""
        return f"batch {self.rows}, {self.items} items, gamma {self.gamma:g}"


@dataclass(frozen=True, slots=True, eq=False)
class LossInputs:
    """Inputs of a loss. queries: float[B, d] and items: float[N, d], leaves with gradients. targets: int64[B]."""

    queries: Tensor
    items: Tensor
    targets: Tensor
    shape: LossShape

    @classmethod
    def of(cls, shape: LossShape) -> LossInputs:
        """Draw items at random; a query is its target's vector times U(0, 2) plus noise, so that p takes any value."""
        generator = torch.Generator().manual_seed(shape.seed)
        items = torch.randn(shape.items, shape.d, generator=generator)
        targets = torch.randint(0, shape.items, (shape.rows,), generator=generator)
        strength = 2 * torch.rand(shape.rows, 1, generator=generator)
        queries = strength * items[targets] + torch.randn(shape.rows, shape.d, generator=generator)
        return cls(queries.requires_grad_(), items.requires_grad_(), targets, shape)

    def run(self, loss: Callable[[LossInputs], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Run forward and backward; return the mean loss and the gradients [B, d] and [N, d]."""
        self.queries.grad = self.items.grad = None
        value = loss(self)
        value.backward()
        if self.queries.grad is None or self.items.grad is None:
            raise AssertionError("the loss gives no gradient to queries or items")
        return value.detach(), self.queries.grad, self.items.grad

    def truth(self) -> tuple[float, list[np.ndarray]]:
        """Return the mean loss and both gradients by the reference in float64, a slice of rows at a time."""
        queries = self.queries.detach().double().requires_grad_()
        items = self.items.detach().double().requires_grad_()
        rows, total = max(1, _SLICE_LOGITS // len(items)), 0.0
        for begin in range(0, len(queries), rows):
            part = slice(begin, begin + rows)
            loss = aw_loss(
                queries[part], items, self.targets[part], scale=self.shape.scale, gamma=self.shape.gamma,
                reduction="sum", backend="reference",
            )  # fmt: skip
            (loss / len(queries)).backward()
            total += loss.item()
        return total / len(queries), [leaf.grad.numpy() for leaf in (queries, items) if leaf.grad is not None]
