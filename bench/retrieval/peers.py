"""Approximate indexes of other libraries, built once and kept in a cache folder, searched one query on one thread."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import machine
from bench.harness.comparison import limit_threads
from mtaw_fast.errors import MissingPackageError, require

Search = Callable[[np.ndarray], np.ndarray]

LINKS = 32  # neighbors of a node in each graph
CONSTRUCTION = 80  # nodes held while one is inserted, the same in each graph
DEGREE = 64  # of Vamana, which has one level: that of HNSW's lowest
_WIDTHS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_PROBES = (8, 16, 32, 64, 96, 128, 192, 256, 384)
_REFINED = 10.0  # results of the codes scored in float32, in multiples of k


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """An index to trace a curve of. search(effort, k): a function from float32[1, d] to ids [k]."""

    name: str
    efforts: Sequence[int]
    search: Callable[[int, int], Search]


def peers(catalog: np.ndarray, cache: Path) -> Iterator[Peer]:
    """Yield every peer whose package is installed, built over catalog float32[N, d] or read from `cache`.

    One that is missing is named on stderr, with the remedy.
    """
    for make in (faiss_hnsw, faiss_ivfpq, hnswlib_hnsw, usearch_hnsw, svs_vamana):
        try:
            yield make(catalog, cache)
        except MissingPackageError as error:
            print(f"left out of the curve: {make.__name__.replace('_', ' ')}: {error}", file=sys.stderr)


def faiss_hnsw(catalog: np.ndarray, cache: Path) -> Peer:
    """Return IndexHNSWFlat."""
    faiss = require("faiss", "bench")

    def build(path: Path) -> None:
        index = faiss.IndexHNSWFlat(catalog.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = CONSTRUCTION
        index.add(catalog)
        faiss.write_index(index, str(path))

    index = faiss.read_index(str(_cached(cache / f"faiss-hnsw-{LINKS}-{CONSTRUCTION}", build)))

    def search(effort: int, k: int) -> Search:
        parameters = faiss.SearchParametersHNSW(efSearch=effort)
        return lambda query: index.search(query, k, params=parameters)[1][0]

    return Peer("faiss HNSW", _WIDTHS, search)


def faiss_ivfpq(catalog: np.ndarray, cache: Path) -> Peer:
    """Return IVF with 4-bit fast-scan codes of one dimension, and FAISS's own float32 refinement."""
    faiss = require("faiss", "bench")
    n_items, d = catalog.shape
    n_lists = 1 << round(np.log2(4 * np.sqrt(n_items)))

    def build(path: Path) -> None:
        index = faiss.index_factory(d, f"IVF{n_lists},PQ{d}x4fs", faiss.METRIC_INNER_PRODUCT)
        index.train(catalog[np.random.default_rng(0).permutation(n_items)[: 64 * n_lists]])
        index.add(catalog)
        faiss.write_index(index, str(path))

    codes = faiss.read_index(str(_cached(cache / f"faiss-ivf-{n_lists}-pq-{d}x4fs", build)))
    vectors = faiss.IndexFlatIP(d)
    vectors.add(catalog)
    index = faiss.IndexRefine(codes, vectors)

    def search(effort: int, k: int) -> Search:
        inner = faiss.SearchParametersIVF(nprobe=effort)
        parameters = faiss.IndexRefineSearchParameters(k_factor=_REFINED, base_index_params=inner)
        return lambda query: index.search(query, k, params=parameters)[1][0]

    return Peer("faiss IVF-PQfs + refine", _PROBES, search)


def hnswlib_hnsw(catalog: np.ndarray, cache: Path) -> Peer:
    """Return hnswlib's index."""
    hnswlib = require("hnswlib", "bench")
    d = catalog.shape[1]

    def build(path: Path) -> None:
        index = hnswlib.Index("ip", d)
        index.init_index(len(catalog), ef_construction=CONSTRUCTION, M=LINKS, random_seed=0)
        index.add_items(catalog)
        index.save_index(str(path))

    index = hnswlib.Index("ip", d)
    index.load_index(str(_cached(cache / f"hnswlib-{LINKS}-{CONSTRUCTION}", build)))
    index.set_num_threads(1)

    def search(effort: int, k: int) -> Search:
        def run(query: np.ndarray) -> np.ndarray:
            index.set_ef(effort)
            return index.knn_query(query, k)[0][0]

        return run

    return Peer("hnswlib", _WIDTHS, search)


def usearch_hnsw(catalog: np.ndarray, cache: Path) -> Peer:
    """Return usearch's index, in float32."""
    library = require("usearch.index", "bench")

    def new() -> Any:
        return library.Index(
            ndim=catalog.shape[1], metric="ip", dtype="f32", connectivity=LINKS, expansion_add=CONSTRUCTION
        )

    def build(path: Path) -> None:
        index = new()
        index.add(np.arange(len(catalog)), catalog)
        index.save(str(path))

    index = new()
    index.load(str(_cached(cache / f"usearch-{LINKS}-{CONSTRUCTION}", build)))

    def search(effort: int, k: int) -> Search:
        def run(query: np.ndarray) -> np.ndarray:
            index.expansion_search = effort
            return index.search(query[0], k, threads=1).keys

        return run

    return Peer("usearch", _WIDTHS, search)


def svs_vamana(catalog: np.ndarray, cache: Path) -> Peer:
    """Return Intel's Scalable Vector Search, Vamana over float32 (its LVQ codes run on Intel's CPUs alone)."""
    svs = require("svs", "bench")
    parts = ("config", "graph", "data")

    def build(path: Path) -> None:
        parameters = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=DEGREE, window_size=CONSTRUCTION)
        # Its threads wait by spinning: on cores that others use too, two build several times slower than one.
        index = svs.Vamana.build(parameters, catalog, svs.DistanceType.MIP, num_threads=1)
        path.mkdir()
        index.save(*(str(path / part) for part in parts))

    path = _cached(cache / f"svs-vamana-{DEGREE}-{CONSTRUCTION}", build)
    config, graph, data = (str(path / part) for part in parts)
    loader = svs.VectorDataLoader(data, svs.DataType.float32)
    index = svs.Vamana(config, svs.GraphLoader(graph), loader, svs.DistanceType.MIP, num_threads=1)

    def search(effort: int, k: int) -> Search:
        def run(query: np.ndarray) -> np.ndarray:
            if index.search_window_size != effort:
                index.search_window_size = effort
            return index.search(query, k)[0][0]

        return run

    return Peer("scalable-vs Vamana", _WIDTHS, search)


def _cached(path: Path, build: Callable[[Path], None]) -> Path:
    """Return `path`, built first if it does not exist; an interrupted build starts over."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    print(f"building {path.name} ..", file=sys.stderr, flush=True)
    began = time.perf_counter()
    try:
        with _all_cores():
            build(draft)
        draft.rename(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)
    seconds = time.perf_counter() - began
    path.with_name(f"{path.name}.json").write_text(json.dumps({"seconds": round(seconds, 1)}) + "\n")
    return path


@contextmanager
def _all_cores() -> Iterator[None]:
    """Let building use every core; the bench limits searching to one."""
    with limit_threads(machine.usable_cores()):
        yield
