"""The bench's approximate index: the bundle's, or one built as `mtaw-fast export` does and kept in a cache folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.harness import machine
from bench.harness.comparison import limit_threads
from bench.retrieval.vectors import VectorSet
from mtaw_fast.errors import UsageError
from mtaw_fast.export.faiss_build import write_index
from mtaw_fast.export.recall_search import HeldOut, K
from mtaw_fast.export.trial import LONG, Missed, Trial
from mtaw_fast.ranking.retrieval import AnnFile, Index
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex, load_ann
from mtaw_fast.ranking.retrieval.ann_plan import read_entry
from mtaw_fast.storage.files import write_json

_ITEMS = 2000


def ann_index_for(
    vectors: VectorSet, exact: Index, kind: str, target: float, cache: Path, say: Callable[[str], None]
) -> AnnIndex:
    """Return the approximate index over a set of vectors; its plan for sessions comes from `vectors.choosing`.

    Raises UsageError if the kind does not reach the target.
    """
    file = vectors.ann or _built(vectors, exact, kind, target, cache / vectors.key, say)
    plans, recall = read_entry(str(file.path), file.entry)
    return load_ann(file.path, vectors.catalog, plans, exact, recall)


def _built(
    vectors: VectorSet, exact: Index, kind: str, target: float, folder: Path, say: Callable[[str], None]
) -> AnnFile:
    path = folder / f"ladder-{kind}-{target:g}.faiss"
    about = path.with_suffix(".json")
    if about.exists():
        entry = json.loads(about.read_text())
        if "search_items" in entry:  # else an earlier version built it, with one plan for both
            return AnnFile(path, entry)
    folder.mkdir(parents=True, exist_ok=True)
    items = vectors.catalog[np.random.default_rng(0).permutation(len(vectors.catalog))[:_ITEMS]]
    with limit_threads(machine.usable_cores()):
        tune, check = (
            (HeldOut.of(vectors.choosing[half::2], exact, (K, LONG)), HeldOut.of(items[half::2], exact, (K, LONG)))
            for half in (0, 1)
        )
        trial = Trial(vectors.catalog, exact, tune, check, f"queries of {vectors.source}", target, 0, say)
        fitted = trial.fit(kind)
    if isinstance(fitted, Missed):
        raise UsageError(
            f"no approximate index reaches recall@{K} {target:g}: {fitted}; try the other --kind, or --recall"
        )
    write_index(path, fitted.index)
    write_json(about, fitted.entry)
    return AnnFile(path, fitted.entry)
