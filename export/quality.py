"""The quality of an exported graph on a data set's test split, compared with the Recommender.

Axes: S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation import Evaluated
from mtaw_fast.evaluation.metrics import gains_of, listed_rank, means_of

K = 20
MIN_EQUAL = 99.9  # least percent of positions where a float32 graph has the same item
# Most percent of positions with another item and score: if past sessions or candidates at a cut differ only in the last
# bit of a float32 sum, either may be chosen.
MAX_APART = 0.01
MAX_P = {"float32": 0.02, "fp16": 0.1, "int8": 0.1}  # largest difference of P@20 to the Recommender, in points
_CHUNK = 512
_TIE = 1e-4  # scores this close may be in either order

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of one ranker, in percent.

    places_equal: the share of the top-20 positions with the Recommender's item. apart: positions with another item
    whose score differs by more than 1e-4 from the Recommender's. places: all positions.
    """

    p: float
    mrr: float
    places_equal: float = 100.0
    apart: int = 0
    places: int = 0

    def as_dict(self, alone: bool = False) -> dict[str, Any]:
        """Return JSON values. alone: only P@20 and MRR@20."""
        means: dict[str, Any] = {"P@20": round(self.p, 3), "MRR@20": round(self.mrr, 3)}
        if alone:
            return means
        return means | {"places_equal": round(self.places_equal, 3), "places_apart": self.apart, "places": self.places}


def compare(samples: Samples, served: Evaluated, rankers: Mapping[str, Evaluated], say: Say) -> dict[str, Quality]:
    """Return the quality of the Recommender ('recommender') and of every ranker, by name, on all samples."""
    ranks = {name: np.zeros(len(samples), np.int32) for name in ("recommender", *rankers)}
    equal, apart = dict.fromkeys(rankers, 0), dict.fromkeys(rankers, 0)
    n_positions = 0
    for begin in range(0, len(samples), _CHUNK):
        end = min(begin + _CHUNK, len(samples))
        prefixes, targets = samples.prefixes.slice(begin, end), samples.targets[begin:end]
        served_ids, served_scores = served.rank(prefixes, K + 1)
        ranks["recommender"][begin:end] = _within(listed_rank(served_ids, served_scores, targets))
        real = served_ids[:, :K] >= 0
        n_positions += int(real.sum())
        for name, ranker in rankers.items():
            ids, scores = ranker.rank(prefixes, K + 1)
            ranks[name][begin:end] = _within(listed_rank(ids, scores, targets))
            is_same = ids[:, :K] == served_ids[:, :K]
            is_near = np.abs(scores[:, :K] - np.where(real, served_scores[:, :K], 0)) <= _TIE
            equal[name] += int((is_same & real).sum())
            apart[name] += int((~is_same & ~is_near & real).sum())
        say(f"ranked {end} of {len(samples)} test samples")
    qualities = {}
    for name, ranker_ranks in ranks.items():
        means = means_of(gains_of(ranker_ranks))
        share = 100 * equal[name] / max(n_positions, 1) if name in equal else 100.0
        qualities[name] = Quality(means["P@20"], means["MRR@20"], share, apart.get(name, 0), n_positions)
    return qualities


def shortfall(variant: str, part: str, quality: Quality, served: Quality) -> str | None:
    """Return why a whole graph is too different from the Recommender, or None."""
    if part == "encoder":
        return None
    if abs(quality.p - served.p) > MAX_P[variant]:
        return f"its P@20 is {quality.p:.2f}, the Recommender's {served.p:.2f}"
    if variant == "float32" and (quality.places_equal < MIN_EQUAL or 100 * quality.apart > MAX_APART * quality.places):
        return f"{quality.places_equal:.3f}% of the ranks are equal, {quality.apart} have another score"
    return None


def _within(ranks: np.ndarray) -> np.ndarray:
    return np.where(ranks <= K, ranks, 0)
