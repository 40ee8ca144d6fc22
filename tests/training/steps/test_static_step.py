"""The step over static buffers is the eager step: losses, weights, moments, and NaN; on a GPU, so are its graphs."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import TrainingError, UnsupportedError
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.training import train
from mtaw_fast.training.encoder import runner
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.steps import static_step as static_module
from mtaw_fast.training.steps.full_step import Stepper
from mtaw_fast.training.steps.static_batch import StaticBatch
from mtaw_fast.training.steps.static_step import StaticStep
from tests.support.training.runs import StopsAt, same
from tests.support.training.steps import CPU, batches, new_model, still_config

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


def use_static_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "make_stepper", lambda model, config, _: StaticStep(model, config, "reference"))


@pytest.mark.parametrize(("min_prefix", "recent"), [(1, 0.0), (2, 0.0), (1, 2.0)])
def test_it_takes_the_steps_of_the_eager_stepper(min_prefix: int, recent: float) -> None:
    config = still_config(recent_weight=recent)
    eager, static = Stepper(new_model(config), config), StaticStep(new_model(config), config, "reference")
    for epoch in range(2):
        losses = []
        for step, batch in enumerate(batches(config, min_prefix)):
            losses.append(eager.step(batch, epoch + step / 10))
            first = static.step(batch, epoch + step / 10)
            if step == 0:
                assert first == pytest.approx(losses[0], rel=1e-5)
        assert static.end_epoch() == pytest.approx(eager.end_epoch(), rel=1e-5)
    assert len(set(losses)) == len(losses) > 2
    for (name, a), b in zip(eager.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5, msg=name)
    theirs, ours = eager.moments(), static.moments()
    assert theirs.keys() == ours.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=2e-3, atol=1e-6, msg=name)


def test_moments_go_from_one_stepper_to_the_other() -> None:
    config = still_config()
    first, second, *_ = batches(config)
    eager, other = Stepper(new_model(config), config), StaticStep(new_model(config), config, "reference")
    static = StaticStep(new_model(config), config, "reference")
    eager.step(first, 0.5)
    other.load_moments({name: value.numpy() for name, value in eager.moments().items()})
    other.model.load_state_dict(eager.model.state_dict())
    static.step(first, 0.5)
    for stepper in (other, static):
        stepper.step(second, 0.6)
    for (name, a), b in zip(other.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)
    with pytest.raises(KeyError):
        other.load_moments({})


@on_gpu
def test_replays_take_the_steps_of_the_work_that_was_captured() -> None:
    config, device = still_config(), torch.device("cuda")
    graph, static = (StaticStep(new_model(config, device), config, captures=captures) for captures in (True, False))
    for epoch in range(2):
        for step, batch in enumerate(batches(config)):
            for stepper in (graph, static):
                stepper.step(batch, epoch + step / 10)
        assert graph.end_epoch() == pytest.approx(static.end_epoch(), rel=1e-5)
    for (name, a), b in zip(graph.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("device", [CPU, pytest.param(torch.device("cuda"), marks=on_gpu)], ids=str)
def test_dropout_differs_from_step_to_step_and_follows_the_seed(device: torch.device) -> None:
    config = still_config().replace(dropout=0.5, lr=1e-30)
    stepper, batch = StaticStep(new_model(config, device), config, captures=True), batches(config)[0]

    def three_losses() -> list[float]:
        torch.manual_seed(5)
        losses = []
        for _ in range(3):
            stepper.step(batch, 1.0)
            losses.append(stepper.end_epoch())
        return losses

    first = three_losses()
    assert len(set(first)) == 3
    assert three_losses() == first


def test_batches_staged_in_another_thread_take_the_same_steps() -> None:
    config = still_config().replace(dropout=0.3)
    plain, staged = (StaticStep(new_model(config), config, "reference") for _ in range(2))
    chosen = batches(config)[:8]
    torch.manual_seed(5)
    for batch in chosen:
        plain.step(batch, 0.5)
    torch.manual_seed(5)
    for _, ready in made_ahead(staged.stage, chosen, 2):
        staged.step(ready, 0.5)
    assert staged.end_epoch() == plain.end_epoch()
    for a, b in zip(plain.model.parameters(), staged.model.parameters(), strict=True):
        assert torch.equal(a, b)


class WholeCatalogs(TorchDispatchMode):
    """Names of the operations that make an array of the catalog's size."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.made = shape, list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.shape == self.shape:
            self.made.append(str(func))
        return result


def test_the_clicks_gradient_makes_no_array_of_the_catalogs_size() -> None:
    config = still_config(loss_backend="chunked")
    stepper, batch = StaticStep(new_model(config), config, "reference"), batches(config)[0]
    with WholeCatalogs(stepper.model.item_embedding.shape) as catalogs:
        stepper.step(batch, 0.5)
    assert not any("embedding" in name or "new_zeros" in name for name in catalogs.made)
    # The chunked loss's own accumulator alone.
    assert sum("zeros" in name for name in catalogs.made) == 1


class NoCapture(StaticStep):
    """Captures its work, which fails."""

    def __init__(self, config: Config) -> None:
        super().__init__(new_model(config), config)
        self._captures = True

    def _capture(self, static: StaticBatch) -> torch.cuda.CUDAGraph:
        self._work(static.inputs)  # as a warm-up does
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nfurther lines")


def test_a_capture_that_fails_leaves_the_eager_step_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    config = still_config().replace(train_step="auto")
    graph, static = NoCapture(config), StaticStep(new_model(config), config)
    with caplog.at_level(logging.WARNING, logger="mtaw_fast"):
        for batch in batches(config):
            for stepper in (graph, static):
                stepper.step(batch, 0.5)
    assert graph.end_epoch() == static.end_epoch()
    for a, b in zip(graph.model.parameters(), static.model.parameters(), strict=True):
        assert torch.equal(a, b)
    error = "CUDA error: operation not permitted when stream is capturing"
    assert caplog.messages == [f"training step: eager, since its capture failed ({error})"]
    asked = NoCapture(still_config().replace(train_step="cuda-graph"))
    before = [parameter.detach().clone() for parameter in asked.model.parameters()]
    with pytest.raises(UnsupportedError, match=r"the capture failed \(CUDA error: .*capturing\); choose auto or eager"):
        asked.step(batches(config)[0], 0.5)
    assert all(torch.equal(a, b) for a, b in zip(before, asked.model.parameters(), strict=True))


class FailsAt:
    """Turns the static step's loss into `value` at one step, counted from 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, value: float) -> None:
        self.calls = 0

        def faulty(*arguments: Any, **settings: Any) -> torch.Tensor:
            self.calls += 1
            return aw_loss(*arguments, **settings) * (value if self.calls == step + 1 else 1.0)

        monkeypatch.setattr(static_module, "aw_loss", faulty)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_after_a_loss_that_is_not_finite_no_step_changes_anything(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = still_config()
    FailsAt(monkeypatch, 2, value)
    stepper = StaticStep(new_model(config), config, "reference")
    first, second, third, fourth, *_ = batches(config)
    stepper.step(first, 0.5)
    stepper.step(second, 0.5)
    kept = [tensor.detach().clone() for tensor in (*stepper.model.parameters(), *stepper.moments().values())]
    stepper.step(third, 0.5)
    stepper.step(fourth, 0.5)
    loss = stepper.end_epoch()
    assert loss == value or (math.isnan(loss) and math.isnan(value))
    assert stepper.failed_step == 2
    for a, b in zip(kept, (*stepper.model.parameters(), *stepper.moments().values()), strict=True):
        assert torch.equal(a, b)


def test_losses_are_read_at_the_first_step_and_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_module, "_READ_EVERY", 3)
    config = still_config()
    eager, static = Stepper(new_model(config), config), StaticStep(new_model(config), config, "reference")
    chosen = batches(config)[:2] * 3
    true = [eager.step(batch, 0.5) for batch in chosen]
    losses_read = [static.step(batch, 0.5) for batch in chosen]
    assert losses_read == pytest.approx([true[0], true[0], true[2], true[2], true[2], true[5]], rel=1e-4)


def test_a_whole_training_learns_and_resumes_with_the_same_bits(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_static_steps(monkeypatch)
    whole = train(ring, small, tmp_path / "whole")
    assert whole.metrics["MRR@20"] > 80
    assert whole.history[3]["loss"] < whole.history[0]["loss"]
    with pytest.raises(KeyboardInterrupt):
        train(ring, small, tmp_path / "cut", reporter=StopsAt(step=60))
    resumed = train(ring, small, tmp_path / "cut", resume=True)
    assert same(resumed.model, whole.model)


def test_a_training_whose_loss_fails_names_the_step_and_keeps_the_last_epoch(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_static_steps(monkeypatch)
    steps_an_epoch: list[int] = []

    class Counter(Silent):
        def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
            steps_an_epoch.append(0)

        def step_done(self, sessions: int, loss: float) -> None:
            steps_an_epoch[-1] += 1

    train(ring, small.replace(epochs=1), tmp_path / "count", refit=False, reporter=Counter())
    FailsAt(monkeypatch, steps_an_epoch[0] + 4, math.nan)
    with pytest.raises(TrainingError, match=r"the loss is nan in search epoch 2, step 5 of \d+ \(sessions \d+"):
        train(ring, small, tmp_path / "run")
    state = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"checkpoint-search-1.safetensors", "best-1.safetensors"} <= state
    assert "checkpoint-search-2.safetensors" not in state
