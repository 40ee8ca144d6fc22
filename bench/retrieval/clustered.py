"""Generated unit vectors with the structure of trained embeddings: clusters of power-law sizes, queries among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 1 << 16
_FIRST_QUERIES = 2048


@dataclass(frozen=True, slots=True)
class ClusterLaw:
    """Unit vectors around unit centers, nearly by a von Mises-Fisher law.

    A vector is the unit vector of (center + spread * g / sqrt(d)), g standard normal: its cosine with the center is
    about 1 / sqrt(1 + spread^2), as under a von Mises-Fisher law of concentration ~ d / spread^2 in many dimensions.
    Every cluster has its own spread, uniform on spread_low..spread_high: some are tight and some loose. The r-th
    largest cluster has a share ~ r^-size_exponent. items_per_cluster: N over the number of clusters.
    """

    items_per_cluster: int = 200
    size_exponent: float = 0.8
    spread_low: float = 0.6
    spread_high: float = 1.0


def clustered_vectors(
    n_items: int, d: int, n_queries: int, seed: int = 0, law: ClusterLaw | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (items float32[N, d], queries float32[B, d]), all of length 1; equal arguments give equal vectors.

    Queries are held-out members of the clusters, by the same law. More than 2,048 queries change neither the items nor
    the first queries, so kept indexes stay valid.
    """
    law = law or ClusterLaw()
    rng = np.random.default_rng([seed, n_items, d])
    n_clusters = max(2, n_items // law.items_per_cluster)
    centers = _unit(rng.standard_normal((n_clusters, d), dtype=np.float32))
    spreads = rng.uniform(law.spread_low, law.spread_high, n_clusters).astype(np.float32)
    shares = np.arange(1, n_clusters + 1) ** -law.size_exponent

    def members(count: int) -> np.ndarray:
        cluster = rng.choice(n_clusters, count, p=shares / shares.sum())
        vectors = np.empty((count, d), dtype=np.float32)
        for begin in range(0, count, _BLOCK):
            own = cluster[begin : begin + _BLOCK]
            noise = rng.standard_normal((len(own), d), dtype=np.float32)
            noise *= (spreads[own] / np.float32(np.sqrt(d)))[:, None]
            vectors[begin : begin + _BLOCK] = _unit(centers[own] + noise)
        return vectors

    first = min(n_queries, _FIRST_QUERIES)
    vectors = members(n_items + first)
    return vectors[:n_items], np.concatenate([vectors[n_items:], members(n_queries - first)])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
