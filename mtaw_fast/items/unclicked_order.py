"""The order of items that nobody has clicked yet: by their age, and by how their categories fit the session.

A linear model, fitted on the targets of past sessions against other items of their time, whatever their popularity.
Axes: n items, Q targets, C candidates of one, K category columns, F = 2 K + 1 features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_QUERIES = 5_000
MIN_QUERIES = 200
OWN = 10  # latest items of a session that are looked at
_DRAWN = 50  # candidates of a target, itself included
_ROUNDS = 25
_RIDGE = 1.0
_MINUTE = 60_000.0  # ms
NO_CATEGORY = -1


@dataclass(frozen=True, slots=True)
class UnclickedOrder:
    """Weights of the features of `order_features`.

    categories: the K category columns. created: the time column that ages count from. weights: F, for each category
    that of being the last click's, and of its share of the session; and that of the logarithm of the age in minutes.
    """

    categories: tuple[str, ...]
    created: str
    weights: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"categories": list(self.categories), "created": self.created, "weights": list(self.weights)}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> UnclickedOrder:
        """Return what `as_dict` made."""
        return cls(tuple(values["categories"]), values["created"], tuple(map(float, values["weights"])))

    def scores(self, codes: Sequence[np.ndarray], created: np.ndarray, own: Sequence[Any], now: int) -> np.ndarray:
        """Return float64[n]: the scores of n items; parameters as for `order_features`."""
        return order_features(codes, created, own, now) @ np.array(self.weights)


def order_features(codes: Sequence[np.ndarray], created: np.ndarray, own: Sequence[Any], now: int) -> np.ndarray:
    """Return float64[n, F].

    codes: K arrays int[n], the category of each item, -1 if missing. created: int64[n], Unix milliseconds. own: the
    categories of the session's last items, the latest first; -1 if missing. now: Unix milliseconds.
    """
    features = []
    for column, own_codes in zip(codes, own, strict=True):
        latest = list(own_codes)[:OWN]
        known = [code for code in latest if code != NO_CATEGORY]
        has_category = column != NO_CATEGORY
        same = (
            np.where(column == latest[0], 1.0, -1.0) if latest and latest[0] != NO_CATEGORY else np.zeros(len(column))
        )
        share = sum((column == code).astype(np.float64) for code in known) / len(known) if known else same * 0
        features += [same * has_category, share * has_category]
    age = np.maximum(now - created, 0) / _MINUTE
    return np.stack([*features, np.log1p(age)], axis=1)


def fit_unclicked_order(
    categories: Mapping[str, np.ndarray],
    name: str,
    created: np.ndarray,
    items: np.ndarray,
    offsets: np.ndarray,
    times: np.ndarray,
    no_time: int,
    seed: int = 0,
) -> UnclickedOrder | None:
    """Fit the order on the last clicks of sessions.

    categories: mapping of str to int[N], K columns of codes by name. name, created: the time column, int64[N];
    `no_time` where missing. items, offsets, times: int32[T], int64[B + 1], int64[T], packed sessions, in order of their
    ends.

    Returns None if there are fewer than 200 targets that have a time, and others to compare with.
    """
    codes, rng = list(categories.values()), np.random.default_rng(seed)
    queries = _targets(items, offsets, times, created, no_time)
    if len(queries) < MIN_QUERIES:
        return None
    begins = np.repeat(offsets[:-1], np.diff(offsets))
    known = np.flatnonzero(created != no_time)
    order = known[np.argsort(created[known], kind="stable")]
    sorted_times = created[order]
    ages = times[queries] - created[items[queries]]
    window = int(np.quantile(ages, 0.95))  # older items are no competition
    features = np.empty((len(queries), _DRAWN, 2 * len(codes) + 1))
    for row, click in enumerate(queries.tolist()):
        now = int(times[click])
        low, high = np.searchsorted(sorted_times, (now - window, now), side="right")
        drawn = order[rng.integers(low, max(high, low + 1), _DRAWN)] if high > low else np.full(_DRAWN, items[click])
        drawn[0] = items[click]
        session = items[begins[click] : click][::-1][:OWN]
        own = [column[session].tolist() for column in codes]
        features[row] = order_features([column[drawn] for column in codes], created[drawn], own, now)
    weights = _softmax_weights(features)
    return UnclickedOrder(tuple(categories), name, tuple(round(float(weight), 6) for weight in weights))


def _targets(
    items: np.ndarray, offsets: np.ndarray, times: np.ndarray, created: np.ndarray, no_time: int
) -> np.ndarray:
    """Return int64[Q]: the latest clicks that are not their session's first, on items with an earlier creation time."""
    first = np.zeros(len(items), dtype=bool)
    first[offsets[:-1][offsets[:-1] < len(items)]] = True
    item_times = created[items]
    return np.flatnonzero(~first & (item_times != no_time) & (item_times <= times))[-MAX_QUERIES:]


def _softmax_weights(features: np.ndarray) -> np.ndarray:
    """Return float64[F] that make the first of each row's candidates the most likely: Newton's method, with a ridge."""
    weights = np.zeros(features.shape[2])
    centered = features - features[:, :1]
    for _ in range(_ROUNDS):
        scores = centered @ weights
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        mean = np.einsum("qc,qcf->qf", chances, centered)
        gradient = -mean.sum(axis=0) - _RIDGE * weights
        second = np.einsum("qc,qcf,qcg->fg", chances, centered, centered, optimize=True) - mean.T @ mean
        step = np.linalg.solve(second + _RIDGE * np.eye(len(weights)), gradient)
        weights = weights + step
        if np.abs(step).max() < 1e-6:
            break
    return weights
