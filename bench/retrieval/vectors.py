"""The inputs of the retrieval bench: catalogs of unit vectors, and queries that are not in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mtaw_fast.kernels.native.scan import quantize

QUERIES = 8192
SOURCE = "clustered"
_BLOCK = 1 << 16
_FIRST_QUERIES = 2048
_ITEMS_PER_CLUSTER, _SIZE_EXPONENT, _SPREADS = 200, 0.8, (0.6, 1.0)


@dataclass(frozen=True, eq=False)
class VectorSet:
    """A catalog of vectors and held-out queries.

    catalog: float32[N, d]; queries: float32[B, d], all of length 1.
    """

    catalog: np.ndarray
    queries: np.ndarray

    @cached_property
    def codes(self) -> Mapping[str, np.ndarray]:
        """The int8 codes of the catalog, as the exact index reads them."""
        return quantize(np.ascontiguousarray(self.catalog))

    @property
    def unseen(self) -> np.ndarray:
        """The half of the queries that has no part in choosing an approximate index's parameters."""
        return self.queries[: len(self.queries) // 2]

    @property
    def choosing(self) -> np.ndarray:
        """The other half."""
        return self.queries[len(self.queries) // 2 :]

    @property
    def params(self) -> dict[str, Any]:
        """What every row says about the vectors."""
        n_items, d = self.catalog.shape
        return {"catalog": n_items, "d": d, "data": SOURCE}

    @cached_property
    def key(self) -> str:
        """The catalog's name in a cache of indexes."""
        digest = hashlib.blake2b(self.catalog.tobytes(), digest_size=6).hexdigest()
        return f"{SOURCE}-{len(self.catalog)}-{digest}"

    def true_cosines(self, rows: int) -> np.ndarray:
        """Return float64[rows, N]: cosines of the first queries with the whole catalog."""
        wide = self.queries[:rows].astype(np.float64)
        cosines = np.empty((rows, len(self.catalog)))
        for begin in range(0, len(self.catalog), _BLOCK):
            block = self.catalog[begin : begin + _BLOCK].astype(np.float64)
            cosines[:, begin : begin + len(block)] = wide @ block.T
        return cosines


def generated_set(n_items: int, d: int = 100) -> VectorSet:
    """Return clustered vectors."""
    catalog, queries = clustered_vectors(n_items, d, QUERIES)
    return VectorSet(catalog, np.ascontiguousarray(queries))


def clustered_vectors(n_items: int, d: int, n_queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (items float32[N, d], queries float32[B, d]), all of length 1; equal arguments give equal vectors.

    They lie around unit centers, nearly by a von Mises-Fisher law: a vector is the unit vector of (center + spread *
    g / sqrt(d)), g standard normal, whose cosine with the center is about 1 / sqrt(1 + spread^2). Every cluster has its
    own spread: some are tight and some loose. The r-th largest cluster has a share ~ r^-_SIZE_EXPONENT.

    Queries are held-out members of the clusters. More than 2,048 queries change neither the items nor the first
    queries, so kept indexes stay valid.
    """
    rng = np.random.default_rng([seed, n_items, d])
    n_clusters = max(2, n_items // _ITEMS_PER_CLUSTER)
    centers = _unit(rng.standard_normal((n_clusters, d), dtype=np.float32))
    spreads = rng.uniform(*_SPREADS, n_clusters).astype(np.float32)
    shares = np.arange(1, n_clusters + 1) ** -_SIZE_EXPONENT

    def members(count: int) -> np.ndarray:
        cluster = rng.choice(n_clusters, count, p=shares / shares.sum())
        vectors = np.empty((count, d), dtype=np.float32)
        for begin in range(0, count, _BLOCK):
            clusters = cluster[begin : begin + _BLOCK]
            noise = rng.standard_normal((len(clusters), d), dtype=np.float32)
            noise *= (spreads[clusters] / np.float32(np.sqrt(d)))[:, None]
            vectors[begin : begin + _BLOCK] = _unit(centers[clusters] + noise)
        return vectors

    first = min(n_queries, _FIRST_QUERIES)
    vectors = members(n_items + first)
    return vectors[:n_items], np.concatenate([vectors[n_items:], members(n_queries - first)])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
