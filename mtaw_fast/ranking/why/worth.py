"""What each group of the ranker's features was worth in a score: the ranker's own score without the group."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from mtaw_fast.kernels.native.memory_query import NativeRankerNet
from mtaw_fast.memory import RankerNet
from mtaw_fast.ranking.why.explanation import Part

# By the names of their features: the first pattern that matches.
_GROUPS = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("it is already in the session, or not", r"own($|_)"),
        ("what kinds of clicks the session has", r"e_"),
        ("its properties, such as category and age", r"i_"),
        ("what visits with the same context click", r"c_"),
        ("how close the encoder finds it to the session", r"logit|dense_rank"),
        ("clicked together with the session's items lately", r"t_(fwd|bwd)_|t_pre$"),
        ("how popular and how new it is now", r"t_(all|later)_|t_(first|last)$"),
        ("the session and the moment: length, pace, hour", r"t_|length$|distinct$|repeat_rate$|last_sessions$"),
        ("how popular it is overall", r"(clicks|sessions|newest)$"),
        ("clicked together with the session's items", r""),
    )
)
BASE = "an average candidate"
TOGETHER = "what these are worth only together"


def groups_of(features: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each group's features, int64[..]; every feature is in one group."""
    rows: dict[str, list[int]] = {}
    for row, feature in enumerate(features):
        name = next(name for name, pattern in _GROUPS if pattern.match(feature))
        rows.setdefault(name, []).append(row)
    return {name: np.array(rows[name]) for name, _ in _GROUPS if name in rows}


def parts_of(net: RankerNet, native: NativeRankerNet, features: np.ndarray, score: float) -> list[Part]:
    """Return what adds up to a candidate's score, the largest group first.

    A feature that is taken away has its mean over the training. What groups are worth only with one another is a part
    of its own.

    features: float32[F] of the candidate. score: the ranker's.
    """
    groups = groups_of(net.features)
    rows = np.tile(features, (len(groups) + 1, 1))
    rows[-1] = net.mean
    for row, columns in zip(rows, groups.values(), strict=False):
        row[columns] = net.mean[columns]
    *without, base = native.scores(rows).tolist()
    parts = [Part(name, score - rest, "group") for name, rest in zip(groups, without, strict=True)]
    parts.sort(key=lambda part: -abs(part.worth))
    others = math.fsum([score, -base, *(-part.worth for part in parts)])
    return [Part(BASE, base, "base"), *parts, Part(TOGETHER, others, "together")]
