"""The search for settings: what it trains and measures on, when it stops a trial, what it reports."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Dataset, training
from mtaw_fast.cli import main
from mtaw_fast.config import Config, preset
from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.data.sessions import Samples
from mtaw_fast.data.synthetic import generate
from mtaw_fast.errors import MissingPackageError, TrainingError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.evaluation.paired import gains_over
from mtaw_fast.training import trained_model
from mtaw_fast.training.plan import estimate as planning
from mtaw_fast.training.plan.plan import Plan
from mtaw_fast.tuning import BY, COMMON, SHARES, WITH_MEMORY, WITHOUT_MEMORY, Trial, tune

SMALL = preset("paper").override(["embedding_dim=8", "epochs=1", "validation_fraction=0.1", "max_positions=8"])


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(60, 900, seed=3)


@dataclasses.dataclass
class Asked:
    dataset: Dataset
    config: Config
    refit: bool
    plan: Plan


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Fake trainings: the metric is best at gamma 3, and grows with the share of the sessions."""
    calls: list[Asked] = []

    def trained(dataset: Dataset, config: Config, folder: Path, *, refit: bool, plan: Plan, **_: Any) -> Any:
        calls.append(Asked(dataset, config, refit, plan))
        if config.loss.gamma > 5.5:
            raise TrainingError("the loss is nan")
        value = 50 - (config.loss.gamma - 3) ** 2 + len(dataset.train) / 1000
        model = SimpleNamespace(gamma=config.loss.gamma, click_types=ClickTypes())
        return SimpleNamespace(metrics={BY: value, "P@20": value}, model=model)

    def ranks(model: Any, samples: Samples) -> np.ndarray:
        """At gamma 3 every target is found, at 2 and 4 three of four."""
        luck = np.random.default_rng(0).random(len(samples))
        return (luck < 1 - (model.gamma - 3) ** 2 / 4).astype(np.int32)

    monkeypatch.setattr(training, "train", trained)
    monkeypatch.setattr(trained_model, "served_ranks", ranks)
    return calls


@pytest.mark.parametrize("memory", [False, True])
def test_every_share_is_scored_on_the_same_sessions(dataset: Dataset, asked: list[Asked], memory: bool) -> None:
    config = SMALL.replace(enabled=memory)
    fitted, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
    tuned = tune(dataset, config, trials=1)
    assert len(asked) == len(SHARES)
    for call, share in zip(asked, SHARES, strict=True):
        before, after = call.dataset.train.split_last(call.config.optimizer.validation_fraction)
        assert np.array_equal(after.items, held_out.items)
        assert len(before) == round(share * len(fitted))
        assert np.array_equal(before.items, fitted.items[len(fitted.items) - len(before.items) :])
        assert not call.refit
        assert call.dataset.n_items == dataset.n_items
    # The first trial has the given settings.
    assert asked[-1].config.replace(validation_fraction=config.optimizer.validation_fraction) == config
    assert tuned.config == config
    assert set(tuned.best.settings) == set(COMMON | (WITH_MEMORY if memory else WITHOUT_MEMORY))


def test_the_best_is_found_the_worse_are_pruned_and_failures_survive(
    dataset: Dataset, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Trial] = []
    counts: list[int] = []
    monkeypatch.setattr("mtaw_fast.tuning.gains_over", lambda *a: counts.append(a[3]) or gains_over(*a))
    tuned = tune(dataset, SMALL, trials=25, seed=1, progress=reported.append)
    assert reported == tuned.trials
    assert [trial.number for trial in reported] == list(range(25))
    states = {trial.state for trial in reported}
    assert states == {"complete", "pruned", "failed"}
    complete = [trial for trial in reported if trial.state == "complete"]
    assert tuned.best == max(complete, key=lambda trial: trial.metrics[BY])
    assert tuned.best.metrics[BY] > reported[0].metrics[BY]
    assert tuned.better
    assert tuned.chosen == tuned.best
    assert tuned.gains["P@20"].difference > 20
    assert abs(tuned.config.loss.gamma - 3) < 1
    for trial in reported:
        assert (trial.share == 1) == (trial.state == "complete")
    pruned = [trial for trial in reported if trial.state == "pruned"]
    assert all(trial.share < 1 for trial in pruned)
    # The sessions that stop a trial are those of the interval, so the best one is chosen from it too.
    assert counts == [len(complete) + len(pruned) - 1]
    assert len(asked) < len(SHARES) * 25  # a stopped trial is not trained on
    assert tune(dataset, SMALL, trials=25, seed=1).best == tuned.best  # the same seed repeats the search


def test_noise_is_not_called_better(
    dataset: Dataset,
    asked: list[Asked],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Trials whose hits are as many as those of the initial settings, but others."""

    def ranks(model: Any, samples: Samples) -> np.ndarray:
        luck = np.random.default_rng(round(1000 * model.gamma)).random(len(samples))
        return (luck < 0.5).astype(np.int32)

    monkeypatch.setattr(trained_model, "served_ranks", ranks)
    tuned = tune(dataset, SMALL, trials=12, seed=1)
    assert tuned.best.metrics[BY] > tuned.trials[0].metrics[BY]
    assert not tuned.better
    assert tuned.chosen == tuned.trials[0]
    assert tuned.config == SMALL
    low, high = tuned.gains[BY].interval or (1.0, 1.0)
    assert low < 0 < high
    _, held_out = dataset.train.split_last(SMALL.optimizer.validation_fraction)
    count = len(Samples.from_sessions(held_out, dataset.min_prefix))
    assert tuned.objective == f"MRR@20 on {count:,} validation samples of {len(held_out)} sessions"
    assert f"gamma={SMALL.loss.gamma!r}" in tuned.assignments()
    dataset.save(tmp_path / "set")
    settings = [part for name in ("embedding_dim=8", "validation_fraction=0.1") for part in ("--set", name)]
    assert main(["tune", f"{tmp_path}/set", "--preset", "paper", *settings, "--trials", "12", "--seed", "1"]) == 0
    objective, chosen, command = capsys.readouterr().out.splitlines()
    assert objective == f"objective: {tuned.objective}"
    assert chosen.startswith("chosen: trial 0, MRR@20 ")
    assert "(the initial settings; trial " in chosen
    assert "which may be noise: MRR@20 -" in chosen
    assert f"--set gamma={SMALL.loss.gamma!r}" in command


def test_the_more_trials_the_wider_the_interval() -> None:
    rng = np.random.default_rng(2)
    first, second = ((rng.random(400) < 0.5).astype(np.int32) for _ in range(2))
    session, weights = np.arange(400) // 3, rng.integers(0, 3, 400).astype(np.float32)
    widths = []
    for trials in (1, 5, 50):
        gain = gains_over(first, second, session, trials)[BY]
        assert gain.interval is not None
        widths.append(gain.interval[1] - gain.interval[0])
        assert gain.difference == pytest.approx(100 * (second.mean() - first.mean()))
    assert widths[0] < widths[1] < widths[2]
    repeated = [np.repeat(array, weights.astype(int)) for array in (first, second, session)]
    weighted = gains_over(first, second, session, 1, weights)[BY]
    plain = gains_over(repeated[0], repeated[1], repeated[2], 1)[BY]
    assert weighted.difference == pytest.approx(plain.difference)
    assert weighted.interval == pytest.approx(plain.interval, abs=0.6)


def test_one_plan_holds_for_all_trials(
    dataset: Dataset, asked: list[Asked], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, plans = planning.plan_training, []
    monkeypatch.setattr(planning, "plan_training", lambda *a, **k: plans.append(real(*a, **k)) or plans[-1])
    tuned = tune(dataset, SMALL.replace(softmax="sampled"), trials=5)
    assert len(plans) == 1
    assert {id(call.plan) for call in asked} == {id(plans[0])}
    assert plans[0].softmax == "sampled"
    assert tuned.config.loss.softmax == "sampled"
    monkeypatch.undo()
    # The run and its resumption keep the plan, although its own settings would choose the full softmax.
    reported: list[Plan] = []
    run = tmp_path / "run"
    training.train(dataset, SMALL, run, refit=False, device="cpu", plan=plans[0], planned=reported.append)
    assert not reported
    training.train(dataset, SMALL, run, refit=False, device="cpu", resume=True, planned=reported.append)
    assert reported == plans


def test_which_settings_are_searched_and_in_which_range(dataset: Dataset, asked: list[Asked]) -> None:
    assert set(tune(dataset, SMALL.replace(init="uniform"), trials=1).best.settings) == set(COMMON)
    # One outside of its range is kept as the first trial. A whole number, or 0, is no reason to search whole ones.
    tuned = tune(dataset, SMALL.replace(lr=0.05, gamma=2, dropout=0, itl_gain=0.0), trials=6)
    assert tuned.trials[0].settings["lr"] == 0.05
    assert any(trial.settings["gamma"] % 1 for trial in tuned.trials)
    assert any(trial.settings["dropout"] % 1 for trial in tuned.trials)


def test_misuse_is_refused(dataset: Dataset, asked: list[Asked]) -> None:
    with pytest.raises(UsageError, match="trials must be at least 1"):
        tune(dataset, SMALL, trials=0)
    with pytest.raises(UsageError, match="seconds must be above 0"):
        tune(dataset, SMALL, seconds=0)
    small = dataclasses.replace(dataset, train=dataset.train.slice(0, 100))
    with pytest.raises(UsageError, match="too few to search on"):
        tune(small, SMALL, trials=1)
    assert not asked


def test_the_reason_of_trials_that_all_failed_is_given_without_tracebacks(
    dataset: Dataset, asked: list[Asked], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError, match=r"no trial finished its training; .* the loss is nan"):
        tune(dataset, SMALL.replace(gamma=5.9), trials=1)
    assert len(asked) == 1
    assert capfd.readouterr().err == ""


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, dataset: Dataset) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=re.escape(install_command("tune"))):
        tune(dataset, SMALL)
