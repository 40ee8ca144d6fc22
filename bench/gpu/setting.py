"""What every case of the GPU bench works with: device and sizes, a clock, and the gate before it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_WARM_UPS = 5
_CALLS = 50
_SECONDS = 4.0  # of one measurement, at most
_FLUSH_BYTES = 256 << 20  # more than any L2: each call finds its inputs in memory, as in a training step


class WrongResultError(Exception):
    """A result that is not what the reference says."""


@dataclass(frozen=True, slots=True)
class Setting:
    """dry: toy sizes, interpreted, no clock. rows, items, d: B, N and d of the loss. lengths: of a batch's sessions."""

    dry: bool
    device: torch.device
    rows: int
    items: int
    d: int
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, dry: bool) -> Setting:
        """Tmall's catalog and a full batch; dry, what the interpreter does in seconds."""
        if dry:
            return cls(True, torch.device("cpu"), rows=20, items=70, d=20, lengths=(5, 2))
        return cls(False, torch.device("cuda"), rows=1024, items=40_727, d=100, lengths=(6,) * 150 + (31,) * 4)

    def generator(self) -> torch.Generator:
        """The same draws in every case."""
        return torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        """float32 draws from N(0, 1) on the device, the same for the same shape."""
        return torch.randn(*shape, generator=self.generator()).to(self.device)

    def time(self, work: Callable[[], Any]) -> dict[str, float]:
        """p50_us, p95_us and calls of `work` by CUDA events, L2 cold; dry: it runs once, without figures."""
        if self.dry:
            work()
            return {}
        flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=self.device)
        for _ in range(_WARM_UPS):
            work()
        taken: list[float] = []
        while len(taken) < _CALLS and sum(taken) < _SECONDS * 1e6:
            flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            taken.append(begin.elapsed_time(end) * 1e3)
        taken.sort()
        p95 = taken[min(len(taken) - 1, int(0.95 * len(taken)))]
        return {"p50_us": round(statistics.median(taken), 2), "p95_us": round(p95, 2), "calls": len(taken)}


def gate(what: str, got: Tensor, truth: Tensor, tolerance: float) -> float:
    """Largest error over the truth's largest entry; WrongResultError where it is above `tolerance`, or not a number."""
    error = (got.double() - truth.double()).abs().max() / truth.double().abs().max().clamp_min(1e-30)
    if not error <= tolerance:
        raise WrongResultError(f"{what} is off by {error.item():.2g}, more than {tolerance:g}")
    return error.item()
