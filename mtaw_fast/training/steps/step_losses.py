"""Losses added up on the device and read back without waiting."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LossStats(NamedTuple):
    """The losses of some steps.

    total: the sum of the finite losses, each times its batch's mass. loss: the loss of the latest step, or the first
    one that was not finite. failed: number of the step with that one, or None. steps: number of steps.
    """

    total: float
    loss: float
    failed: int | None
    steps: int


class LossAccumulator:
    """Counts steps on the device; once a loss is not finite, `healthy` stays false until `reset`."""

    def __init__(self, device: torch.device) -> None:
        self.healthy = torch.ones((), dtype=torch.bool, device=device)
        self._values = torch.zeros(4, dtype=torch.float64, device=device)  # as in LossStats; failed: -1 for None
        on_gpu = device.type == "cuda"
        self._host = torch.zeros(4, dtype=torch.float64, pin_memory=on_gpu)
        self._arrived = torch.cuda.Event() if on_gpu else None
        self._requested = False
        self.reset()

    def reset(self) -> None:
        """Start again from no step."""
        self.healthy.fill_(True)
        self._values.zero_()
        self._values[2].fill_(-1)

    def add(self, loss: Tensor, mass: Tensor) -> None:
        """Add a step with the mean `loss` over samples of that `mass`, both on the device. A graph may capture it."""
        total, latest, failed, steps = self._values.unbind()
        was_healthy = self.healthy.clone()
        self.healthy.logical_and_(torch.isfinite(loss))
        value = loss.double()
        total.add_(torch.where(self.healthy, value * mass, 0.0).squeeze())
        latest.copy_(torch.where(was_healthy, value, latest))
        failed.copy_(torch.where(was_healthy & ~self.healthy, steps, failed))
        steps.add_(1)

    def suspend(self) -> tuple[Tensor, Tensor]:
        """Ignore steps, which then change nothing, until `resume`; returns its argument."""
        state = self.healthy.clone(), self._values.clone()
        self.healthy.fill_(False)
        return state

    def resume(self, before: tuple[Tensor, Tensor]) -> None:
        """Continue from before `suspend`."""
        self.healthy.copy_(before[0])
        self._values.copy_(before[1])

    def request(self) -> None:
        """Start copying the values to the host, in the order of the current stream."""
        self._host.copy_(self._values, non_blocking=True)
        if self._arrived is not None:
            self._arrived.record(torch.cuda.current_stream(self._values.device))
        self._requested = True

    def arrived(self) -> LossStats | None:
        """Return the values of the last `request`, once; None without one, or while the copy runs."""
        if not self._requested or (self._arrived is not None and not self._arrived.query()):
            return None
        return self._read()

    def wait(self) -> LossStats:
        """Return the values after all steps so far."""
        self.request()
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._read()

    def _read(self) -> LossStats:
        self._requested = False
        total, loss, failed, steps = self._host.tolist()
        return LossStats(total, loss, None if failed < 0 else int(failed), int(steps))
