"""The plan of a training: the softmax by the rule; the first steps, timed; phases, their time and their memory."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.config import PRESETS, Config, preset
from mtaw_fast.config.phases import phases_of
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.memory.bounded import pass_bytes
from mtaw_fast.memory.settings import memory_settings
from mtaw_fast.training import train
from mtaw_fast.training.encoder.runner import Runner
from mtaw_fast.training.memory_tables import TableMemory, training_table_memory
from mtaw_fast.training.plan import estimate as planning
from mtaw_fast.training.plan import first_steps
from mtaw_fast.training.plan.estimate import plan_training
from mtaw_fast.training.plan.first_steps import Stopwatch
from mtaw_fast.training.plan.plan import ALWAYS_FULL, PhasePlan, Plan, asks_for_costs, chosen_softmax, minutes
from mtaw_fast.training.ranker.train_ranker import fit_settings, with_fit_settings
from tests.support.training.runs import StopsAt


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


PUBLIC = {"tmall": 351_268 * 40_727, "retailrocket": 433_648 * 36_968}  # samples x items: logits an epoch
LARGE = 10 * ALWAYS_FULL


@pytest.mark.parametrize("budget", [-1.0, float("nan")])
def test_a_budget_that_is_none_is_refused(ring: Dataset, budget: float) -> None:
    with pytest.raises(UsageError, match=r"budget_minutes=.*: it must be at least 0"):
        plan_training(ring, Config(), budget_minutes=budget)


def test_a_plan_s_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan("sampled", "why", (PhasePlan("search", "2 epochs", 61.5, 10**9, 110.0),), 4.0)
    monkeypatch.setattr("mtaw_fast.training.plan.plan.available_memory", lambda: 10**9 - 10**8)
    first, phase, free, whole = plan.lines()
    assert first == "plan: sampled softmax (why)"
    assert phase.split() == ["search", "2", "epochs", "110", "s", "1.0", "GB"]
    assert free == "  memory: more than the 0.9 GB that are free now"
    assert whole == "  total: about 110 s of processor time, 4 min under the present load, memory about 1.0 GB"
    monkeypatch.setattr("mtaw_fast.training.plan.plan.available_memory", lambda: None)
    assert "110 s of processor time, 62 s by the clock" in replace(plan, slowdown=1.0).lines()[-1]
    assert len(plan.lines()) == 3
    assert [minutes(seconds) for seconds in (0.2, 41, 3599, 3900)] == ["1 s", "41 s", "1 h 0 min", "1 h 5 min"]


class Alone:
    """A group of one process, without the channels."""

    def runner(self, config: Config, n_items: int) -> Runner:
        return Runner(torch.device("cpu"))

    def mark(self, folder: Path) -> None: ...


@pytest.mark.usefixtures("measuring")
def test_what_a_group_began_keeps_the_full_softmax(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ring, small, tmp_path, reporter=StopsAt(1, "search", 2), group=Alone())
    events: list[Plan] = []
    trained = train(ring, small, tmp_path, resume=True, budget_minutes=0, planned=events.append)
    assert events[0].lines()[0] == "plan: full softmax (as the run began)"
    assert trained.model.config.loss.softmax == "full"
    assert train(ring, small, tmp_path, overwrite=True, group=Alone()).model.config.loss.softmax == "full"


@pytest.mark.usefixtures("measuring")
def test_the_plan_comes_first_and_is_kept_by_a_resumed_run(
    ring: Dataset, small: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[object] = []

    class Listener(StopsAt):
        def phase_starts(self, phase: str, number: int, phases: int) -> None:
            events.append(phase)

    with pytest.raises(KeyboardInterrupt):
        train(ring, small, tmp_path, reporter=Listener(1, "search", 2), budget_minutes=0, planned=events.append)
    first, phase = events
    assert isinstance(first, Plan)
    assert (first.softmax, phase) == ("sampled", "search")
    before = (tmp_path / "state.json").read_bytes()
    with pytest.raises(UsageError, match=r"sampled softmax, which a group .* resume it without torchrun"):
        train(ring, small, tmp_path, resume=True, group=Alone())
    assert (tmp_path / "state.json").read_bytes() == before
    with caplog.at_level(logging.WARNING, "mtaw_fast"):
        trained = train(ring, small, tmp_path, resume=True, budget_minutes=10**6)
    assert trained.model.config.loss.softmax == "sampled"
    assert "sampled softmax" in caplog.text
    assert "--set softmax=full overrides this" in caplog.text


RULE: dict[str, tuple[Config, int, str, float | None, float | None, str]] = {
    # settings, logits an epoch, device, hours with the full softmax and with a sample, the choice
    **{
        f"{name}, {data}": (preset(name), PUBLIC[data], "cpu", None, None, "full")
        for name in PRESETS
        for data in PUBLIC
    },
    "fits the budget": (preset("full"), LARGE, "cpu", 1.5, None, "full"),
    "over the budget": (preset("full"), LARGE, "cpu", 1.6, None, "sampled"),
    "faster with a sample": (preset("full"), LARGE, "cpu", 2.0, 1.9, "sampled"),
    "as long with a sample": (preset("full"), LARGE, "cpu", 2.0, 2.0, "full"),
    "gpu": (Config(), LARGE, "cuda", None, None, "full"),
    "negative term": (Config.of(negative_term=True), LARGE, "cpu", None, None, "full"),
    "as set, full": (Config.of(softmax="full"), LARGE, "cpu", None, None, "full"),
    "as set, sampled": (Config.of(softmax="sampled"), 10, "cpu", None, None, "sampled"),
    "a backend": (Config.of(loss_backend="native"), LARGE, "cpu", None, None, "full"),
}


@pytest.mark.parametrize("case", RULE)
def test_the_softmax_by_the_rule(case: str) -> None:
    config, logits, device, full, sampled, expected = RULE[case]
    assert asks_for_costs(config, logits_an_epoch=logits, device=device) is (full is not None)
    softmax, reason = chosen_softmax(
        config, logits_an_epoch=logits, device=device, full_seconds=None if full is None else 3600 * full,
        sampled_seconds=None if sampled is None else 3600 * sampled, budget_minutes=90,
    )  # fmt: skip
    assert softmax == expected
    assert ("a sample of such a small catalog would take as long" in reason) == (case == "as long with a sample")


@pytest.mark.usefixtures("measuring")
def test_measuring_changes_no_bit(
    ring: Dataset, remembering: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = train(ring, remembering, tmp_path / "measured", refit=False)
    monkeypatch.undo()
    plain = train(ring, remembering.replace(softmax="full"), tmp_path / "plain", refit=False)
    for name, weights in plain.model.weights.items():
        assert np.array_equal(weights, measured.model.weights[name]), name
    assert plain.metrics == measured.metrics


def test_the_settings_say_how_the_ranker_is_fitted() -> None:
    for timed, chosen in ((False, (4, 6e-3)), (True, (8, 2e-3))):
        for given, expected in (((0, 0.0), chosen), ((3, 0.01), (3, 0.01))):
            config = with_fit_settings(Config.of(ranker_epochs=given[0], ranker_lr=given[1]), timed=timed)
            fit = fit_settings(config, timed=timed)
            assert (config.ranker.ranker_epochs, config.ranker.ranker_lr) == (fit.epochs, fit.lr) == expected


def test_a_stopwatch_counts_work_and_not_waiting() -> None:
    watch = Stopwatch(torch.device("cpu"), 1)
    matrix = torch.ones(400, 400)
    assert (watch.cost(lambda: [matrix @ matrix for _ in range(20)]) > 0).all()
    # What this thread waits for may be work of this process: it does not show the load of the machine.
    assert (watch.cost(lambda: __import__("time").sleep(0.3)) < 0.3).all()
    assert watch.slowdown == 1
    watch.cost(lambda: __import__("time").sleep(0.1), busy=True)
    assert watch.slowdown > 1


@pytest.mark.usefixtures("measuring")
def test_a_fit_leaves_no_file_where_it_is_killed_and_what_it_costs_once_is_not_multiplied(
    ring: Dataset, remembering: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*arguments: Any) -> None:
        assert list(tmp_path.iterdir()) == []
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        for epoch in range(arguments[1].epochs):  # noise in what it costs once is none of the epochs'
            arguments[4].epoch_starts("", epoch, 1, 1)
            arguments[4].epoch_ends({})

    monkeypatch.setattr(first_steps, "fit_ranker", fit)
    plan = plan_training(ring, remembering.replace(ranker_epochs=1000), folder=tmp_path)
    ranker = next(phase for phase in plan.phases if phase.name == "ranker")
    assert ranker.processor_seconds is not None
    assert 0.2 <= ranker.processor_seconds < 20


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
        assert plan.seconds is None
        assert re.search(r"total: about \d+ s by its size, memory about", plan.lines()[-1])
        assert Plan.from_dict(plan.as_dict()) == plan
        return max(phase.peak_bytes for phase in plan.phases if phase.name.startswith("ranker"))

    need = pass_bytes(ring.train, ring.n_items, memory_settings(remembering)).total
    free, bound = ranker_bytes(1 << 40), ranker_bytes(need // 2)
    assert ranker_bytes(None) == free
    assert 0 < free - bound <= need - need // 2
