"""Bundles for comparing the native call with the composed path, and the comparison of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.errors import ItemTypeError
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

N = 403


def saved(path: Path, kind: str) -> Path:
    """Save a bundle of N items, some equal and one zero; kind: 'text-ids', 'int-ids' or 'memory'."""
    parts = bundle_parts(n_items=N, embedding_dim=20, max_session_length=12, text=kind == "text-ids")
    if kind == "memory":
        parts |= memory_parts(N)
    embedding = parts["weights"]["item_embedding"]
    embedding[100:140] = embedding[60:100]
    embedding[7] = 0
    save_parts(path, **parts)
    return path


def same(one: Recommendations, other: Recommendations) -> bool:
    """Return whether two answers are equal to the bit."""
    repeats = [None if out.repeats is None else out.repeats.tolist() for out in (one, other)]
    return (
        one.items == other.items
        and one.scores.dtype == other.scores.dtype == np.float32
        and one.scores.tobytes() == other.scores.tobytes()
        and one.unknown == other.unknown
        and one.fallback == other.fallback
        and repeats[0] == repeats[1]
    )


def answered(ask: Callable[..., Any], *arguments: Any, **options: Any) -> Recommendations | None:
    """Return the answer (of a batch the first); None if a session has no id of the catalog's type."""
    try:
        answer = ask(*arguments, **options)
    except ItemTypeError:
        return None
    return answer[0] if isinstance(answer, list) else answer


def assert_same(*lists: Sequence[Recommendations | None]) -> None:
    """Assert that all Recommenders gave the same answer, or that all refused."""
    for answers in zip(*lists, strict=True):
        assert len({answer is None for answer in answers}) == 1
    first, *others = [answer for answers in lists for answer in answers if answer is not None] or [None]  # type: ignore[list-item]
    assert all(same(first, answer) for answer in others)


def named(rec: Recommender, internal: Any) -> list[Any]:
    """Return external ids of internal ones."""
    return rec.ids.external(np.asarray(internal, dtype=np.int32))
