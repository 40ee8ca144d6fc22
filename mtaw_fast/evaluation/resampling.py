"""Intervals of many means at once, by a bootstrap over whole sessions.

Axes: S samples, C columns (metrics), V values of a slice, G sessions, U units that are drawn, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

MAX_UNITS = 10_000
FEWEST_SESSIONS = 10  # of a slice with intervals
ENOUGH_SESSIONS = 1_000  # below them the percentiles of the draws are too narrow
_DRAWN = 1 << 14  # units drawn at a time: their counts stay in the cache
_BOUNDS = (2.5, 97.5)  # percentiles of 95% intervals
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Means of C columns within V values of a slice.

    means: float64[V, C]; NaN without a sample. low, high: float64[V, C], their intervals; NaN where too few
    sessions have a sample. samples, sessions: int64[V].
    """

    means: np.ndarray
    low: np.ndarray
    high: np.ndarray
    samples: np.ndarray
    sessions: np.ndarray

    def interval(self, value: int, column: int) -> Interval | None:
        """Return (low, high) of one mean; None without an interval."""
        low, high = float(self.low[value, column]), float(self.high[value, column])
        return None if np.isnan(low) else (low, high)


class SessionBootstrap:
    """Resamples of whole sessions that are drawn once and used for every mean, so differences are paired.

    Samples of a session share clicks, so sessions are drawn and not samples. Of more than `MAX_UNITS` sessions, that
    many random groups of sessions are drawn instead: their sums are independent too, and the cost stays bounded.
    Percentile intervals, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. With fewer than
    `ENOUGH_SESSIONS` sessions they are too narrow, and `few_sessions` takes their place.

    session: int[S], equal for samples of one session. seed: equal arguments give equal intervals.
    """

    def __init__(self, session: np.ndarray, resamples: int = 1000, seed: int = 0) -> None:
        numbers, group = np.unique(session, return_inverse=True)
        generator = np.random.default_rng(seed)
        self._group, self._n_sessions = group.reshape(-1), len(numbers)
        units = min(self._n_sessions, MAX_UNITS)
        self._unit = self._group
        if units < self._n_sessions:
            self._unit = (generator.permutation(self._n_sessions) % units)[self._group]
        self._times = _draws(units, resamples, generator)

    def estimates(
        self,
        columns: np.ndarray,
        codes: np.ndarray | None = None,
        n_values: int = 1,
        fewest: int = FEWEST_SESSIONS,
        weights: np.ndarray | None = None,
        bounds: np.ndarray | None = None,
    ) -> Estimates:
        """Return the means of the columns, within each value of a slice, with 95% intervals.

        columns: float[S, C], what each sample adds. codes: int[S], the value of each sample, -1 for none; by default
        all have the value 0. fewest: values with fewer sessions get no interval. weights: float[S], weights of the
        samples in the means, as if each were repeated so often; by default 1 each. bounds: float[2, C], the least and
        largest value of each column, NaN without one; by default none has one.
        """
        codes = np.zeros(len(columns), dtype=np.int64) if codes is None else codes
        return self.estimates_by(columns, [(codes, n_values)], fewest, weights, bounds)[0]

    def estimates_by(
        self,
        columns: np.ndarray,
        slices: Sequence[tuple[np.ndarray, int]],
        fewest: int = FEWEST_SESSIONS,
        weights: np.ndarray | None = None,
        bounds: np.ndarray | None = None,
    ) -> list[Estimates]:
        """Return the estimates by each of several slices (codes, V); the other parameters are those of `estimates`.

        All of them together are one matrix product: BLAS wakes its threads once, and they wait for work actively.
        """
        summed = [self._summed(columns, codes, n_values, weights) for codes, n_values in slices]
        # [R, U] @ [U, (C + 1) V]; float32 is far below the error of 1,000 resamples.
        flat = np.concatenate([sums.reshape(len(sums), -1) for sums, _, _ in summed], axis=1, dtype=np.float32)
        ends = np.cumsum([sums[0].size for sums, _, _ in summed])[:-1]
        totals = np.split(self._times @ flat, ends, axis=1)
        bounds = np.full((2, columns.shape[1]), np.nan) if bounds is None else bounds
        return [_estimates(*parts, drawn.reshape(-1, *parts[0].shape[1:]), fewest, bounds)
                for parts, drawn in zip(summed, totals, strict=True)]  # fmt: skip

    def _summed(
        self, columns: np.ndarray, codes: np.ndarray, n_values: int, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the sums of the columns, then of the weights, by unit and value: float64[U, C + 1, V]; and
        `Estimates.samples` and `.sessions`."""
        n_columns, units = columns.shape[1], self._times.shape[1]
        codes = codes.astype(np.int64)
        kept = codes >= 0
        all_kept = bool(kept.all())
        values = codes if all_kept else codes[kept]
        cells = (self._unit if all_kept else self._unit[kept]) * n_values + values
        mass = None if weights is None else weights[kept].astype(np.float64)
        sums = np.empty((n_columns + 1, units * n_values))
        for column in range(n_columns):
            column_values = columns[kept, column] if mass is None else columns[kept, column] * mass
            sums[column] = np.bincount(cells, column_values, minlength=units * n_values)
        sums[-1] = np.bincount(cells, mass, minlength=units * n_values)
        samples = np.bincount(values, minlength=n_values)
        session_values = np.unique((self._group if all_kept else self._group[kept]) * n_values + values) % n_values
        by_unit = sums.reshape(n_columns + 1, units, n_values).transpose(1, 0, 2)
        return by_unit, samples, np.bincount(session_values, minlength=n_values)


def _estimates(
    sums: np.ndarray, samples: np.ndarray, sessions: np.ndarray, drawn: np.ndarray, fewest: int, bounds: np.ndarray
) -> Estimates:
    """Return the estimates of sums float64[U, C + 1, V], and of what the resamples drew, float32[R, C + 1, V]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[:, :-1].sum(axis=0) / sums[:, -1].sum(axis=0)  # [C, V]
        resampled = drawn[:, :-1] / drawn[:, -1:]
    low, high = _percentiles(resampled)
    for value in np.flatnonzero((sessions >= FEWEST_SESSIONS) & (sessions < ENOUGH_SESSIONS)):
        of_value = sums[sums[:, -1, value] > 0, :, value]
        low[:, value], high[:, value] = few_sessions(of_value[:, :-1], of_value[:, -1], bounds)
    few = sessions < fewest
    low[:, few], high[:, few] = np.nan, np.nan
    return Estimates(means.T, low.T, high.T, samples, sessions)


def few_sessions(over: np.ndarray, under: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95% intervals float64[C] of ratios of sums over few sessions.

    over: float64[G, C]. under: float64[G], above 0. bounds: float[2, C], as in `SessionBootstrap.estimates`.

    It is Student's interval with the delta method, where the sessions count by their weight (Kish), after two sessions
    are added that lie at the bounds: Agresti and Coull, "Approximate is better than exact for interval estimation of
    binomial proportions" (The American Statistician 52, 1998); of differences, whose bounds are opposite, half a
    session at each and one at 0: Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions" (Statistics in Medicine 24, 2005). Without them, 30 sessions that all miss would have no width.
    """
    mean_weight = under.mean()
    middle, reach = np.nan_to_num(bounds.mean(axis=0)), np.nan_to_num(bounds[1] - bounds[0]) / 2
    added = np.where(reach > 0, 2.0, 0.0)  # sessions
    square = np.where(bounds[0] < 0, 1.0, 2.0) * reach**2  # of those added, around the middle
    total = under.sum() + added * mean_weight
    center = (over.sum(axis=0) + added * middle * mean_weight) / total
    residuals = ((over - center * under[:, None]) ** 2).sum(axis=0)
    residuals += (square + added * (middle - center) ** 2) * mean_weight**2
    count = under.sum() ** 2 / (under**2).sum()
    all_count = count + added
    radius = _student(count - 1) * np.sqrt(residuals * all_count / (all_count - 1)) / total
    return center - radius, center + radius


def _student(degrees: float) -> float:
    """Return the quantile of Student's distribution for 95% intervals: Hill, "Algorithm 396" (Communications of the ACM
    13, 1970), in the expansion around the normal one by Cornish and Fisher, to 1% from 3 degrees on."""
    z = NormalDist().inv_cdf(_BOUNDS[1] / 100)
    degrees = max(degrees, 3.0)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms))


def _draws(units: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Return float32[R, U]: how often each unit was drawn in each resample of U draws."""
    times = np.empty((resamples, units), dtype=np.float32)
    step = max(1, _DRAWN // units)
    for begin in range(0, resamples, step):
        block = times[begin : begin + step]
        drawn = generator.integers(units, size=block.shape, dtype=np.int32)
        drawn += np.arange(len(block), dtype=np.int32)[:, None] * units
        block[:] = np.bincount(drawn.reshape(-1), minlength=block.size).reshape(block.shape)
    return times


def _percentiles(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds float64[C, V] of resampled means [R, C, V]; resamples without a sample do not count."""
    if np.isnan(resampled).any():
        bounds = np.full((2, *resampled.shape[1:]), np.nan)
        for value in range(resampled.shape[2]):
            drawn = resampled[~np.isnan(resampled[:, 0, value]), :, value]
            if len(drawn):
                bounds[:, :, value] = np.percentile(drawn, _BOUNDS, axis=0)
    else:
        rows = np.ascontiguousarray(resampled.transpose(1, 2, 0))  # each is partitioned in place
        bounds = np.percentile(rows, _BOUNDS, axis=-1, overwrite_input=True).astype(np.float64)
    return bounds[0], bounds[1]
