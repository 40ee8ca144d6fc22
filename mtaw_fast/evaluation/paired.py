"""Two rankers on the same samples: paired differences with intervals, how their lists differ, where they part.

Axes: S samples, K listed items, C metrics (`measuring.COLUMNS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation.measuring import BOUNDS, COLUMNS, COVERAGE, GINI, TOP, Measured
from mtaw_fast.evaluation.metrics import METRICS, gains_of, means_of
from mtaw_fast.evaluation.resampling import Estimates, SessionBootstrap
from mtaw_fast.evaluation.slices import ALL, Slicing
from mtaw_fast.system.frames import Library, frame_of

HITS, MRR = f"P@{TOP}", f"MRR@{TOP}"
_CHUNK = 4096
_Z = NormalDist().inv_cdf(0.975)
_PERCENT = np.array([[0.0], [100.0]]).repeat(len(METRICS), axis=1)


@dataclass(frozen=True, slots=True)
class Difference:
    """The second ranker's metric minus the first's. interval: (low, high), None for few sessions. `first`, `second`:
    the metrics themselves."""

    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None = None

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """The differences within one value of a slice.

    holds: whether the interval of P@20 excludes 0 even if it is widened to hold for all values of all slices together
    (Bonferroni).
    """

    samples: int
    sessions: int
    metrics: Mapping[str, Difference]
    holds: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        metrics = {name: difference.as_dict() for name, difference in self.metrics.items()}
        return {"samples": self.samples, "sessions": self.sessions, "holds": self.holds, "metrics": metrics}


@dataclass(frozen=True, slots=True)
class ListDifferences:
    """How the lists of two rankers differ, over S samples and the first 20 items.

    Attributes
    ----------
    overlap : float
        Items of a list that the other one has too, in percent, on average.
    same_first : float
        Samples with the same item at the first position, in percent.
    same_list : float
        Samples with the same items in the same order, in percent.
    only_first, only_second : int
        Items that only one of the two ever shows.
    new_share : float
        Positions of the second ranker's lists that hold an item which the first never shows, in percent.
    """

    overlap: float
    same_first: float
    same_list: float
    only_first: int
    only_second: int
    new_share: float

    def as_dict(self) -> dict[str, float]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `mtaw_fast.compare`; `str()` of it is a report.

    Attributes
    ----------
    first, second : str
        Names of the two bundles.
    name, split : str
        The data set, and which samples of it.
    samples, sessions : int
        Counts.
    metrics : mapping of str to Difference
        Over all samples; coverage and Gini have no interval.
    slices : mapping of str to mapping of str to SliceDifference
        By slice and value.
    lists : ListDifferences
        How the lists differ.
    examples : list of dict
        Sessions where only one of the two finds the target, with ids as in the log.
    warnings : list of str
        What makes the comparison misleading, a line each.
    """

    first: str
    second: str
    name: str
    split: str
    samples: int
    sessions: int
    metrics: Mapping[str, Difference]
    slices: Mapping[str, Mapping[str, SliceDifference]]
    lists: ListDifferences
    examples: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """One sentence: how many more of 100 targets the second finds among its first 20, and whether that is shown."""
        hits, mrr = self.metrics[HITS], self.metrics[MRR]
        claim = f"{self.second} finds {abs(hits.difference):.2f} {'more' if hits.difference >= 0 else 'fewer'}"
        if hits.interval is None:
            return f"Too few sessions to compare: {claim} of 100 targets than {self.first}, without an interval."
        low, high = hits.interval
        if hits.shown:
            bounds = sorted((abs(low), abs(high)))
            return f"{claim} of 100 targets than {self.first}, 95% interval {bounds[0]:.2f} to {bounds[1]:.2f}."
        text = f"No difference is shown: {claim} of 100 targets than {self.first}, 95% interval {low:.2f} to {high:.2f}"
        if mrr.shown and mrr.interval is not None:
            better = "higher" if mrr.difference > 0 else "lower"
            text += (
                f"; but it places them {better}, {MRR} by {mrr.difference:+.2f}, "
                f"{mrr.interval[0]:.2f} to {mrr.interval[1]:.2f}"
            )
        return f"{text}."

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "first": self.first,
            "second": self.second,
            "dataset": self.name,
            "split": self.split,
            "samples": self.samples,
            "sessions": self.sessions,
            "verdict": self.verdict,
            "metrics": {name: difference.as_dict() for name, difference in self.metrics.items()},
            "slices": {
                name: {value: part.as_dict() for value, part in values.items()} for name, values in self.slices.items()
            },
            "lists": self.lists.as_dict(),
            "examples": self.examples,
            "warnings": self.warnings,
        }

    def to_frame(self, library: Library = "polars") -> Any:
        """Return the differences as a table, a row a slice, value and metric: slice, value, samples, sessions, metric,
        first, second, difference, low, high. Errors as in `Report.to_frame`."""
        parts = [(ALL, ALL, self.samples, self.sessions, self.metrics)]
        for name, values in self.slices.items():
            parts += [(name, value, part.samples, part.sessions, part.metrics) for value, part in values.items()]
        rows = [
            (*cells, metric, it.first, it.second, it.difference, *(it.interval or (None, None)))
            for *cells, metrics in parts
            for metric, it in metrics.items()
        ]
        names = ["slice", "value", "samples", "sessions", "metric", "first", "second", "difference", "low", "high"]
        return frame_of(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), library)


def _lines(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of a comparison as text: the verdict, then the tables and the examples."""
    lists = comparison.lists
    yield comparison.verdict
    yield f"{comparison.samples:,} {comparison.split} samples of {comparison.sessions:,} sessions of {comparison.name}"
    yield ""
    width = max(map(len, comparison.metrics))
    yield f"{'':{width}}  {'A':>8} {'B':>8}  B - A and its 95% interval"
    for name, difference in comparison.metrics.items():
        yield f"{name:{width}}  {difference.first:8.2f} {difference.second:8.2f}  {_text(difference)}"
    yield ""
    yield f"{HITS} by slice (*: differs, even with one interval for all slices together)"
    for name, values in comparison.slices.items():
        yield f"  {name}"
        width = max(map(len, values))
        for value, part in values.items():
            mark = "*" if part.holds else " "
            yield f"  {mark} {value:{width}} {part.samples:>9,}  {_text(part.metrics[HITS])}"
    yield ""
    yield (
        f"lists: {lists.overlap:.1f}% of the items are in both, {lists.same_first:.1f}% have the same first item, "
        f"{lists.same_list:.1f}% are equal"
    )
    yield (
        f"items: {lists.only_first:,} are shown by A alone, {lists.only_second:,} by B alone, on "
        f"{lists.new_share:.1f}% of its positions"
    )
    for example in comparison.examples:
        yield ""
        yield f"session {', '.join(map(str, example['clicks']))}; next {example['target']}"
        for letter, name in (("A", "first"), ("B", "second")):
            rank = example[name]["rank"]
            rank_text = f"rank {rank}" if rank else "not found"
            yield f"  {letter}: {rank_text:9}  {', '.join(map(str, example[name]['items']))} .."


def _text(difference: Difference) -> str:
    if difference.interval is None:
        return f"{difference.difference:+.2f}"
    return f"{difference.difference:+.2f}  [{difference.interval[0]:+.2f}, {difference.interval[1]:+.2f}]"


def compared(
    first: Measured, second: Measured, samples: Samples, slicings: Sequence[Slicing]
) -> tuple[dict[str, Difference], dict[str, dict[str, SliceDifference]]]:
    """Return the differences over all samples, and by slice and value."""
    overall, by_slice = differences_by(first.columns(), second.columns(), samples.session, slicings, COLUMNS, BOUNDS)
    first_catalog, second_catalog = first.of_catalog(), second.of_catalog()
    for name in (COVERAGE, GINI):
        overall[name] = Difference(
            first_catalog[name], second_catalog[name], second_catalog[name] - first_catalog[name]
        )
    return overall, by_slice


def differences_by(
    first: np.ndarray,
    second: np.ndarray,
    session: np.ndarray,
    slicings: Sequence[Slicing],
    names: Sequence[str] = METRICS,
    bounds: np.ndarray = _PERCENT,
) -> tuple[dict[str, Difference], dict[str, dict[str, SliceDifference]]]:
    """Return the differences of values over all samples, and by slice and value.

    Each resample draws the same sessions for both rankers, so what is hard for both does not widen the interval.

    first, second: float64[S, C], the values of two rankers. session: int[S], equal for samples of one session. names,
    bounds: of the C columns, and float64[2, C], the least and the most that a value can be.
    """
    bootstrap = SessionBootstrap(session)
    limits = np.stack([-bounds[1], bounds[1]])

    def differences(codes: np.ndarray, n_values: int) -> tuple[list[dict[str, Difference]], Estimates]:
        estimates = bootstrap.estimates(second - first, codes, n_values, bounds=limits)
        values = []
        for value in range(n_values):
            mask = codes == value
            means = first[mask].mean(axis=0).tolist(), second[mask].mean(axis=0).tolist()
            values.append({
                name: Difference(before, after, after - before, estimates.interval(value, column))
                for column, (name, before, after) in enumerate(zip(names, *means, strict=True))
            })  # fmt: skip
        return values, estimates

    overall = differences(np.zeros(len(first), dtype=np.int64), 1)[0][0]
    by_slice = {}
    count = max(sum(len(way.labels) for way in slicings), 1)
    factor = NormalDist().inv_cdf(1 - 0.025 / count) / _Z
    for slicing in slicings:
        values, estimates = differences(slicing.codes, len(slicing.labels))
        by_slice[slicing.name] = {
            label: SliceDifference(
                int(estimates.samples[value]), int(estimates.sessions[value]), values[value],
                _holds(values[value][HITS], factor),
            )
            for value, label in enumerate(slicing.labels)
        }  # fmt: skip
    return overall, by_slice


def gains_over(
    first: np.ndarray, second: np.ndarray, session: np.ndarray, trials: int, weights: np.ndarray | None = None
) -> dict[str, Difference]:
    """Return what the best of several trials gains over the first settings, by metric.

    first, second: int32[S], ranks with the first settings, and with those of the best trial.
    session: int[S], equal for samples of one session.
    trials: number of trials that the best one was chosen from. The intervals hold for all of them together
        (Bonferroni), as the best of many trials looks better than it is.
    weights: float[S], weights of the samples.
    """
    first_values, second_values = gains_of(first), gains_of(second)
    estimates = SessionBootstrap(session).estimates(
        second_values - first_values, weights=weights, bounds=np.array([[-100.0], [100.0]]).repeat(len(METRICS), axis=1)
    )
    factor = NormalDist().inv_cdf(1 - 0.025 / max(trials, 1)) / _Z
    first_means, second_means = means_of(first_values, weights), means_of(second_values, weights)
    gains = {}
    for column, name in enumerate(METRICS):
        change, interval = second_means[name] - first_means[name], estimates.interval(0, column)
        if interval is not None:
            interval = (change - factor * (change - interval[0]), change + factor * (interval[1] - change))
        gains[name] = Difference(first_means[name], second_means[name], change, interval)
    return gains


def _holds(difference: Difference, factor: float) -> bool:
    """Return whether an interval `factor` times as wide excludes 0."""
    if difference.interval is None:
        return False
    return abs(difference.difference) > factor * (difference.interval[1] - difference.interval[0]) / 2 > 0


def list_differences(first: np.ndarray, second: np.ndarray) -> ListDifferences:
    """Compare lists int[S, K] of ids of one catalog, padded with -1."""
    common = np.zeros(len(first))
    for begin in range(0, len(first), _CHUNK):
        a, b = first[begin : begin + _CHUNK], second[begin : begin + _CHUNK]
        common[begin : begin + _CHUNK] = ((a[:, :, None] == b[:, None, :]) & (a >= 0)[:, :, None]).sum(axis=(1, 2))
    lengths = np.maximum((first >= 0).sum(axis=1), (second >= 0).sum(axis=1))
    shown = np.unique(first[first >= 0]), np.unique(second[second >= 0])
    only_second = np.setdiff1d(shown[1], shown[0], assume_unique=True)
    listed = second[second >= 0]
    return ListDifferences(
        overlap=float(100 * (common / np.maximum(lengths, 1)).mean()),
        same_first=float(100 * (first[:, 0] == second[:, 0]).mean()),
        same_list=float(100 * (first == second).all(axis=1).mean()),
        only_first=len(np.setdiff1d(shown[0], shown[1], assume_unique=True)),
        only_second=len(only_second),
        new_share=float(100 * np.isin(listed, only_second).mean()) if len(listed) else 0.0,
    )


def parting(first: np.ndarray, second: np.ndarray, session: np.ndarray, count: int) -> list[int]:
    """Return at most `count` samples whose target only one ranker finds, for the two rankers in turn.

    Samples with the best ranks come first, and a session gives at most one. first, second: int32[S], the ranks by each
    ranker, 0 if not found. session: int[S], equal for samples of one session.
    """
    if count < 1:
        return []
    turns = []
    for found_ranks, missed_ranks in ((second, first), (first, second)):
        samples = np.flatnonzero((found_ranks > 0) & (missed_ranks == 0))
        turns.append(iter(samples[np.argsort(found_ranks[samples], kind="stable")].tolist()))
    chosen: list[int] = []
    sessions: set[int] = set()
    while turns and len(chosen) < count:
        turn = turns.pop(0)
        next_sample = next((sample for sample in turn if int(session[sample]) not in sessions), None)
        if next_sample is not None:
            sessions.add(int(session[next_sample]))
            chosen.append(next_sample)
            turns.append(turn)
    return chosen
