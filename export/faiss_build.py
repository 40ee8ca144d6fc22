"""Build FAISS's approximate indexes over a catalog, and write them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from mtaw_fast.storage.files import atomic_path

_LINKS = 32  # neighbors of a node on each level of HNSW, 64 on the lowest
_CONSTRUCTION = 80  # nodes in the queue while inserting one into HNSW
_TRAINING_ROUNDS = 10
_POINTS_A_LIST = 64  # training vectors of k-means for each list; FAISS's 256 take four times as long
_CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class Built:
    """A FAISS index of the whole catalog, and its factory string, for the record."""

    index: Any
    factory: str


def build(kind: str, catalog: np.ndarray, seed: int, say: Callable[[str], None]) -> Built:
    """Build the index `kind` ('ivfpq' or 'hnsw') of catalog float32[N, d], on FAISS's OpenMP threads.

    Equal arguments give equal indexes on one thread; on several, HNSW's links depend on their timing.
    """
    return _ivfpq(catalog, seed, say) if kind == "ivfpq" else _hnsw(catalog, say)


def _ivfpq(catalog: np.ndarray, seed: int, say: Callable[[str], None]) -> Built:
    """Build inverted lists with 4-bit codes a dimension, of the offsets from the list's center.

    4 bits a dimension take d/2 bytes an item. 2 bits (two dimensions a code) are read faster, but clustered vectors
    then need over 5 times as many exactly scored candidates for the same recall.
    """
    n_items, d = catalog.shape
    n_lists = min(n_items, 1 << max(0, round(math.log2(4 * math.sqrt(n_items)))))
    factory = f"IVF{n_lists},PQ{d}x4fs"
    index: Any = faiss.index_factory(d, factory, faiss.METRIC_INNER_PRODUCT)
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = seed + 1
        clustering.min_points_per_centroid = 1  # the default warns about small catalogs
    index.cp.niter = _TRAINING_ROUNDS
    sample = catalog
    if n_items > n_lists * _POINTS_A_LIST:
        chosen = np.random.default_rng(seed).choice(n_items, n_lists * _POINTS_A_LIST, replace=False)
        sample = catalog[np.sort(chosen)]
    say(f"training {n_lists:,} lists on {len(sample):,} items")
    index.train(np.ascontiguousarray(sample))
    _add(index, catalog, say)
    return Built(index, factory)


def _hnsw(catalog: np.ndarray, say: Callable[[str], None]) -> Built:
    """Build a graph over the float32 vectors: 4 d + 4 * 2 * _LINKS bytes an item."""
    index = faiss.IndexHNSWFlat(catalog.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _CONSTRUCTION
    _add(index, catalog, say)
    return Built(index, f"HNSW{_LINKS},Flat")


def _add(index: Any, catalog: np.ndarray, say: Callable[[str], None]) -> None:
    for begin in range(0, len(catalog), _CHUNK):
        say(f"adding items {begin:,} of {len(catalog):,}")
        index.add(np.ascontiguousarray(catalog[begin : begin + _CHUNK]))


def write_index(path: Path, index: Any) -> None:
    """Write a FAISS index atomically and durably; a full disk is an MtawError, as in `atomic_path`."""
    library: Any = faiss  # its Python layer adds what its type stubs lack
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        # FAISS's own file writer does not report the cause of a failure.
        library.write_index(index, library.PyCallbackIOWriter(stream.write))
        stream.flush()
