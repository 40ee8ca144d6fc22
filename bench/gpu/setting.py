"""The setting of every case of the GPU bench: device, sizes, inputs, clocks and the check before them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtaw_fast.kernels.aw_loss import aw_loss

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of queries float[B, d], items float[N, d], targets int64[B]
TOLERANCE = 3e-2  # of bf16 products, of the largest entry
_WARM_UPS = 5
_CALLS = 50
_SECONDS = 4.0  # of one measurement, at most
_FLUSH_BYTES = 256 << 20  # more than any L2: each call finds its inputs in memory, as in a training step


class WrongResultError(Exception):
    """A result differs from the reference."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The sizes of the cases, and where they run.

    dry: whether kernels run in the interpreter, at toy sizes and without a clock. rows, items, d: B, N and d of the
    loss. lengths: the lengths of a batch's sessions. large: number of items in the served catalog. sessions: number of
    sessions in a drawn epoch.
    """

    dry: bool
    device: torch.device
    rows: int
    items: int
    d: int
    lengths: tuple[int, ...]
    large: int
    sessions: int

    @classmethod
    def of(cls, dry: bool) -> Setting:
        """Return Tmall's catalog and a full batch; dry, sizes that the interpreter handles in seconds."""
        if dry:
            return cls(True, torch.device("cpu"), rows=24, items=130, d=20, lengths=(5, 2), large=300, sessions=10)
        return cls(
            False, torch.device("cuda"), rows=1024, items=40_727, d=100, lengths=(6,) * 150 + (31,) * 4,
            large=1_000_000, sessions=65_286,
        )  # fmt: skip

    def generator(self) -> torch.Generator:
        """Return a generator that makes the same draws in every case."""
        return torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        """Draw float32 values from N(0, 1) on the device; the same shape gives the same values."""
        return torch.randn(*shape, generator=self.generator()).to(self.device)

    def time(self, work: Callable[[], Any]) -> dict[str, float]:
        """Return p50_us, p95_us, calls of `work` by CUDA events, with a cold L2; dry: run it once without figures."""
        flush = torch.empty(0 if self.dry else _FLUSH_BYTES, dtype=torch.int8, device=self.device)

        def timed() -> float:
            flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) * 1e3

        return self._repeat(work, timed)

    def host_time(self, work: Callable[[], Any]) -> dict[str, float]:
        """Return the same for work that ends on the host, by its clock, with warm caches."""

        def timed() -> float:
            begin = time.perf_counter()
            work()
            return (time.perf_counter() - begin) * 1e6

        return self._repeat(work, timed)

    def _repeat(self, work: Callable[[], Any], timed: Callable[[], float]) -> dict[str, float]:
        if self.dry:
            work()
            return {}
        for _ in range(_WARM_UPS):
            work()
        times: list[float] = []
        while len(times) < _CALLS and sum(times) < _SECONDS * 1e6:
            times.append(timed())
        times.sort()
        p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
        return {"p50_us": round(statistics.median(times), 2), "p95_us": round(p95, 2), "calls": len(times)}


def gate(what: str, got: Tensor, truth: Tensor, tolerance: float) -> float:
    """Return the largest error over the truth's largest entry; WrongResultError if it exceeds `tolerance` or is NaN."""
    error = (got.double() - truth.double()).abs().max() / truth.double().abs().max().clamp_min(1e-30)
    if not error <= tolerance:
        raise WrongResultError(f"{what} is off by {error.item():.2g}, more than {tolerance:g}")
    return error.item()


def inputs(setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, items and targets of a full batch; both sides are leaves."""
    targets = torch.randint(0, setting.items, (setting.rows,), generator=setting.generator()).to(setting.device)
    drawn = setting.normal(setting.items + setting.rows, setting.d)  # one draw: equal seeds give equal values
    e = drawn[: setting.items].clone()
    q = e[targets] + drawn[setting.items :]
    return q.requires_grad_(), e.requires_grad_(), targets


def step_of(loss: Loss, q: Tensor, e: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Return a loss and its gradients by queries and items."""
    value = loss(q, e, targets)
    return value, *torch.autograd.grad(value, (q, e))


def errors_of(setting: Setting, loss: Loss, scale: float, gamma: float) -> list[float]:
    """Return errors of a loss and its gradients against float64 on the first rows and items.

    Raises WrongResultError if one is above TOLERANCE.
    """
    q, e, _ = inputs(setting)
    rows, items = min(setting.rows, 64), min(setting.items, 2000)
    targets = torch.arange(rows, device=setting.device) * 7 % items

    def reference(a: Tensor, b: Tensor, of: Tensor) -> Tensor:
        return aw_loss(a, b, of, scale=scale, gamma=gamma, backend="reference")

    results = []
    for dtype, function in ((torch.float64, reference), (torch.float32, loss)):
        a, b = (x.detach()[:count].to(dtype).requires_grad_() for x, count in ((q, rows), (e, items)))
        results.append(step_of(function, a, b, targets))
    names = ("the loss", "the queries' gradient", "the items' gradient")
    return [gate(name, value, truth, TOLERANCE) for name, truth, value in zip(names, *results, strict=True)]
