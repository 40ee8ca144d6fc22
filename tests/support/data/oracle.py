"""The best possible ranker of a data set that `mtaw_fast.data.synthetic.generate` made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.ranked_lists import merge, top_k
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.data.synthetic import READER, ClickLaw, World, make_world
from mtaw_fast.errors import DataError


def oracle(dataset: Dataset) -> Oracle:
    """Return the optimal ranker of a data set made by `generate`. Raises DataError for any other data set."""
    recipe: Mapping[str, Any] = dataset.preparation
    if recipe.get("reader") != READER:
        raise DataError(f"data set {dataset.name} is not synthetic: its best achievable accuracy is unknown")
    return Oracle(make_world(dataset.n_items, int(recipe["seed"]), ClickLaw(**recipe["law"])))


@dataclass(frozen=True, slots=True, eq=False)
class Oracle:
    """The Bayes-optimal `evaluation.Evaluated` of a world: scores are the true next-click probabilities."""

    world: World

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `evaluation.Evaluated`; an empty session is ranked by popularity, the law of first clicks."""
        world, law = self.world, self.world.law
        n_items, count = len(world.popularity), len(sessions)
        rows, items, scores = _own_clicks(sessions, law)
        filled = np.flatnonzero(sessions.lengths)
        last_items = sessions.items[sessions.offsets[1:][filled] - 1].astype(np.int64)
        n_planted = law.successors
        # For items that are neither own clicks nor successors, P(c) rises with popularity, both inside the cluster of
        # j and outside it. So the k most popular of each contain all others that can be among the k best.
        popular = world.popular[:k]
        begins, ends = world.bounds[world.cluster[last_items]], world.bounds[world.cluster[last_items] + 1]
        offered = begins[:, None] + np.arange(min(k, n_items))
        inside = offered < ends[:, None]
        near_items = world.members[offered[inside]]
        near_rows = np.broadcast_to(filled[:, None], inside.shape)[inside]
        rows, items, scores = merge(
            np.concatenate([rows, np.repeat(filled, n_planted), near_rows, np.repeat(np.arange(count), len(popular))]),
            np.concatenate([items, world.successors[last_items].ravel(), near_items, np.tile(popular, count)]),
            np.concatenate(
                [
                    scores,
                    np.tile(law.transition * world.weights, len(filled)),
                    np.zeros(len(near_items) + count * len(popular)),
                ]
            ),
            n_items,
        )
        home = np.full(count, -1)
        home[filled] = world.cluster[last_items]
        share = np.where(home < 0, 1.0, 1 - law.repeat - law.transition - law.cluster)[rows]
        share = share + np.where(home[rows] == world.cluster[items], law.cluster / world.mass[world.cluster[items]], 0)
        return top_k(rows, items, scores + share * world.popularity[items], count, k)

    def best_precision(self, samples: Samples, k: int = 20) -> float:
        """Return the expected P@k, in percent, of the optimal ranking on these prefixes.

        It is the mean chance that the next click is among the k likeliest items. It is exact for the given prefixes; a
        measured P@k scatters around it with a standard error of at most 50 / sqrt(S).
        """
        return float(100 * self.hit_chances(samples, k).mean())

    def hit_chances(self, samples: Samples, k: int = 20) -> np.ndarray:
        """Return float64[S]: the chance that each sample's target is among the k likeliest items."""
        chances = np.empty(len(samples))
        for begin in range(0, len(samples), 512):
            _, scores = self.rank(samples.prefixes.slice(begin, begin + 512), k)
            chances[begin : begin + 512] = np.where(np.isfinite(scores), scores, 0).sum(axis=1, dtype=np.float64)
        return chances


def _own_clicks(sessions: Sessions, law: ClickLaw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the repeat part of the law, per click: rows int64[T], items int64[T], chances float64[T]."""
    lengths = sessions.lengths
    rows = np.repeat(np.arange(len(sessions)), lengths)
    ages = sessions.offsets[1:][rows] - 1 - np.arange(sessions.n_clicks)
    totals = (1 - law.recency**lengths) / (1 - law.recency)
    return rows, sessions.items.astype(np.int64), law.repeat * law.recency**ages / totals[rows]
