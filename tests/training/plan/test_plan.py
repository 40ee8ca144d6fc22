"""The plan of a training: the softmax by the rule, reported before the start, kept on resuming."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtaw_fast.config import PRESETS, Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.training import train
from mtaw_fast.training.encoder.runner import Runner
from mtaw_fast.training.plan.estimate import plan_training
from mtaw_fast.training.plan.plan import ALWAYS_FULL, PhasePlan, Plan, asks_for_costs, chosen_softmax, minutes
from tests.support.training.runs import StopsAt

PUBLIC = {"tmall": 351_268 * 40_727, "retailrocket": 433_648 * 36_968}  # samples x items: logits an epoch
LARGE = 10 * ALWAYS_FULL
HOUR = 3600.0


def softmax_of(config: Config, logits: int = LARGE, device: str = "cpu", full: float | None = HOUR) -> str:
    return chosen_softmax(config, logits_an_epoch=logits, device=device, full_seconds=full, budget_minutes=90)[0]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dataset", PUBLIC)
def test_the_public_sets_keep_the_full_softmax_however_busy_the_machine_is(dataset: str, name: str) -> None:
    config = preset(name)
    assert not asks_for_costs(config, logits_an_epoch=PUBLIC[dataset], device="cpu")
    assert softmax_of(config, PUBLIC[dataset], full=None) == "full"


def test_a_large_log_is_sampled_where_the_full_softmax_takes_longer_than_the_budget() -> None:
    config = preset("full")
    assert asks_for_costs(config, logits_an_epoch=LARGE, device="cpu")
    assert softmax_of(config, full=1.5 * HOUR) == "full"
    assert softmax_of(config, full=1.6 * HOUR) == "sampled"


@pytest.mark.parametrize(("sampled", "expected"), [(HOUR, "sampled"), (2 * HOUR, "full"), (3 * HOUR, "full")])
def test_a_sample_that_takes_as_long_is_not_used(sampled: float, expected: str) -> None:
    softmax, reason = chosen_softmax(
        preset("full"), logits_an_epoch=LARGE, device="cpu", full_seconds=2 * HOUR, sampled_seconds=sampled,
        budget_minutes=90,
    )  # fmt: skip
    assert softmax == expected
    assert ("a sample of such a small catalog would take as long" in reason) == (expected == "full")


def test_what_is_never_sampled_by_the_rule() -> None:
    assert softmax_of(Config(), device="cuda", full=None) == "full"
    assert softmax_of(Config.of(negative_term=True), full=None) == "full"
    assert softmax_of(Config.of(softmax="full"), full=None) == "full"
    assert softmax_of(Config.of(loss_backend="native"), full=None) == "full"
    assert not asks_for_costs(Config.of(loss_backend="native"), logits_an_epoch=LARGE, device="cpu")
    assert softmax_of(Config.of(softmax="sampled"), 10, full=None) == "sampled"


@pytest.mark.parametrize("budget", [-1.0, float("nan")])
def test_a_budget_that_is_none_is_refused(ring: Dataset, budget: float) -> None:
    with pytest.raises(UsageError, match=r"budget_minutes=.*: it must be at least 0"):
        plan_training(ring, Config(), budget_minutes=budget)


def test_a_sample_of_a_backend_of_choice_is_refused() -> None:
    with pytest.raises(UsageError, match="softmax=sampled: loss_backend=native computes the whole catalog"):
        Config.of(softmax="sampled", loss_backend="native")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (41, "41 s"), (100, "2 min"), (3599, "1 h 0 min"), (3900, "1 h 5 min")]
)
def test_times_have_a_short_text(seconds: float, text: str) -> None:
    assert minutes(seconds) == text


def test_a_plan_goes_through_json() -> None:
    plan = Plan("sampled", "why", (PhasePlan("search", "2 epochs", 61.5, 10**9),), 1.5)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert plan.settle(Config()).loss.softmax == "sampled"


def test_a_plan_s_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan("sampled", "why", (PhasePlan("search", "2 epochs", 61.5, 10**9, 110.0),), 4.0)
    monkeypatch.setattr("mtaw_fast.training.plan.plan.available_memory", lambda: 10**9 - 10**8)
    first, phase, free, whole = plan.lines()
    assert first == "plan: sampled softmax (why)"
    assert phase.split() == ["search", "2", "epochs", "2", "min", "1.0", "GB"]
    assert free == "  memory: more than the 0.9 GB that are free now"
    assert whole == "  total: about 2 min of processor time, 4 min under the present load, memory about 1.0 GB"
    monkeypatch.setattr("mtaw_fast.training.plan.plan.available_memory", lambda: None)
    assert "2 min of processor time, 62 s by the clock" in replace(plan, slowdown=1.0).lines()[-1]
    assert len(plan.lines()) == 3


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
    with caplog.at_level(logging.WARNING, "mtaw_fast"):
        trained = train(ring, small, tmp_path, resume=True, budget_minutes=10**6)
    assert trained.model.config.loss.softmax == "sampled"
    assert "sampled softmax" in caplog.text
    assert "--set softmax=full overrides this" in caplog.text


class Alone:
    """A group of one process, without the channels."""

    def runner(self, config: Config, n_items: int) -> Runner:
        return Runner(torch.device("cpu"))

    def mark(self, folder: Path) -> None: ...


@pytest.mark.usefixtures("measuring")
def test_what_one_process_began_to_sample_no_group_takes_up(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ring, small, tmp_path, reporter=StopsAt(1, "search", 2), budget_minutes=0)
    before = (tmp_path / "state.json").read_bytes()
    with pytest.raises(UsageError, match=r"sampled softmax, which a group .* resume it without torchrun"):
        train(ring, small, tmp_path, resume=True, group=Alone())
    assert (tmp_path / "state.json").read_bytes() == before


@pytest.mark.usefixtures("measuring")
def test_what_a_group_began_keeps_the_full_softmax(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ring, small, tmp_path, reporter=StopsAt(1, "search", 2), group=Alone())
    events: list[Plan] = []
    trained = train(ring, small, tmp_path, resume=True, budget_minutes=0, planned=events.append)
    assert events[0].lines()[0] == "plan: full softmax (as the run began)"
    assert trained.model.config.loss.softmax == "full"
    assert train(ring, small, tmp_path, overwrite=True, group=Alone()).model.config.loss.softmax == "full"
