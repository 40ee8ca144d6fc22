"""Evaluation of anything that ranks: P@K and MRR@K over the whole catalog, with intervals over sessions.

Axes: S samples, B sessions of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.evaluation.metrics import KS, gains_of, listed_rank, means_of, session_bootstrap

Progress = Callable[[int, int], None]


class Evaluated(Protocol):
    """Anything that ranks the catalog for the next click of sessions."""

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `k` best items of every session: (ids int32[B, k], scores float32[B, k]), best first.

        ids are internal and distinct in a row; a row with fewer than k items is padded with id -1 and score -inf. A
        row must depend only on its own session.
        """
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an evaluation. Metrics are in percent, by the names of `metrics.METRICS` ("P@10", "MRR@10", ..).

    Attributes
    ----------
    metrics : mapping of str to float
        Over all samples.
    intervals : mapping of str to (low, high)
        Their 95% intervals, by a bootstrap over whole sessions.
    repeat, non_repeat : mapping of str to float
        Over the samples whose target is, or is not, already in the prefix; NaN without any.
    samples, repeat_samples, sessions : int
        Counts.
    unseen : int, default 0
        Number of samples that are misses because training never saw their targets.
    by_type : mapping of str to mapping of str to float
        The metrics over the samples with each type of target, and `samples`, their number; those of `unseen` are in
        none. Empty if the samples have no types.
    weighted : mapping of str to float
        The metrics with samples weighted by the type of their target. Empty without weights.
    weighted_intervals : mapping of str to (low, high)
        Their 95% intervals.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    repeat: Mapping[str, float]
    non_repeat: Mapping[str, float]
    samples: int
    repeat_samples: int
    sessions: int
    unseen: int = 0
    by_type: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    weighted: Mapping[str, float] = field(default_factory=dict)
    weighted_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the metrics at the top level, null for a metric without samples."""
        weighted = {}
        if self.weighted:
            intervals = {name: list(interval) for name, interval in self.weighted_intervals.items()}
            weighted = {"weighted": {**self.weighted, "intervals": intervals}}
        return {
            **self.metrics,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "repeat": {**_without_nan(self.repeat), "samples": self.repeat_samples},
            "non_repeat": {**_without_nan(self.non_repeat), "samples": self.samples - self.repeat_samples},
            "samples": self.samples,
            "sessions": self.sessions,
            "unseen": self.unseen,
            "by_type": {name: dict(metrics) for name, metrics in self.by_type.items()},
            **weighted,
        }


def _without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def ranks_of(
    ranker: Evaluated, samples: Samples, max_k: int = 20, chunk: int = 512, progress: Progress | None = None
) -> np.ndarray:
    """Return the pessimistic rank of every sample's target.

    The ranker returns max_k + 1 items: a target that ties with the item after the cut is a miss, and only that item
    shows the tie.

    Parameters
    ----------
    ranker : Evaluated
        What to evaluate.
    samples : Samples
        S prefixes and their next clicks.
    max_k : int, default 20
        Ranks above it are misses.
    chunk : int, default 512
        Samples ranked at a time.
    progress : callable, optional
        Called as progress(done, S) after every chunk.

    Returns
    -------
    int32[S]
        1..max_k, or 0 for a miss.

    Raises
    ------
    UsageError
        If the ranker breaks its contract (shapes, an item twice in a row), or max_k or chunk is below 1.
    """
    if max_k < 1 or chunk < 1:
        raise UsageError(f"evaluation: max_k and chunk must be at least 1, not {max_k} and {chunk}")
    ranks = np.zeros(len(samples), dtype=np.int32)
    for begin in range(0, len(samples), chunk):
        end = min(begin + chunk, len(samples))
        ids, scores = ranker.rank(samples.prefixes.slice(begin, end), max_k + 1)
        _check_lists(ranker, ids, scores, (end - begin, max_k + 1))
        found = listed_rank(ids, scores, samples.targets[begin:end])
        ranks[begin:end] = np.where(found <= max_k, found, 0)
        if progress is not None:
            progress(end, len(samples))
    return ranks


def _check_lists(ranker: Evaluated, ids: np.ndarray, scores: np.ndarray, shape: tuple[int, int]) -> None:
    name = type(ranker).__name__
    if ids.shape != shape or scores.shape != shape or ids.dtype.kind != "i":
        raise UsageError(
            f"ranker {name}: rank() must return integer ids and scores of shape {list(shape)}, "
            f"not {ids.dtype}{list(ids.shape)} and {list(scores.shape)}"
        )
    ordered = np.sort(ids, axis=1)
    twice = np.any((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0), axis=1)
    if twice.any():
        raise UsageError(f"ranker {name}: row {int(twice.argmax())} of a batch has an item twice; ids must differ")


def report_of(
    ranks: np.ndarray,
    samples: Samples,
    seed: int = 0,
    resamples: int = 1000,
    unseen: np.ndarray | None = None,
    type_names: Sequence[str] = (),
    weights: np.ndarray | None = None,
) -> Report:
    """Return the report on ranks.

    Parameters
    ----------
    ranks : int32[S]
        Pessimistic ranks, 0 for a miss.
    samples : Samples
        The samples of the ranks.
    seed : int, default 0
        Of the bootstrap.
    resamples : int, default 1000
        Of the bootstrap.
    unseen : int32[M], optional
        The sessions of M more samples, which are all misses: `Dataset.unseen`.
    type_names : sequence of str, default none
        Names of the types; without them there are no metrics by type.
    weights : float32[S], optional
        Weights of the samples for `Report.weighted`, at least one above 0. None for no weighted metrics. They do not
        work with `unseen`, whose types are not known.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        If there is no sample, or all weights are 0.
    UsageError
        On `weights` with `unseen`.
    """
    if len(samples) == 0:
        raise DataError("nothing to evaluate: the split has no sample; lower min_prefix or hold more sessions out")
    gains = gains_of(ranks)
    weighted = _weighted(gains, samples, weights, unseen, resamples, seed)
    by_type = _by_type(gains, samples, type_names)
    repeats, session = samples.repeats(), samples.session
    missed = 0 if unseen is None else len(unseen)
    if unseen is not None:
        gains = np.concatenate([gains, np.zeros((missed, gains.shape[1]))])
        repeats = np.concatenate([repeats, np.zeros(missed, dtype=bool)])
        session = np.concatenate([session, unseen])
    return Report(
        metrics=means_of(gains),
        intervals=session_bootstrap(gains, session, resamples, seed),
        repeat=means_of(gains[repeats]),
        non_repeat=means_of(gains[~repeats]),
        samples=len(session),
        repeat_samples=int(repeats.sum()),
        sessions=len(np.unique(session)),
        unseen=missed,
        by_type=by_type,
        weighted=weighted[0],
        weighted_intervals=weighted[1],
    )


def _weighted(
    gains: np.ndarray,
    samples: Samples,
    weights: np.ndarray | None,
    unseen: np.ndarray | None,
    resamples: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return (metrics, intervals) by weights float32[S]; both empty without."""
    if weights is None:
        return {}, {}
    if unseen is not None:
        raise UsageError(
            "evaluation: weights do not work with unseen targets, whose types are not known; leave one out"
        )
    if not weights.any():
        raise DataError("nothing to evaluate: all samples have the weight 0; give a type of targets a weight above 0")
    if (weights == 1).all():
        return means_of(gains), session_bootstrap(gains, samples.session, resamples, seed)
    return means_of(gains, weights), session_bootstrap(gains, samples.session, resamples, seed, weights=weights)


def _by_type(gains: np.ndarray, samples: Samples, type_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the metrics of each type of target that occurs, most frequent first."""
    if samples.target_types is None or not type_names:
        return {}
    counts = np.bincount(samples.target_types, minlength=len(type_names))
    return {
        type_names[code]: {**means_of(gains[samples.target_types == code]), "samples": int(counts[code])}
        for code in np.argsort(-counts, kind="stable").tolist()
        if counts[code]
    }


def evaluate(
    ranker: Evaluated,
    samples: Samples,
    seed: int = 0,
    chunk: int = 512,
    progress: Progress | None = None,
    unseen: np.ndarray | None = None,
    type_names: Sequence[str] = (),
    weights: np.ndarray | None = None,
) -> Report:
    """Rank every sample over the whole catalog and report.

    Parameters
    ----------
    ranker : Evaluated
        What to evaluate: a `Recommender`, a baseline, anything with `rank`.
    samples : Samples
        S prefixes and their next clicks.
    seed : int, default 0
        Of the bootstrap.
    chunk : int, default 512
        Samples ranked at a time.
    progress : callable, optional
        Called as progress(done, S) after every chunk.
    unseen : int32[M], optional
        The sessions of M more samples, which are all misses: `Dataset.unseen`.
    type_names : sequence of str, default none
        Names of the types; without them there are no metrics by type.
    weights : float32[S], optional
        As in `report_of`.

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        If the ranker breaks its contract (`ranks_of`), or on `weights` with `unseen`.
    DataError
        If there is no sample, or all weights are 0.
    """
    ranks = ranks_of(ranker, samples, max(KS), chunk, progress)
    return report_of(ranks, samples, seed, unseen=unseen, type_names=type_names, weights=weights)


def translated(samples: Samples, source: ItemIds, target: ItemIds) -> Samples:
    """Return samples of the catalog `source` in the internal ids of `target`.

    Unknown clicks are dropped; an unknown target is always a miss.
    """
    internal = target.lookup(source.external(np.arange(len(source), dtype=np.int64)))
    if np.array_equal(internal, np.arange(len(target))):
        return samples
    items = internal[samples.prefixes.items]
    row = np.repeat(np.arange(len(samples)), samples.prefixes.lengths)
    kept = np.bincount(row[items >= 0], minlength=len(samples))
    times, types = samples.prefixes.times, samples.prefixes.types
    prefixes = Sessions(
        items[items >= 0],
        offsets_of(kept),
        None if times is None else times[items >= 0],
        None if types is None else types[items >= 0],
    )
    # Outside the catalog, so that no list has it.
    targets = np.where(internal[samples.targets] >= 0, internal[samples.targets], len(target)).astype(np.int32)
    return Samples(prefixes, targets, samples.session, samples.target_times, samples.target_types)
