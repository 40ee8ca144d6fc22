"""Evaluation of anything that ranks: P@K and MRR@K over the whole catalog, with honest intervals.

Axes: S samples, B sessions of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.evaluation.metrics import KS, gains_of, listed_rank, means_of, session_bootstrap

Progress = Callable[[int, int], None]


class Evaluated(Protocol):
    """Anything that ranks the catalog for the next click of sessions."""

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` best items of every session: (ids int32[B, k], scores float32[B, k]), best first.

        ids are internal and distinct in a row; a row with fewer than k items is padded with id -1
        and score -inf. A row must depend on its own session alone.
        """
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found. All metrics are in percent, keyed "P@10", "MRR@10", "P@20", "MRR@20".

    metrics: over all samples. intervals: their 95% intervals (session-clustered bootstrap).
    repeat, non_repeat: over the samples whose target is, or is not, already in the prefix; NaN where
    there is none. samples, repeat_samples, sessions: how many.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    repeat: Mapping[str, float]
    non_repeat: Mapping[str, float]
    samples: int
    repeat_samples: int
    sessions: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: the metrics at the top level, null for a metric without samples."""
        return {
            **self.metrics,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "repeat": {**_without_nan(self.repeat), "samples": self.repeat_samples},
            "non_repeat": {**_without_nan(self.non_repeat), "samples": self.samples - self.repeat_samples},
            "samples": self.samples,
            "sessions": self.sessions,
        }


def _without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def ranks_of(
    ranker: Evaluated, samples: Samples, max_k: int = 20, chunk: int = 512, progress: Progress | None = None
) -> np.ndarray:
    """The pessimistic rank of every sample's target: int32[S], 1..max_k, or 0 for a miss.

    The ranker is asked for max_k + 1 items, `chunk` samples at a time: a target that ties with the
    item after the cut might as well stand behind it, so it is a miss, and without that item the tie
    could not be seen. `progress(done, S)` is called after every chunk.

    Raises UsageError where the ranker breaks its contract (shapes, an item listed twice).
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
        raise UsageError(f"ranker {name}: row {int(twice.argmax())} of a batch lists an item twice; ids must differ")


def report_of(ranks: np.ndarray, samples: Samples, seed: int = 0, resamples: int = 1000) -> Report:
    """The report on pessimistic ranks int32[S] (0 = miss) of `samples`; the seed is the bootstrap's.

    Raises DataError where there is no sample.
    """
    if len(samples) == 0:
        raise DataError("nothing to evaluate: the split holds no sample; lower min_prefix or hold more sessions out")
    gains = gains_of(ranks)
    repeats = samples.repeats()
    return Report(
        metrics=means_of(gains),
        intervals=session_bootstrap(gains, samples.session, resamples, seed),
        repeat=means_of(gains[repeats]),
        non_repeat=means_of(gains[~repeats]),
        samples=len(samples),
        repeat_samples=int(repeats.sum()),
        sessions=len(np.unique(samples.session)),
    )


def evaluate(
    ranker: Evaluated, samples: Samples, seed: int = 0, chunk: int = 512, progress: Progress | None = None
) -> Report:
    """Rank every sample over the whole catalog and report; see `ranks_of` and `report_of`."""
    return report_of(ranks_of(ranker, samples, max(KS), chunk, progress), samples, seed)
