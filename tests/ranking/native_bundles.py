"""Bundles that the native call and the composed path both rank, and when two answers are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.recommender import Recommender
from tests.random_bundle import bundle_parts, memory_parts, save_parts

N = 403


def saved(path: Path, kind: str) -> Path:
    """A bundle of N items with equal ones and a zero one among them; kind: 'text-ids', 'int-ids' or 'memory'."""
    parts = bundle_parts(n_items=N, d=20, max_len=12, text=kind == "text-ids")
    if kind == "memory":
        parts |= memory_parts(N)
    embedding = parts["weights"]["item_embedding"]
    embedding[100:140] = embedding[60:100]
    embedding[7] = 0
    save_parts(path, **parts)
    return path


def same(one: Recommendations, other: Recommendations) -> bool:
    """Whether two answers are equal to the bit."""
    repeats = [None if out.repeats is None else out.repeats.tolist() for out in (one, other)]
    return (
        one.items == other.items
        and one.scores.dtype == other.scores.dtype == np.float32
        and one.scores.tobytes() == other.scores.tobytes()
        and one.unknown == other.unknown
        and one.fallback == other.fallback
        and repeats[0] == repeats[1]
    )


def named(rec: Recommender, internal: Any) -> list[Any]:
    """External ids of internal ones."""
    return rec.ids.external(np.asarray(internal, dtype=np.int32))
