"""Adding an approximate index to a bundle: build it, find its parameters, prove its recall, put it in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import replace_part
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import BundleError, UsageError, require
from mtaw_fast.export.held_out import LEAST, synthetic_vectors, validation_vectors
from mtaw_fast.ranking.retrieval import EXACT_ITEMS, make_index
from mtaw_fast.ranking.retrieval.ann_plan import KINDS

CHOICES = ("auto", *KINDS, "none")
LEAST_ITEMS = 1000
_QUERIES = 2000  # session vectors to choose by, as many to check by, and half as many item vectors for each
_FAST_US = 1000.0  # 'auto' looks no further than an index this fast: HNSW takes minutes and 12 times the space

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What `export_index` did. entry: the manifest's new entry `index`, None where none was built. why: in words."""

    entry: dict[str, Any] | None
    why: str


def export_index(
    folder: str | os.PathLike[str],
    kind: str = "auto",
    *,
    dataset: Dataset | None = None,
    recall: float = 0.99,
    queries: int = _QUERIES,
    seed: int = 0,
    say: Say = lambda _: None,
) -> Exported:
    """Give the bundle in `folder` an approximate index, in the place of any earlier one.

    kind: 'ivfpq'; 'hnsw'; 'auto' (nothing up to EXACT_ITEMS items, where exact scans are as fast; above, ivfpq, or
    where that misses the recall or takes over 1 ms a query, the faster of it and hnsw); 'none' (take the index away).
    dataset: its validation sessions give the vectors that recall is measured on; without it sessions are made from
    the catalog. recall: the least recall@20, of session vectors by the plan chosen for them and of item vectors
    (similar_items) by theirs. queries: session vectors to choose by and as many to check by. say: told what is going
    on, a line at a time.

    Raises UsageError on an unknown kind, a recall outside 0..1 or a catalog under LEAST_ITEMS; BundleError where the
    recall cannot be met (the bundle is left as it was), the bundle changed meanwhile, or the disk is full;
    MissingPackageError without FAISS.
    """
    folder = Path(folder)
    if kind not in CHOICES:
        raise UsageError(f"there is no index {kind!r} to export; choose one of {', '.join(CHOICES)}")
    if not 0 < recall <= 1:
        raise UsageError(f"recall must be over 0 and at most 1, not {recall:g}")
    if queries < LEAST:
        raise UsageError(f"a recall needs at least {LEAST} queries, not {queries}")
    bundle = Bundle.load(folder)
    if kind == "none":
        replace_part(folder, "index", bundle.manifest, None)
        return Exported(None, "the bundle has no index now")
    if kind == "auto" and bundle.n_items <= EXACT_ITEMS:
        return Exported(
            None,
            f"{bundle.n_items:,} items need no index: up to {EXACT_ITEMS:,} an exact scan is as fast "
            "(--index ivfpq or hnsw builds one all the same)",
        )
    if bundle.n_items < LEAST_ITEMS:
        raise UsageError(f"{folder} has {bundle.n_items} items; an index is for {LEAST_ITEMS:,} and more")
    require("faiss", "cpu")
    return _export(folder, bundle, KINDS if kind == "auto" else (kind,), dataset, recall, queries, seed, say)


def _export(
    folder: Path,
    bundle: Bundle,
    kinds: tuple[str, ...],
    dataset: Dataset | None,
    target: float,
    queries: int,
    seed: int,
    say: Say,
) -> Exported:
    from mtaw_fast.export.faiss_build import write_index
    from mtaw_fast.export.recall_search import HeldOut, K
    from mtaw_fast.export.trial import LONG, Missed, Trial

    exact = make_index("native", bundle.item_vectors, bundle.scan)
    say("encoding held-out sessions and finding their true top items")
    if dataset is None:
        sessions, source = synthetic_vectors(bundle, exact, 2 * queries, seed)
    else:
        sessions, source = validation_vectors(bundle, dataset, 2 * queries, seed)
    items = bundle.item_vectors[np.random.default_rng(seed).permutation(bundle.n_items)[:queries]]
    tune, check = (
        (HeldOut.of(sessions[half::2], exact, (K, LONG)), HeldOut.of(items[half::2], exact, (K, LONG)))
        for half in (0, 1)
    )
    trial = Trial(bundle.item_vectors, exact, tune, check, source, target, seed, say)
    found, missed = [], []
    for kind in kinds:
        fitted = trial.fit(kind)
        if isinstance(fitted, Missed):
            missed.append(str(fitted))
            continue
        found.append(fitted)
        if fitted.entry["build"]["median_us"] <= _FAST_US:
            break
    if not found:
        raise BundleError(
            f"no index of {folder} reaches recall@20 {target:g}: {', '.join(missed)}; lower --recall, or serve it with "
            "the exact scan, which needs no index"
        )
    fastest = min(found, key=lambda fitted: fitted.entry["build"]["median_us"])
    say("writing the index into the bundle")
    replace_part(folder, "index", bundle.manifest, ("faiss", partial(write_index, index=fastest.index), fastest.entry))
    return Exported(fastest.entry, _in_words(fastest.entry))


def _in_words(entry: dict[str, Any]) -> str:
    """Both plans of an entry `index` that this module made, their recalls and times."""
    build, recall = entry["build"], entry["recall"]
    sessions, items = (
        ", ".join(f"{name} {value}" for name, value in entry[plan].items()) for plan in ("search", "search_items")
    )
    return (
        f"{build['factory']}; sessions: {sessions}, recall@20 {recall['sessions']:.4f} on {recall['source']}, "
        f"{build['median_us']:.0f} us a query; similar_items: {items}, recall@20 {recall['items']:.4f}, "
        f"{build['items_median_us']:.0f} us a query"
    )
