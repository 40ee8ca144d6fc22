"""The estimate of a training: its phases, their time and their memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.config import Config, preset
from mtaw_fast.config.phases import phases_of
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.memory.bounded import pass_bytes
from mtaw_fast.memory.settings import memory_settings
from mtaw_fast.training.memory_tables import TableMemory, training_table_memory
from mtaw_fast.training.plan import estimate as planning
from mtaw_fast.training.plan.estimate import plan_training


@pytest.mark.usefixtures("measuring")
def test_what_would_not_fit_the_memory_is_sampled_and_never_tried(
    ring: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps of the full softmax would allocate weights, gradient and moments."""
    monkeypatch.setattr(planning, "available_memory", lambda: 1 << 20)
    tried: list[object] = []
    times = planning.encoder_times

    def noted(*given: Any) -> Any:
        tried.append(given[6])
        return times(*given)

    monkeypatch.setattr(planning, "encoder_times", noted)
    plan = plan_training(ring, preset("paper").override(["embedding_dim=8", "epochs=1"]))
    assert plan.softmax == "sampled"
    assert "the full one would take about " in plan.why
    assert "and 1 MB are free; --set softmax=full overrides this" in plan.why
    assert tried == [("sampled",)]


def test_tiny_logs_are_not_timed(ring: Dataset, remembering: Config) -> None:
    plan = plan_training(ring, remembering)
    assert plan.seconds is None
    assert "too small to measure" in plan.lines()[-1]


@pytest.mark.usefixtures("measuring")
def test_every_phase_has_its_work_time_and_memory(ring: Dataset, remembering: Config) -> None:
    plan = plan_training(ring, remembering, budget_minutes=60)
    assert plan.softmax == "full"
    assert tuple(phase.name for phase in plan.phases) == phases_of(remembering, True)
    for phase in plan.phases:
        assert phase.seconds is not None, phase
        assert 0 < phase.seconds < 100, phase
        assert 10**8 < phase.peak_bytes < 10**9, phase
    fitted = ring.train.split_last(remembering.optimizer.validation_fraction)[0]
    samples = int((fitted.split_last(remembering.ranker.ranker_fraction)[0].lengths - 1).sum())
    assert plan.phases[0].work == f"2 epochs over {samples:,} samples"  # a ring's targets are all new
    assert plan_training(ring, remembering, budget_minutes=0).softmax == "sampled"


def test_a_bound_on_the_tables_memory_is_in_the_plan(ring: Dataset, remembering: Config, tmp_path: Path) -> None:
    def ranker_bytes(limit: int | None) -> int:
        with training_table_memory(TableMemory(limit, tmp_path)):
            plan = plan_training(ring, remembering)
        return max(phase.peak_bytes for phase in plan.phases if phase.name.startswith("ranker"))

    need = pass_bytes(ring.train, ring.n_items, memory_settings(remembering)).total
    free, bound = ranker_bytes(1 << 40), ranker_bytes(need // 2)
    assert ranker_bytes(None) == free
    assert 0 < free - bound <= need - need // 2
