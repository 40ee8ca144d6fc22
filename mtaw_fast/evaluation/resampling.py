"""Intervals of many means at once, by a bootstrap over whole sessions.

Axes: S samples, C columns (metrics), V values of a slice, G sessions, U units that are drawn, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_UNITS = 10_000
FEWEST_SESSIONS = 10  # of a slice with intervals
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
    Percentile intervals, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

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
    ) -> Estimates:
        """Return the means of the columns, within each value of a slice, with 95% intervals.

        columns: float[S, C], what each sample adds. codes: int[S], the value of each sample, -1 for none; by default
        all have the value 0. fewest: values with fewer sessions get no interval. weights: float[S], weights of the
        samples in the means, as if each were repeated so often; by default 1 each.
        """
        codes = np.zeros(len(columns), dtype=np.int64) if codes is None else codes
        return self.estimates_by(columns, [(codes, n_values)], fewest, weights)[0]

    def estimates_by(
        self,
        columns: np.ndarray,
        slices: Sequence[tuple[np.ndarray, int]],
        fewest: int = FEWEST_SESSIONS,
        weights: np.ndarray | None = None,
    ) -> list[Estimates]:
        """Return the estimates by each of several slices (codes, V); the other parameters are those of `estimates`.

        All of them together are one matrix product: BLAS wakes its threads once, and they wait for work actively.
        """
        summed = [self._summed(columns, codes, n_values, weights) for codes, n_values in slices]
        # [R, U] @ [U, (C + 1) V]; float32 is far below the error of 1,000 resamples.
        flat = np.concatenate([sums.reshape(len(sums), -1) for sums, _, _ in summed], axis=1, dtype=np.float32)
        ends = np.cumsum([sums[0].size for sums, _, _ in summed])[:-1]
        totals = np.split(self._times @ flat, ends, axis=1)
        return [_estimates(*parts, drawn.reshape(-1, *parts[0].shape[1:]), fewest)
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
    sums: np.ndarray, samples: np.ndarray, sessions: np.ndarray, drawn: np.ndarray, fewest: int
) -> Estimates:
    """Return the estimates of sums float64[U, C + 1, V], and of what the resamples drew, float32[R, C + 1, V]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[:, :-1].sum(axis=0) / sums[:, -1].sum(axis=0)  # [C, V]
        resampled = drawn[:, :-1] / drawn[:, -1:]
    low, high = _percentiles(resampled)
    few = sessions < fewest
    low[:, few], high[:, few] = np.nan, np.nan
    return Estimates(means.T, low.T, high.T, samples, sessions)


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
