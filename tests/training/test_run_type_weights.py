"""Weights by type act as repeated targets; with weights of 1 nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.config.type_weights import by_code
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training import train
from mtaw_fast.training.encoder.validation import validation_metrics
from mtaw_fast.training.plan.first_steps import Stopwatch, encoder_times
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker.candidates import Prefixes
from mtaw_fast.training.refit import refit_encoder, refit_ranker
from mtaw_fast.training.repeating_types import log_weights
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import Stepper
from mtaw_fast.training.steps.static_step import StaticStep
from tests.support.training.ring import TYPE_NAMES, ring_sessions, typed
from tests.support.training.runs import same
from tests.support.training.steps import CPU

COUNTS = np.array([1, 3, 0], dtype=np.float32)  # of the types, whole so that samples can be repeated


def typed_ring(ring: Dataset) -> Dataset:
    return replace(
        ring,
        train=typed(ring.train),
        test=Samples.from_sessions(typed(ring_sessions(40, seed=2)), 1),
        type_names=TYPE_NAMES,
    )


def repeated(batch: Batch, times: np.ndarray) -> Batch:
    """The batch with repeated samples."""
    rows = torch.from_numpy(np.repeat(np.arange(len(batch.rows)), times))
    return replace(batch, rows=batch.rows[rows], targets=batch.targets[rows], weights=None, mass=float(len(rows)))


def test_a_step_equals_that_of_repeated_samples(small: Config) -> None:
    config = small.replace(dropout=0.0, compute_dtype="float32")
    sessions = typed(ring_sessions(20, seed=4))
    weighted = Batch.of(sessions, 1, CPU, type_weights=COUNTS)
    plain = Batch.of(sessions, 1, CPU)
    clicks = np.flatnonzero(np.arange(sessions.n_clicks) > np.repeat(sessions.offsets[:-1], sessions.lengths))
    times = COUNTS[sessions.types[clicks]].astype(np.int64)
    oracle = repeated(plain, times)
    assert weighted.mass == oracle.mass == times.sum()
    assert len(weighted.rows) == np.count_nonzero(times)
    models = [MTAW(config, 60).draw_weights(3) for _ in range(3)]
    steppers: tuple[Any, ...] = (
        Stepper(models[0], config), Stepper(models[1], config), StaticStep(models[2], config),
    )  # fmt: skip
    values = [stepper.step(batch, 1.0) for stepper, batch in zip(steppers, (oracle, weighted, weighted), strict=True)]
    for value, model in zip(values[1:], models[1:], strict=True):
        assert value == pytest.approx(values[0], rel=1e-5)
        for (name, ours), theirs in zip(model.named_parameters(), models[0].parameters(), strict=True):
            # A step of Adam divides by the gradient's size, which amplifies its rounding near 0.
            far = (ours - theirs).abs() > 1e-3 * config.optimizer.lr
            assert far.float().mean() < 0.02, name


def test_the_epochs_mean_loss_is_weighted(small: Config) -> None:
    config = small.replace(dropout=0.0, compute_dtype="float32", lr=1e-9)
    batches = [Batch.of(typed(ring_sessions(9, seed), seed), 1, CPU, type_weights=COUNTS) for seed in (1, 2)]
    means, values = [], []
    for kind in (Stepper, StaticStep):
        stepper = kind(MTAW(config, 60).draw_weights(3), config)
        values.append([stepper.step(batch, 1.0) for batch in batches])  # the static step reads them later
        means.append(stepper.end_epoch())
    masses = [batch.mass for batch in batches]
    assert means[0] == pytest.approx(np.average(values[0], weights=masses), rel=1e-4)
    assert means[1] == pytest.approx(means[0], rel=1e-5)


def test_validation_equals_that_of_repeated_samples(small: Config) -> None:
    model = MTAW(small, 60).draw_weights(1)
    sessions = typed(ring_sessions(60, seed=3))
    metrics = validation_metrics(model, sessions, 1, COUNTS)
    parts = [(kind, validation_metrics(model, sessions, 1, np.eye(3, dtype=np.float32)[kind])) for kind in (0, 1)]
    targets = Samples.from_sessions(sessions, 1).target_types
    assert targets is not None
    masses = [COUNTS[kind] * np.count_nonzero(targets == kind) for kind, _ in parts]
    for name, value in metrics.items():
        assert value == pytest.approx(np.average([part[name] for _, part in parts], weights=masses), rel=1e-6)


def test_prefixes_whose_target_counts_nothing_are_left_out() -> None:
    sessions = typed(ring_sessions(30, seed=8))
    prefixes, whole = Prefixes.of(sessions, 1, COUNTS), Prefixes.of(sessions, 1)
    assert sessions.types is not None
    counts = COUNTS[sessions.types[whole.ends]]
    assert np.array_equal(prefixes.ends, whole.ends[counts > 0])
    assert prefixes.weights is not None
    assert np.array_equal(prefixes.weights, counts[counts > 0])


@pytest.mark.parametrize("kind", ["small", "remembering"])
def test_weight_one_everywhere_is_no_weights_to_the_bit(
    ring: Dataset, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = request.getfixturevalue(kind).replace(epochs=1)
    data = typed_ring(ring)
    runs = {}
    for name, weights in (("none", ""), ("ones", "view=1,cart=1.0"), ("some", "view=1,cart=3,purchase=0")):
        runs[name] = train(data, config.replace(type_weights=weights), tmp_path / name, refit=False)
    none, ones, some = runs["none"], runs["ones"], runs["some"]
    assert same(none.model, ones.model)
    assert none.metrics == ones.metrics
    assert not np.array_equal(none.model.weights["item_embedding"], some.model.weights["item_embedding"])
    assert "targets count by type: view=1,cart=3,purchase=0" in some.record()["protocol"]
    if kind == "small":  # with a memory the ring is too easy
        assert none.metrics != some.metrics
        return
    nets: list[Any] = [run.model.ranker_net for run in (none, some)]
    assert not np.array_equal(nets[0].w1, nets[1].w1)
    with pytest.raises(UsageError, match="which a refit does not apply: update it without --refit"):
        refit_ranker(some.model, some.model, 1, 1, tmp_path, Silent())
    with pytest.raises(UsageError, match="which a refit does not apply"):
        refit_encoder(some.model, 1, tmp_path, CPU, Silent())


def test_what_the_data_set_cannot_give_is_refused_before_anything_is_done(
    ring: Dataset, small: Config, tmp_path: Path
) -> None:
    data = typed_ring(ring)
    for dataset, weights, message in (
        (ring, "view=2", "have no types; prepare it with --type"),
        (data, "buy=2", "there is no type 'buy' in the data set; its types are view, cart, purchase"),
        (data, "view=0,cart=0,purchase=0", "every type of the data set has the weight 0"),
    ):
        with pytest.raises(UsageError, match=message):
            train(dataset, small.replace(type_weights=weights), tmp_path / "run")
    lone = replace(data.train, types=np.zeros(data.train.n_clicks, np.uint8))
    with pytest.raises(UsageError, match="every target of the validation sessions has the weight 0"):
        train(replace(data, train=lone), small.replace(type_weights="view=0"), tmp_path / "run")
    with pytest.raises(UsageError, match="the sessions' clicks have no types"):
        Batch.of(ring.train, 1, CPU, type_weights=COUNTS)
    assert not list(tmp_path.glob("run/*.json"))


def test_types_that_only_validation_has_leave_nothing_to_learn_from(
    ring: Dataset, small: Config, tmp_path: Path
) -> None:
    config = small.replace(type_weights="view=0,cart=0")
    fitted, _ = ring.train.split_last(config.optimizer.validation_fraction)
    types = np.zeros(ring.train.n_clicks, np.uint8)
    types[fitted.n_clicks :] = 2
    data = replace(typed_ring(ring), train=replace(ring.train, types=types))
    with pytest.raises(
        TrainingError, match="nothing to learn from: setting type_weights gives their types the weight 0"
    ):
        train(data, config, tmp_path / "run")
    weights = by_code(config.loss.type_weights, data.type_names, "here")
    known = data.train.split_last(config.optimizer.validation_fraction)[0]
    watch = Stopwatch(CPU, 1)
    with pytest.raises(TrainingError, match="nothing to learn from: setting type_weights"):  # raised by the plan
        encoder_times(config, known, data.n_items, 1, CPU, weights, ("full",), watch)


def test_a_weight_on_repeats_is_named(caplog: pytest.LogCaptureFixture) -> None:
    items = np.array([1, 1, 2, 2, 2, 3, 1, 4], np.int32)
    view, cart, buy = range(3)
    types = np.array([view, cart, view, cart, buy, view, buy, view], np.uint8)
    sessions = Sessions(items, np.array([0, 5, 5, 8]), types=types)
    weights = np.array([1, 3, 8, 1], np.float32)
    # Both carts repeat the click before them; of two purchases one does, which is not most; nobody gives a gift.
    for counts in (weights, np.ones(4, np.float32), np.array([1, 0, 8, 1], np.float32), None):
        log_weights(sessions, (*TYPE_NAMES, "gift"), counts)
    (line,) = caplog.messages
    assert line.startswith("100% of the targets of type cart repeat the click before them")
