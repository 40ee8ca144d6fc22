"""A small data set whose next click is nearly certain: each session follows a ring of items."""

from __future__ import annotations

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions

N_ITEMS = 60
TYPE_NAMES = ("view", "cart", "purchase")


def ring_sessions(count: int, seed: int, n_items: int = N_ITEMS) -> Sessions:
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, n_items, count), rng.integers(2, 9, count)
    return Sessions.from_lists(
        [(start + np.arange(length)) % n_items for start, length in zip(starts, lengths, strict=True)]
    )


def ring_dataset() -> Dataset:
    return Dataset(
        name="ring",
        train=ring_sessions(300, seed=1),
        test=Samples.from_sessions(ring_sessions(40, seed=2), 1),
        ids=ItemIds.from_list(list(range(N_ITEMS))),
        fingerprint="ring-1",
    )


def typed(sessions: Sessions, seed: int = 0) -> Sessions:
    """The sessions with random types of TYPE_NAMES."""
    types = np.random.default_rng(seed).integers(0, len(TYPE_NAMES), sessions.n_clicks).astype(np.uint8)
    return Sessions(sessions.items, sessions.offsets, sessions.times, types)


def small_config() -> Config:
    return Config.of(embedding_dim=16, epochs=4, batch_prefixes=64, lr=3e-2, validation_fraction=0.1, patience=0)


def memory_config() -> Config:
    """The same with a session memory."""
    return small_config().replace(enabled=True, targets="new", epochs=2, ranker_fraction=0.3, recent_weight=2.0)
