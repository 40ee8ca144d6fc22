"""The inputs of a loss, and the loss in plain PyTorch: all scores, cross-entropy of each row, the weight on top.

Every peer normalizes queries and items, folds the scale into the small operand, and applies the weight
L = (2 - 2 exp(-ce))^gamma ce to its own cross-entropy with reduction="none". At gamma = 0, plain cross-entropy, it uses
its own mean.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.kernels.aw_loss import aw_loss

EAGER_FP32 = "torch-eager-fp32"
EAGER_BF16 = "torch-eager-bf16"
LINEAR_CE = "torch-linear-ce"
COMPILE = "torch-compile"

CHUNKS = (128, 512, 2048)
_TUNING_CALLS = 2

_SLICE_LOGITS = 1 << 24  # logits that the float64 answer holds at once

CrossEntropy = Callable[[Tensor, Tensor, Tensor, str], Tensor]  # unit queries x scale, unit items, targets, reduction


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


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to compute the loss.

    dtype: that of its matrix products. chunk, accumulate: for linear_cross_entropy alone, rows of a chunk and dtype of
    the sums.
    """

    name: str
    dtype: torch.dtype
    chunk: int = 0
    accumulate: torch.dtype | None = None

    def loss(self) -> Callable[[LossInputs], Tensor]:
        """Return the mean loss as a differentiable function of inputs; compiling happens here."""
        if self.name == LINEAR_CE:
            return partial(_mean_loss, partial(_linear_ce, self._options()), self.dtype)
        if self.name == COMPILE:
            compiled = torch.compile(partial(_weighted_mean, _dense_ce, self.dtype), dynamic=False)
            return lambda inputs: compiled(*_arguments(inputs))
        return partial(_mean_loss, _dense_ce, self.dtype)

    def _options(self) -> Any:
        return torch.nn.LinearCrossEntropyOptions(
            batch_chunk_size=self.chunk,
            acc_policy="auto" if self.accumulate is None else "compact",
            acc_dtype=self.accumulate,
        )


def peers_for(inputs: LossInputs, notes: list[str]) -> list[Peer]:
    """Return every peer of this PyTorch, tuned for these inputs by short timings; `notes` lists the choices.

    linear_cross_entropy's default options are no contender on a CPU. The fastest of float32, bfloat16 and bfloat16
    sums as well is taken at 512 rows a chunk, then the fastest chunk. torch.compile gets the faster eager dtype.
    """
    eager = [Peer(EAGER_FP32, torch.float32), Peer(EAGER_BF16, torch.bfloat16)]
    peers = list(eager)
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        peers.append(_tuned_linear_ce(inputs))
    else:
        notes.append(f"{LINEAR_CE} is left out: torch {torch.__version__} has no linear_cross_entropy with options")
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler):
        peers.append(Peer(COMPILE, _fastest(eager, inputs).dtype))
    else:
        notes.append(f"{COMPILE} is left out: the C++ compiler {compiler!r} does not exist")
    settings = "; ".join(
        f"{peer.name}: {peer.dtype}" + f", sums in {peer.accumulate}, {peer.chunk} rows a chunk" * bool(peer.chunk)
        for peer in peers
    )
    notes.append(f"aw_loss, {inputs.shape.describe()}, settings by a short timing: {settings}")
    return peers


def _tuned_linear_ce(inputs: LossInputs) -> Peer:
    middle = min(CHUNKS[1], len(inputs.queries))
    forms = [
        Peer(LINEAR_CE, torch.float32, middle),
        Peer(LINEAR_CE, torch.bfloat16, middle),
        Peer(LINEAR_CE, torch.bfloat16, middle, torch.bfloat16),
    ]
    form = _fastest(forms, inputs)
    chunks = {min(chunk, len(inputs.queries)) for chunk in CHUNKS}
    return _fastest([Peer(LINEAR_CE, form.dtype, chunk, form.accumulate) for chunk in sorted(chunks)], inputs)


def _fastest(peers: list[Peer], inputs: LossInputs) -> Peer:
    best: dict[Peer, float] = {}
    for peer in peers:
        loss = peer.loss()
        for _ in range(_TUNING_CALLS):
            begin = time.perf_counter()
            inputs.run(loss)
            best[peer] = min(best.get(peer, float("inf")), time.perf_counter() - begin)
    return min(best, key=best.__getitem__)


def _mean_loss(ce: CrossEntropy, dtype: torch.dtype, inputs: LossInputs) -> Tensor:
    return _weighted_mean(ce, dtype, *_arguments(inputs))


def _arguments(inputs: LossInputs) -> tuple[Tensor, Tensor, Tensor, float, float]:
    return inputs.queries, inputs.items, inputs.targets, inputs.shape.scale, inputs.shape.gamma


def _weighted_mean(
    ce: CrossEntropy, dtype: torch.dtype, queries: Tensor, items: Tensor, targets: Tensor, scale: float, gamma: float
) -> Tensor:
    q = (scale * functional.normalize(queries, dim=1)).to(dtype)
    e = functional.normalize(items, dim=1).to(dtype)
    if gamma == 0:
        return ce(q, e, targets, "mean").float()
    losses = ce(q, e, targets, "none").float()
    return ((-2 * torch.expm1(-losses)) ** gamma * losses).mean()


def _dense_ce(q: Tensor, e: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return functional.cross_entropy(q @ e.T, targets, reduction=reduction)


def _linear_ce(options: Any, q: Tensor, e: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return functional.linear_cross_entropy(q, e, targets, reduction=reduction, options=options)
