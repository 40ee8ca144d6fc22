"""What a device has to tell of its steps: losses added up there, and read back without waiting."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LossStats(NamedTuple):
    """total: of the finite losses, each times its mass. loss: of the latest step, or of the first that was not
    finite. failed: number of that step, None where there is none. steps: taken."""

    total: float
    loss: float
    failed: int | None
    steps: int


class LossAccumulator:
    """Counts steps on the device; once a loss is not finite, `healthy` stays false until `reset`."""

    def __init__(self, device: torch.device) -> None:
        self.healthy = torch.ones((), dtype=torch.bool, device=device)
        self._values = torch.zeros(4, dtype=torch.float64, device=device)  # as in LossStats; failed: -1 is none
        on_gpu = device.type == "cuda"
        self._host = torch.zeros(4, dtype=torch.float64, pin_memory=on_gpu)
        self._arrived = torch.cuda.Event() if on_gpu else None
        self._asked = False
        self.reset()

    def reset(self) -> None:
        """Begin anew, with no step taken."""
        self.healthy.fill_(True)
        self._values.zero_()
        self._values[2].fill_(-1)

    def add(self, loss: Tensor, mass: Tensor) -> None:
        """Count a step with the mean `loss` over samples of that `mass` (numbers on the device); part of a captured
        step."""
        total, latest, failed, steps = self._values.unbind()
        was_healthy = self.healthy.clone()
        self.healthy.logical_and_(torch.isfinite(loss))
        value = loss.double()
        total.add_(torch.where(self.healthy, value * mass, 0.0).squeeze())
        latest.copy_(torch.where(was_healthy, value, latest))
        failed.copy_(torch.where(was_healthy & ~self.healthy, steps, failed))
        steps.add_(1)

    def suspend(self) -> tuple[Tensor, Tensor]:
        """Let steps count for nothing and change nothing until `resume`; returns what that takes."""
        before = self.healthy.clone(), self._values.clone()
        self.healthy.fill_(False)
        return before

    def resume(self, before: tuple[Tensor, Tensor]) -> None:
        """Go on as `suspend` found it."""
        self.healthy.copy_(before[0])
        self._values.copy_(before[1])

    def ask(self) -> None:
        """Begin to copy the values to the host, in the order of the current stream."""
        self._host.copy_(self._values, non_blocking=True)
        if self._arrived is not None:
            self._arrived.record(torch.cuda.current_stream(self._values.device))
        self._asked = True

    def told(self) -> LossStats | None:
        """What the last `ask` brought, once; None while it is under way or where nothing was asked."""
        if not self._asked or (self._arrived is not None and not self._arrived.query()):
            return None
        return self._read()

    def wait(self) -> LossStats:
        """Ask and wait for every step so far."""
        self.ask()
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._read()

    def _read(self) -> LossStats:
        self._asked = False
        total, loss, failed, steps = self._host.tolist()
        return LossStats(total, loss, None if failed < 0 else int(failed), int(steps))
