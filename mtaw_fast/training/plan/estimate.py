"""Make a training's plan: the work of each phase, its time by the first steps, and its memory.

Memory is calculated, not measured: the arrays of a phase, by the constants below, plus the process and the data set.
Axes: N items, d, U neighboring pairs of clicks, S samples of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mtaw_fast.config import Config, Softmax
from mtaw_fast.config.phases import phases_of
from mtaw_fast.config.type_weights import by_code
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import UsageError
from mtaw_fast.system.memory_use import available_memory
from mtaw_fast.training.encoder.spectral import MAX_PAIRS, count_pairs
from mtaw_fast.training.encoder.validation import check_held_out
from mtaw_fast.training.memory_tables import max_trend_bytes, table_bytes
from mtaw_fast.training.plan.first_steps import Cost, EncoderTimes, RankerTimes, Stopwatch, encoder_times, ranker_times
from mtaw_fast.training.plan.plan import BUDGET_MINUTES, PhasePlan, Plan, asks_for_costs, chosen_softmax
from mtaw_fast.training.ranker.feature_importance import MAX_SAMPLES
from mtaw_fast.training.ranker.prequential import stale_samples
from mtaw_fast.training.ranker.side_inputs import SideInputs
from mtaw_fast.training.ranker.train_ranker import fit_settings, older_parts, split_for_ranker
from mtaw_fast.training.steps.batch import sample_counts
from mtaw_fast.training.threads import current_threads

# Trainings with fewer logits an epoch, and fewer passes over a sample in each phase, take seconds.
TIMED_FROM, TIMED_PASSES = 10**8, 50_000
_ROUGH_START, _ROUGH_ENCODER, _ROUGH_RANKER = 3.0, 25e-6, 160e-6  # seconds, and of a pass, on one core of 2026
_PROCESS = 350 << 20  # the interpreter with torch
_SPECTRAL_PAIR, _SPECTRAL_ROWS = 68, 4 * 112  # bytes a pair, both ways; floats an item
_FULL_COPIES, _SAMPLED_COPIES = 6, 3  # of the item embedding: weights, two moments; gradient and the loss's own
_DELTA_CLICK = 1700  # bytes a click of the delta
_CANDIDATES = 300  # of a query
_OCCURRENCE = 12  # bytes a click, while the clicks are sorted by item


def plan_training(
    dataset: Dataset,
    config: Config,
    *,
    refit: bool = True,
    device: torch.device | None = None,
    budget_minutes: float = BUDGET_MINUTES,
    folder: Path | None = None,
) -> Plan:
    """Return the plan of `train`; unless the log is tiny, its first steps are measured.

    dataset, config, refit: as in `training.run.train`. device: the CPU by default. budget_minutes: longest training
    with the full softmax; a longer one samples.
    Raises UsageError if budget_minutes is below 0 or not a number, or as `validation.check_held_out`; DataError if
    there are no validation samples or too many (`validation.check_held_out`).
    """
    if not budget_minutes >= 0:
        raise UsageError(f"budget_minutes={budget_minutes:g}: it must be at least 0")
    check_held_out(dataset, config)
    device = device or torch.device("cpu")
    work = _Work.of(dataset, config)
    logits = int(work.samples[-1]) * dataset.n_items
    phases = phases_of(config, refit)
    encoders = [name for name in phases if name != "validate" and not name.startswith("ranker")]
    full_bytes = max((work.phase(name, "full", None, None).peak_bytes for name in encoders), default=0)
    free_bytes = available_memory()
    choose = partial(
        chosen_softmax, config, logits_an_epoch=logits, device=device.type, budget_minutes=budget_minutes,
        full_bytes=full_bytes, free_bytes=free_bytes,
    )  # fmt: skip
    passes = {name: work.passes(name) for name in phases}
    if logits < TIMED_FROM and max(passes.values()) < TIMED_PASSES:
        softmax, why = choose(full_seconds=None)
        rough = _ROUGH_START + sum(
            count * (_ROUGH_RANKER if name.startswith("ranker") else _ROUGH_ENCODER) for name, count in passes.items()
        )
        planned = tuple(work.phase(name, softmax, None, None) for name in phases)
        return Plan(softmax, why, planned, rough_seconds=rough)
    measured: tuple[Softmax, ...] = ("full", "sampled")
    costs = asks_for_costs(config, logits_an_epoch=logits, device=device.type)
    if not costs or (free_bytes is not None and full_bytes > free_bytes):
        measured = (choose(full_seconds=None)[0],)
    weights = by_code(config.loss.type_weights, dataset.type_names, "setting type_weights")
    fitted = dataset.train.split_last(config.optimizer.validation_fraction)[0]
    fitted = fitted.without_times() if weights is None else fitted
    watch = Stopwatch(device, current_threads().pieces)
    encoder = encoder_times(config, fitted, dataset.n_items, dataset.min_prefix, device, weights, measured, watch)
    ranker = None
    if config.memory.enabled:
        side = SideInputs.of(dataset, types=config.ranker.event_types)
        ranker = ranker_times(config, dataset.train, dataset.n_items, dataset.min_prefix, watch, folder, side)
    plans = {softmax: tuple(work.phase(name, softmax, encoder, ranker) for name in phases) for softmax in measured}
    seconds = {softmax: sum(phase.seconds or 0.0 for phase in plan) for softmax, plan in plans.items()}
    softmax, why = choose(full_seconds=seconds.get("full"), sampled_seconds=seconds.get("sampled"))
    return Plan(softmax, why, plans[softmax], watch.slowdown)


class _RankerWork(NamedTuple):
    """Clicks that could be ranked, samples of them that learn, frozen ones (`ranker.prequential`), and epochs."""

    queries: int
    ranked: int
    frozen: int
    epochs: int


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """The work of the phases. samples: int64[B + 1], samples of the encoder up to each session; queries: the same for
    all prefixes, also those that are no samples."""

    config: Config
    dataset: Dataset
    samples: np.ndarray
    queries: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, config: Config) -> _Work:
        weights = by_code(config.loss.type_weights, dataset.type_names, "setting type_weights")
        usable = dataset.train.keep_last(config.model.max_session_length + 1)
        counts = sample_counts(usable, dataset.min_prefix, config.loss.targets, weights)
        all_counts = sample_counts(dataset.train, dataset.min_prefix, "all", weights)
        return cls(config, dataset, offsets_of(counts), offsets_of(all_counts))

    def phase(self, name: str, softmax: Softmax, encoder: EncoderTimes | None, ranker: RankerTimes | None) -> PhasePlan:
        """Return the plan of one phase."""
        sessions = self._sessions(name)
        if name == "validate":
            return self._validation(len(sessions), ranker)
        if name.startswith("ranker"):
            return self._ranker(name, sessions, ranker)
        return self._encoder(name, sessions, softmax, encoder)

    def passes(self, name: str) -> int:
        """Return the passes over a sample that a phase makes."""
        if name == "validate":
            return 0
        sessions = self._sessions(name)
        if name.startswith("ranker"):
            work = self._ranker_work(sessions)
            return work.epochs * (work.ranked + work.frozen)
        return self.config.optimizer.epochs * int(self.samples[len(sessions)])

    def _sessions(self, name: str) -> Sessions:
        """Return the sessions of a phase; of the ranker's, also those before its own."""
        sessions = self.dataset.train
        if not name.endswith("refit"):
            sessions = sessions.split_last(self.config.optimizer.validation_fraction)[0]
        return split_for_ranker(self.config, sessions)[0] if name.startswith("slice") else sessions

    def _encoder(self, name: str, sessions: Sessions, softmax: Softmax, times: EncoderTimes | None) -> PhasePlan:
        config, samples = self.config, int(self.samples[len(sessions)])
        epochs = f"{config.optimizer.epochs} epoch{'s' if config.optimizer.epochs > 1 else ''}"
        stops = name in ("search", "refit") and not config.memory.enabled and config.optimizer.patience
        limit = "up to " if stops else ""
        cost = None
        if times is not None:
            steps = config.optimizer.epochs * samples / times.samples_a_step
            share = len(sessions) / len(self.dataset.train)
            cost = steps * times.step[softmax] + times.start + times.start_by_sessions * share
        return _planned(name, f"{limit}{epochs} over {samples:,} samples", cost, self._encoder_bytes(sessions, softmax))

    def _ranker(self, name: str, sessions: Sessions, times: RankerTimes | None) -> PhasePlan:
        before, last = split_for_ranker(self.config, sessions)
        work = self._ranker_work(sessions)
        ranked, cost = work.ranked + work.frozen, None
        if times is not None:
            # Candidates that are not stored are computed again.
            rounds = 1 if self.config.ranker.prequential else work.epochs
            older = sum(part.n_clicks for part in older_parts(before, last)) if work.frozen else 0
            cost = (
                times.table_click * (before.n_clicks + older) + times.start + times.learned * last.n_clicks
                + ranked * (rounds * times.ranked + work.epochs * times.fitted)
            )  # fmt: skip
        twice = f", {work.frozen:,} of them twice" if work.frozen else ""
        text = f"{work.epochs} epochs over {work.ranked:,} of {work.queries:,} clicks{twice}"
        return _planned(name, text, cost, self._ranker_bytes(before, last, ranked))

    def _ranker_work(self, sessions: Sessions) -> _RankerWork:
        config, (before, last) = self.config, split_for_ranker(self.config, sessions)
        queries = int(self.queries[len(sessions)] - self.queries[len(before)])
        timed = config.memory.trends and config.ranker.prequential and last.times is not None
        ranked = min(config.ranker.ranker_samples, queries) if config.ranker.prequential else queries
        epochs = fit_settings(config, timed=timed).epochs
        return _RankerWork(queries, ranked, stale_samples(ranked) if timed else 0, epochs)

    def _validation(self, fitted: int, times: RankerTimes | None) -> PhasePlan:
        sessions = self.dataset.train
        samples = int(self.queries[len(sessions)] - self.queries[fitted])
        cost = None
        if times is not None:
            importance = times.importance * min(samples, MAX_SAMPLES)
            cost = times.table_click * sessions.n_clicks + times.start + times.ranked * samples + importance
        return _planned("validate", f"{samples:,} samples", cost, self._ranker_bytes(sessions, None, samples))

    def _encoder_bytes(self, sessions: Sessions, softmax: Softmax) -> int:
        config, floats = self.config, self.dataset.n_items * self.config.model.embedding_dim
        start = 0
        if config.model.init == "structured":
            pairs = min(count_pairs(sessions), MAX_PAIRS)
            start = 2 * _SPECTRAL_PAIR * pairs + 4 * _SPECTRAL_ROWS * self.dataset.n_items
        copies = _FULL_COPIES if softmax == "full" else _SAMPLED_COPIES
        step = 4 * copies * floats
        if softmax == "sampled":
            n_own = 2 * config.optimizer.batch_prefixes  # at most a click and a target a sample
            # About half of the items next to the drawn clicks are new.
            rows = n_own * (1 + config.loss.cooccurrence_negatives) + config.loss.negative_samples
            step += 3 * 4 * min(rows, self.dataset.n_items) * config.optimizer.batch_prefixes
            step += _OCCURRENCE * sessions.n_clicks if config.loss.cooccurrence_negatives else 0
        return self._base() + max(start + 4 * _SAMPLED_COPIES * floats, step)

    def _ranker_bytes(self, before: Sessions, last: Sessions | None, queries: int) -> int:
        config, n_items = self.config, self.dataset.n_items
        tables = table_bytes(config, before, n_items)
        dense = 4 * 3 * n_items * config.model.embedding_dim + queries * (
            4 * config.model.embedding_dim + 8 * config.memory.dense_candidates
        )
        if before.times is not None and config.memory.trends and config.ranker.prequential:
            tables += max_trend_bytes(config, before, n_items)
        dataset = 0 if last is None else _DELTA_CLICK * last.n_clicks + 4 * _CANDIDATES * queries
        return self._base() + tables + dense + dataset

    def _base(self) -> int:
        """Return the bytes of the process and the data set, which every phase needs."""
        sessions = self.dataset.train
        arrays = (sessions.items, sessions.offsets, sessions.times, sessions.types, sessions.context)
        return _PROCESS + sum(array.nbytes for array in arrays if array is not None)


def _planned(name: str, work: str, cost: Cost | None, peak_bytes: int) -> PhasePlan:
    seconds, processor = (None, None) if cost is None else cost.tolist()
    return PhasePlan(name, work, seconds, peak_bytes, processor)
