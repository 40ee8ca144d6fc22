"""Measure the first steps of a training: real steps on real sessions, whose results are discarded.

The measurements do not change the training: torch's generator is restored.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtaw_fast.config import Config, Softmax
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.spectral import spectral_embedding
from mtaw_fast.training.memory_tables import build_tables, build_trends
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker.dataset import RankerDataset
from mtaw_fast.training.ranker.fit_ranker import fit_ranker
from mtaw_fast.training.ranker.prequential import build_dataset
from mtaw_fast.training.ranker.side_inputs import NOTHING, SideInputs
from mtaw_fast.training.ranker.train_ranker import fit_settings
from mtaw_fast.training.steps.batch import EpochBatches, nothing_to_learn, sample_counts
from mtaw_fast.training.steps.choice import make_stepper

_WARM_UP, _STEPS = 1, 4
_STEP_SESSIONS = 20_000  # from which the batches of measured steps are drawn
_PAST_CLICKS, _RANKED, _FEW, _MANY = 4_000_000, 2_048, 2_000, 10_000  # clicks of the measured part of the ranker
_EPOCHS = 3  # of the measured fit
_SPECTRAL = (1 / 32, 1 / 8)  # shares of the sessions


Cost = np.ndarray  # float64[2]: seconds on a machine without other load, seconds of processor time


class Stopwatch:
    """Measures the cost of work. Without other load it takes its processor time, of one thread or shared by several.

    device: on a GPU, whose work has no processor time, seconds are wall-clock time. threads: for the loss and the
    session memory.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self._device, self._threads = device, threads
        self._passed = self._counted = 0.0

    def cost(self, work: Callable[[], object], *, busy: bool = False) -> Cost:
        """Return the cost of `work`. busy: it keeps this thread busy, so a longer wall-clock time is other load."""
        began = self.now()
        work()
        ended = self.now()
        cost = self.between(began, ended)
        if busy:
            self._passed += ended[0] - began[0]
            self._counted += cost[0]
        return cost

    def now(self) -> np.ndarray:
        """Return a moment for `between`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return np.array([time.perf_counter(), time.process_time(), time.thread_time()])

    def between(self, began: np.ndarray, ended: np.ndarray) -> Cost:
        """Return the cost of the work between two moments."""
        passed, processor, own = ended - began
        return np.array([max(processor / self._threads, own) if self._device.type == "cpu" else passed, processor])

    @property
    def slowdown(self) -> float:
        """Wall-clock time of the busy work divided by its processor time."""
        return max(self._passed / max(self._counted, 1e-9), 1.0)


class _Epochs(Silent):
    """Measures each epoch of a fit: the difference of two fits would be that of two noises."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch, self._began = watch, np.zeros(3)
        self.costs: list[Cost] = []

    def epoch_starts(self, *_: Any, **__: Any) -> None:
        self._began = self._watch.now()

    def epoch_ends(self, *_: Any, **__: Any) -> None:
        self.costs.append(self._watch.between(self._began, self._watch.now()))


@dataclass(frozen=True, slots=True)
class EncoderTimes:
    """Costs of training the encoder.

    step: the cost of a step, by softmax. start: the fixed cost of the initial weights. start_by_sessions: their cost
    that grows with the sessions, for all sessions.
    """

    step: Mapping[Softmax, Cost]
    samples_a_step: float
    start: Cost
    start_by_sessions: Cost


@dataclass(frozen=True, slots=True)
class RankerTimes:
    """Costs of the session memory and its ranker.

    table_click: for a click of the tables. start: for the first search of the catalog, and what a fit costs once.
    learned: for a learned click. ranked: for a ranked query. fitted: for a ranked query in an epoch of the fit, which
    leaves out queries without their target. importance: for a sample of `feature_importance`.
    """

    table_click: Cost
    start: Cost
    learned: Cost
    ranked: Cost
    fitted: Cost
    importance: Cost


def encoder_times(
    config: Config,
    sessions: Sessions,
    n_items: int,
    min_prefix: int,
    device: torch.device,
    type_weights: np.ndarray | None,
    softmaxes: tuple[Softmax, ...],
    watch: Stopwatch,
) -> EncoderTimes:
    """Take a few steps with each softmax, and compute initial item vectors from two shares of the sessions."""
    rng = np.random.default_rng(config.optimizer.seed)
    usable = sessions.keep_last(config.model.max_session_length + 1)
    counts = sample_counts(usable, min_prefix, config.loss.targets, type_weights)
    chosen = np.flatnonzero(counts)
    if len(chosen) == 0:
        raise nothing_to_learn(min_prefix, config.loss.targets, type_weights)
    if len(chosen) > _STEP_SESSIONS:
        chosen = np.sort(rng.choice(chosen, _STEP_SESSIONS, replace=False))
    chosen_sessions = usable.select(chosen)
    source = EpochBatches(config, chosen_sessions, min_prefix, type_weights)
    batches = source.cut(0)
    steps, samples = {}, float(counts[chosen].sum()) / len(batches)
    with torch.random.fork_rng(devices=[]):
        model = MTAW(config, n_items).draw_weights(config.optimizer.seed).to(device)
        model.train()
        for softmax in softmaxes:
            stepper = make_stepper(model, config.replace(softmax=softmax), usable)
            costs = []
            for k in range(_WARM_UP + _STEPS):
                numbers = batches[k % len(batches)]
                batch = stepper.stage(source.batch(numbers, stepper.input_device))
                costs.append(watch.cost(lambda: stepper.step(batch, config.optimizer.warmup_epochs), busy=True))  # noqa: B023
            steps[softmax] = np.median(costs[_WARM_UP:], axis=0)
    start = by_sessions = np.zeros(2)
    if config.model.init == "structured":
        costs = []
        for share in _SPECTRAL:
            part = sessions.slice(len(sessions) - max(round(share * len(sessions)), 1), len(sessions))
            work = partial(spectral_embedding, part, n_items, config.model.embedding_dim, 1.0, config.optimizer.seed)
            costs.append(watch.cost(work))
        few_cost, more_cost = costs
        by_sessions = np.maximum(more_cost - few_cost, 0) / (_SPECTRAL[1] - _SPECTRAL[0])
        start = np.maximum(few_cost - by_sessions * _SPECTRAL[0], 0)
    return EncoderTimes(steps, samples, start, by_sessions)


def ranker_times(
    config: Config,
    sessions: Sessions,
    n_items: int,
    min_prefix: int,
    watch: Stopwatch,
    folder: Path | None = None,
    side: SideInputs = NOTHING,
) -> RankerTimes:
    """Build a ranker's dataset of the last clicks, and fit a ranker to it.

    folder: where the file of the dataset goes, by default the folder for temporary files.
    """
    first = int(np.searchsorted(sessions.offsets, sessions.n_clicks - _PAST_CLICKS))
    past = sessions.slice(min(first, len(sessions) - 2), len(sessions))
    before, last = _cut(past, min(_MANY, past.n_clicks // 2))
    few, _ = _cut(last, max(last.n_clicks - _FEW, last.n_clicks // 2))
    weights = None
    if config.memory.dense_candidates:
        model = MTAW(config, n_items).draw_weights(config.optimizer.seed)
        weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    built: list[Any] = []

    def build_both() -> None:
        built.extend((build_tables(config, before, n_items), build_trends(config, before, n_items, side.context)))

    table_click = watch.cost(build_both) / max(before.n_clicks, 1)
    tables, trends = built
    since = None if before.times is None else int(before.times.max())
    scratch = folder or Path(tempfile.gettempdir())  # the file has no name, so a kill leaves nothing

    def build(part: Sessions, samples: int) -> tuple[Cost, RankerDataset | None]:
        settings, datasets = config.replace(ranker_samples=samples), []

        def work() -> None:
            with contextlib.suppress(TrainingError):  # no target among its candidates
                datasets.append(
                    build_dataset(
                        settings, tables, part, min_prefix, weights, scratch, "", Silent(), since, trends, side=side
                    )
                )

        return watch.cost(work), datasets[0] if datasets else None

    short, _ = build(few, 1)
    long, _ = build(last, 1)
    ranking, dataset = build(last, _RANKED)
    learned = np.maximum(long - short, 0) / max(last.n_clicks - few.n_clicks, 1)
    if dataset is None:
        return RankerTimes(table_click, short, learned, np.zeros(2), np.zeros(2), np.zeros(2))
    settings = replace(fit_settings(config, timed=trends is not None), excluded=())

    def fit(epochs: int) -> tuple[Cost, list[Cost]]:
        of_epochs, reporter = replace(settings, epochs=epochs), _Epochs(watch)
        cost = watch.cost(lambda: fit_ranker(dataset, of_epochs, config.optimizer.seed, "", reporter))
        return cost, reporter.costs

    fit(1)  # torch imports parts of its optimizers with the first one
    whole, epochs = fit(_EPOCHS)
    queries = len(dataset.targets) + dataset.left_out
    fitted = np.median(epochs, axis=0) / queries
    return RankerTimes(
        table_click,
        np.maximum(short - learned * few.n_clicks, 0) + np.maximum(whole - np.sum(epochs, axis=0), 0),
        learned,
        np.maximum(ranking - long, 0) / max(queries - 1, 1),
        fitted,
        fitted * len(dataset.features),  # each is left out once, of all candidates: without a step, but of more
    )


def _cut(sessions: Sessions, clicks: int) -> tuple[Sessions, Sessions]:
    """Split off the last sessions with about so many clicks; neither part is empty."""
    split = int(np.searchsorted(sessions.offsets, sessions.n_clicks - clicks))
    split = min(max(split, 1), len(sessions) - 1)
    return sessions.slice(0, split), sessions.slice(split, len(sessions))
