"""Session vectors for measuring the recall of an index."""

from __future__ import annotations

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.encoders import make_encoder
from mtaw_fast.ranking.retrieval import Index

MIN_QUERIES = 100  # session vectors; fewer cannot distinguish a recall of .99 from .98
_NEIGHBORS = 50
_CLICKS = 6


def validation_vectors(bundle: Bundle, dataset: Dataset, count: int, seed: int) -> tuple[np.ndarray, str]:
    """Return up to `count` vectors float32[B, d] of random prefixes of the validation sessions, and a description.

    Clicks that the bundle does not know are dropped. Raises UsageError if fewer than MIN_QUERIES prefixes are left.
    """
    held_out = dataset.train.split_last(bundle.config.optimizer.validation_fraction)[1]
    prefixes = Samples.from_sessions(held_out, dataset.min_prefix).prefixes
    internal = bundle.ids.lookup(dataset.ids.external(np.arange(dataset.n_items)))[prefixes.items]
    row = np.repeat(np.arange(len(prefixes)), prefixes.lengths)[internal >= 0]
    lengths = np.bincount(row, minlength=len(prefixes))
    known_prefixes = Sessions(internal[internal >= 0], offsets_of(lengths))
    usable = np.flatnonzero(lengths)
    if len(usable) < MIN_QUERIES:
        raise UsageError(
            f"data set {dataset.name} has {len(usable)} validation prefixes of items that the bundle knows, a recall "
            f"needs {MIN_QUERIES}; pass the data set it was trained on, or none (for sessions made from the catalog)"
        )
    chosen = np.random.default_rng(seed).permutation(usable)[:count]
    vectors = make_encoder("auto", bundle).encode(known_prefixes.select(chosen))
    return vectors, f"{len(chosen)} prefixes of the validation sessions of data set {dataset.name}"


def synthetic_vectors(bundle: Bundle, exact: Index, count: int, seed: int) -> tuple[np.ndarray, str]:
    """Return `count` vectors of synthetic sessions, and a description: (float32[B, d], str).

    A session starts at an item drawn by popularity and continues among the 50 items nearest to it in the catalog.
    """
    rng = np.random.default_rng(seed)
    weight = bundle.popularity + 1.0
    starts = rng.choice(bundle.n_items, count, p=weight / weight.sum())
    nearest = exact.search(bundle.item_vectors[starts], min(_NEIGHBORS, bundle.n_items))[0]
    picks = rng.integers(0, nearest.shape[1], (count, _CLICKS - 1))
    clicks = np.concatenate([starts[:, None], np.take_along_axis(nearest, picks, axis=1)], axis=1).astype(np.int32)
    lengths = rng.integers(1, _CLICKS + 1, count)
    sessions = Sessions(clicks[np.arange(_CLICKS) < lengths[:, None]], offsets_of(lengths))
    vectors = make_encoder("auto", bundle).encode(sessions)
    return vectors, f"{count} sessions made from the catalog's own neighborhoods"
