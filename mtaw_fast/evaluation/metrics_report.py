"""The report of an evaluation: metrics over all samples, by type and by slice, with intervals over sessions.

Axes: S samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.evaluation.measuring import BOUNDS, COLUMNS, MORE, NDCG, Measured
from mtaw_fast.evaluation.metrics import KS, METRICS, gains_of, means_of, session_bootstrap
from mtaw_fast.evaluation.resampling import Interval, SessionBootstrap
from mtaw_fast.evaluation.slices import ALL, Slicing, sliced
from mtaw_fast.system.frames import Library, frame_of


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
    first_by_type : mapping of str to mapping of str to float
        The same over the targets that are not in the prefix, such as first purchases.
    on_last_click : mapping of str to float
        By type of target the share in percent of its hits among the first 20 that repeat the last click; NaN without a
        hit.
    weighted : mapping of str to float
        The metrics with samples weighted by the type of their target. Empty without weights.
    weighted_intervals : mapping of str to (low, high)
        Their 95% intervals.
    more : mapping of str to float
        The metrics of `measuring.MORE`: NDCG, recall, and those of the lists. Empty unless the evaluation knew the
        items (`evaluate(.., facts)`). `unseen` counts in NDCG alone.
    more_intervals : mapping of str to (low, high)
        Their 95% intervals; coverage and Gini have none.
    slices : mapping of str to mapping of str to mapping
        By slice and value: `samples`, `sessions`, the metrics of `measuring.COLUMNS`, and `intervals`, empty for fewer
        than 10 sessions. Samples of `unseen` are in none.
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
    more: Mapping[str, float] = field(default_factory=dict)
    more_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    first_by_type: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    on_last_click: Mapping[str, float] = field(default_factory=dict)

    def to_frame(self, library: Library = "polars") -> Any:
        """Return the metrics as a table, a row a slice, value and metric.

        Its columns are slice, value, samples, sessions, metric, mean, low, high: the interval is missing for few
        sessions. The slice 'all' has the metrics over all samples.

        Raises MissingPackageError if the library is not installed; UsageError on another library than 'polars',
        'pandas' and 'arrow'.
        """
        means = {**self.metrics, **self.more}
        bounds = {**self.intervals, **self.more_intervals}
        rows = [
            (ALL, ALL, self.samples, self.sessions, name, mean, *bounds.get(name, (None, None)))
            for name, mean in means.items()
        ]
        for slicing, values in self.slices.items():
            for value, metrics in values.items():
                for name in COLUMNS:
                    low, high = metrics["intervals"].get(name, (None, None))
                    rows.append(
                        (slicing, value, metrics["samples"], metrics["sessions"], name, metrics[name], low, high)
                    )
        names = ("slice", "value", "samples", "sessions", "metric", "mean", "low", "high")
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        return frame_of(dict(zip(names, map(list, columns), strict=True)), library)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the metrics at the top level, null for a metric without samples."""
        weighted, repeats = {}, {}
        if self.weighted:
            intervals = {name: list(interval) for name, interval in self.weighted_intervals.items()}
            weighted = {"weighted": {**self.weighted, "intervals": intervals}}
        if self.by_type:
            repeats = {
                "first_by_type": {name: _without_nan(metrics) for name, metrics in self.first_by_type.items()},
                "on_last_click": _without_nan(self.on_last_click),
            }
        bounds = {**self.intervals, **self.more_intervals}
        return {
            **self.metrics,
            **_without_nan(self.more),
            "intervals": {name: list(interval) for name, interval in bounds.items()},
            "repeat": {**_without_nan(self.repeat), "samples": self.repeat_samples},
            "non_repeat": {**_without_nan(self.non_repeat), "samples": self.samples - self.repeat_samples},
            "samples": self.samples,
            "sessions": self.sessions,
            "unseen": self.unseen,
            "by_type": {name: dict(metrics) for name, metrics in self.by_type.items()},
            **repeats,
            **({"slices": self.slices} if self.slices else {}),
            **weighted,
        }


def _without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def report_of(
    ranks: np.ndarray,
    samples: Samples,
    unseen: np.ndarray | None = None,
    type_names: Sequence[str] = (),
    weights: np.ndarray | None = None,
    measured: Measured | None = None,
    slicings: Sequence[Slicing] = (),
    whole: Samples | None = None,
) -> Report:
    """Return the report on ranks.

    ranks: int32[S], pessimistic ranks, 0 for a miss.
    samples: the samples of the ranks.
    unseen: int32[M], the sessions of M more samples, which are all misses: `Dataset.unseen`.
    type_names: names of the types; without them there are no metrics by type.
    weights: float32[S], weights of the samples for `Report.weighted`, at least one above 0. None for no weighted
        metrics. They do not work with `unseen`, whose types are not known.
    measured: what the lists were like, for `Report.more` and `Report.slices`.
    slicings: how to slice the samples, if `measured` is given.
    whole: the samples with all their clicks, if some are left out (`protocol.translated`): they say what is a repeat.

    Raises DataError if there is no sample, or all weights are 0; UsageError on `weights` with `unseen`.
    """
    if len(samples) == 0:
        raise DataError("nothing to evaluate: the split has no sample; lower min_prefix or hold more sessions out")
    gains = gains_of(ranks)
    weighted = _weighted(gains, samples, weights, unseen)
    whole = samples if whole is None else whole
    repeats, session = whole.repeats(), samples.session
    by_type = _by_type(gains, samples, type_names)
    first_by_type, on_last = _type_repeats(ranks, gains, whole, type_names, repeats)
    n_unseen = 0 if unseen is None else len(unseen)
    if unseen is not None:
        gains = np.concatenate([gains, np.zeros((n_unseen, gains.shape[1]))])
        repeats = np.concatenate([repeats, np.zeros(n_unseen, dtype=bool)])
        session = np.concatenate([session, unseen])
    if measured is None:
        observed: dict[str, Any] = {"intervals": session_bootstrap(gains, session)}
    else:
        observed = _observed(measured, samples, unseen, slicings)
    return Report(
        metrics=means_of(gains),
        repeat=means_of(gains[repeats]),
        non_repeat=means_of(gains[~repeats]),
        samples=len(session),
        repeat_samples=int(repeats.sum()),
        sessions=len(np.unique(session)),
        unseen=n_unseen,
        by_type=by_type,
        weighted=weighted[0],
        weighted_intervals=weighted[1],
        first_by_type=first_by_type,
        on_last_click=on_last,
        **observed,
    )


def _observed(
    measured: Measured, samples: Samples, unseen: np.ndarray | None, slicings: Sequence[Slicing]
) -> dict[str, Any]:
    """Return the fields of a report that need the lists, and the intervals of all means, from one bootstrap."""
    columns, bootstrap = measured.columns(), SessionBootstrap(samples.session)
    means, intervals = _estimated(bootstrap, columns)
    if unseen is not None and len(unseen):
        extended = np.concatenate([columns, np.zeros((len(unseen), columns.shape[1]))])
        session = np.concatenate([samples.session, unseen])
        diluted = _estimated(SessionBootstrap(session), extended)
        for name in (*METRICS, *NDCG):
            means[name], intervals[name] = diluted[0][name], diluted[1][name]
    means |= measured.of_catalog()
    return {
        "intervals": {name: intervals[name] for name in METRICS},
        "more": {name: means[name] for name in MORE},
        "more_intervals": {name: intervals[name] for name in MORE if name in intervals},
        "slices": sliced(columns, slicings, bootstrap),
    }


def _estimated(bootstrap: SessionBootstrap, columns: np.ndarray) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return the means of `COLUMNS` and their intervals."""
    estimates = bootstrap.estimates(columns, fewest=1, bounds=BOUNDS)
    bounds = {name: estimates.interval(0, column) for column, name in enumerate(COLUMNS)}
    return dict(zip(COLUMNS, estimates.means[0].tolist(), strict=True)), {
        name: bound for name, bound in bounds.items() if bound is not None
    }


def _type_repeats(
    ranks: np.ndarray, gains: np.ndarray, samples: Samples, type_names: Sequence[str], repeats: np.ndarray
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return `Report.first_by_type` and `Report.on_last_click`."""
    if samples.target_types is None or not type_names:
        return {}, {}
    lengths = samples.prefixes.lengths
    on_last = np.zeros(len(samples), dtype=bool)
    full = lengths > 0
    on_last[full] = samples.prefixes.items[samples.prefixes.offsets[1:][full] - 1] == samples.targets[full]
    hits = (ranks > 0) & (ranks <= max(KS))
    first_by_type: dict[str, dict[str, float]] = {}
    shares: dict[str, float] = {}
    for code, name in enumerate(type_names):
        of_type = samples.target_types == code
        if of_type.any():
            chosen = of_type & ~repeats
            first_by_type[name] = {**means_of(gains[chosen]), "samples": int(chosen.sum())}
            n_hits = int((hits & of_type).sum())
            shares[name] = 100.0 * int((hits & of_type & on_last).sum()) / n_hits if n_hits else float("nan")
    return first_by_type, shares


def _weighted(
    gains: np.ndarray, samples: Samples, weights: np.ndarray | None, unseen: np.ndarray | None
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
    counts = None if (weights == 1).all() else weights
    return means_of(gains, counts), session_bootstrap(gains, samples.session, weights=counts)


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
