"""Bundles of every kind for the exported graphs."""

from __future__ import annotations

from pathlib import Path

from mtaw_fast.bundle import Bundle
from tests.support.export.timed_bundle import save_timed
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

N = 260  # items
KINDS = ("plain", "memory", "ints", "timed")


def save_kind(kind: str, folder: Path) -> Bundle:
    """Save a bundle of one of KINDS and return it."""
    if kind == "timed":
        return save_timed(folder, N)
    parts = bundle_parts(
        n_items=N, embedding_dim=16, max_session_length=30, text=kind != "ints", recent_weight=2.0, recent_decay=0.6
    )
    if kind == "plain":
        return save_parts(folder, **parts)
    return save_parts(folder, **parts, **memory_parts(N))
