"""The inputs of the retrieval bench: catalogs of unit vectors, and queries that are not in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.workload import from_bundle, from_data
from bench.retrieval.clustered import ClusterLaw, clustered_vectors
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.ranking.encoders import make_encoder
from mtaw_fast.ranking.retrieval import AnnFile, ann_file_of

QUERIES = 8192
_TRUTH_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class VectorSet:
    """catalog: float32[N, d]; queries: float32[B, d], all of length 1. source: their kind, in a word or two.

    scan, ann: the bundle's int8 codes and approximate index, if it has them.
    """

    catalog: np.ndarray
    queries: np.ndarray
    source: str
    scan: Mapping[str, np.ndarray] | None = None
    ann: AnnFile | None = None

    @cached_property
    def codes(self) -> Mapping[str, np.ndarray]:
        """The int8 codes of the catalog, as the exact index reads them."""
        return self.scan if self.scan is not None else quantize(np.ascontiguousarray(self.catalog))

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
        return {"catalog": n_items, "d": d, "data": self.source}

    @cached_property
    def key(self) -> str:
        """The catalog's name in a cache of indexes."""
        digest = hashlib.blake2b(self.catalog.tobytes(), digest_size=6).hexdigest()
        return f"{self.source.replace(' ', '-')}-{len(self.catalog)}-{digest}"

    def true_cosines(self, rows: int) -> np.ndarray:
        """Return float64[rows, N]: cosines of the first queries with the whole catalog."""
        wide = self.queries[:rows].astype(np.float64)
        cosines = np.empty((rows, len(self.catalog)))
        for begin in range(0, len(self.catalog), _TRUTH_BLOCK):
            block = self.catalog[begin : begin + _TRUTH_BLOCK].astype(np.float64)
            cosines[:, begin : begin + len(block)] = wide @ block.T
        return cosines


def generated_set(n_items: int, d: int = 100, law: ClusterLaw | None = None) -> VectorSet:
    """Generate clustered vectors; see `bench.retrieval.clustered`."""
    catalog, queries = clustered_vectors(n_items, d, QUERIES, law=law)
    return VectorSet(catalog, np.ascontiguousarray(queries), "clustered")


def trained_set(bundle: Path, data: Path | None, folder: Path) -> VectorSet:
    """Return a bundle's catalog and vectors of sessions: a data set's test prefixes, or drawn by popularity."""
    workload = from_bundle(bundle) if data is None else from_data(data, bundle, folder)
    trained = workload.bundle
    queries = make_encoder("auto", trained).encode(workload.serve.slice(0, QUERIES))
    return VectorSet(trained.item_vectors, queries, f"trained {workload.source}", trained.scan, ann_file_of(trained))
