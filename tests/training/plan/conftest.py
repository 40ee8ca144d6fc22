"""What the tests of the plan share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mtaw_fast.training.plan import estimate as planning
from mtaw_fast.training.plan import first_steps


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure small logs too, which are then not always full; a sampled step takes half as long as a full one."""

    def half(*asked: Any) -> Any:
        times = first_steps.encoder_times(*asked)
        steps = {softmax: times.step[next(iter(times.step))] / (1 + (softmax == "sampled")) for softmax in times.step}
        return replace(times, step=steps)

    monkeypatch.setattr(planning, "encoder_times", half)
    monkeypatch.setattr(planning, "TIMED_FROM", 0)
    monkeypatch.setattr("mtaw_fast.training.plan.plan.ALWAYS_FULL", 0)
