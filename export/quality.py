"""What an exported graph is worth on a data set's test split, beside the Recommender.

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
LEAST_EQUAL = 99.9  # percent of places: what a float32 graph must reach
# Percent of places with another item and score, at most: where past sessions or candidates at a cut differ in the last
# bit of a float32 sum, either may be taken.
MOST_APART = 0.01
MOST_P = {"float32": 0.02, "fp16": 0.1, "int8": 0.1}  # points of P@20 that a graph may lie from the Recommender
_CHUNK = 512
_TIE = 1e-4  # scores this close may stand in either order

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one ranker, in percent. places_equal: of the places of a top 20, those with the Recommender's item; apart:
    places with another item whose score differs by more than 1e-4 from the one that the Recommender has there;
    places: all of them."""

    p: float
    mrr: float
    places_equal: float = 100.0
    apart: int = 0
    places: int = 0

    def as_dict(self, alone: bool = False) -> dict[str, Any]:
        """Plain JSON values. alone: P@20 and MRR@20 only."""
        both: dict[str, Any] = {"P@20": round(self.p, 3), "MRR@20": round(self.mrr, 3)}
        return (
            both
            if alone
            else both | {"places_equal": round(self.places_equal, 3), "places_apart": self.apart, "places": self.places}
        )


def compare(samples: Samples, served: Evaluated, rankers: Mapping[str, Evaluated], say: Say) -> dict[str, Quality]:
    """The quality of the Recommender, by the name 'recommender', and of every ranker, on all samples."""
    ranks = {name: np.zeros(len(samples), np.int32) for name in ("recommender", *rankers)}
    equal, apart = dict.fromkeys(rankers, 0), dict.fromkeys(rankers, 0)
    places = 0
    for begin in range(0, len(samples), _CHUNK):
        end = min(begin + _CHUNK, len(samples))
        some, targets = samples.prefixes.slice(begin, end), samples.targets[begin:end]
        wanted, expected = served.rank(some, K + 1)
        ranks["recommender"][begin:end] = _within(listed_rank(wanted, expected, targets))
        real = wanted[:, :K] >= 0
        places += int(real.sum())
        for name, ranker in rankers.items():
            found, scores = ranker.rank(some, K + 1)
            ranks[name][begin:end] = _within(listed_rank(found, scores, targets))
            same = found[:, :K] == wanted[:, :K]
            near = np.abs(scores[:, :K] - np.where(real, expected[:, :K], 0)) <= _TIE
            equal[name] += int((same & real).sum())
            apart[name] += int((~same & ~near & real).sum())
        say(f"ranked {end} of {len(samples)} test samples")
    made = {}
    for name, found in ranks.items():
        means = means_of(gains_of(found))
        share = 100 * equal[name] / max(places, 1) if name in equal else 100.0
        made[name] = Quality(means["P@20"], means["MRR@20"], share, apart.get(name, 0), places)
    return made


def shortfall(variant: str, part: str, quality: Quality, served: Quality) -> str | None:
    """What a whole graph lacks of its promise, or None."""
    if part == "encoder":
        return None
    if abs(quality.p - served.p) > MOST_P[variant]:
        return f"its P@20 is {quality.p:.2f}, the Recommender's {served.p:.2f}"
    if variant == "float32" and (
        quality.places_equal < LEAST_EQUAL or 100 * quality.apart > MOST_APART * quality.places
    ):
        return f"{quality.places_equal:.3f}% of the places are equal, {quality.apart} have another score"
    return None


def _within(ranks: np.ndarray) -> np.ndarray:
    return np.where(ranks <= K, ranks, 0)
