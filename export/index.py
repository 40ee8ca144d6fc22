"""Add an approximate index to a bundle: build it, choose its parameters, measure its recall, write it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import BundleError, UsageError, require
from mtaw_fast.ranking.encoders import make_encoder
from mtaw_fast.ranking.retrieval import EXACT_ITEMS, Index, make_index
from mtaw_fast.ranking.retrieval.ann_plan import KINDS

CHOICES = ("auto", *KINDS, "none")
MIN_ITEMS = 1000
MIN_QUERIES = 100  # session vectors; fewer cannot distinguish a recall of .99 from .98
_QUERIES = 2000  # session vectors for the choice, as many for the check, and half as many item vectors for each
_NEIGHBORS, _CLICKS = 50, 6  # of the sessions that are made from the catalog
_FAST_US = 1000.0  # 'auto' stops at an index this fast: HNSW takes minutes and 12 times the space

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of `export_index`. entry: the manifest's new entry `index`, or None. why: a description."""

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
    """Add an approximate index to the bundle in `folder`; it replaces an earlier one.

    kind: 'ivfpq', 'hnsw', 'auto' or 'none' (remove the index). 'auto' adds none up to EXACT_ITEMS items, where an exact
    search is as fast. Above that it is ivfpq, or the faster of the two if ivfpq misses the recall or takes over 1 ms a
    query. dataset: recall is measured on its validation sessions; without it on sessions made from the catalog. recall:
    the least recall@20, of session vectors and of item vectors (similar_items), each with its own plan. queries:
    session vectors for the choice, and as many for the check. say: called with lines of progress.

    Raises UsageError on an unknown kind, a recall outside 0..1 or a catalog below MIN_ITEMS; BundleError if no index
    reaches the recall, the bundle was changed meanwhile, or the disk is full (the bundle is unchanged then);
    MissingPackageError without FAISS.
    """
    folder = Path(folder)
    if kind not in CHOICES:
        raise UsageError(f"there is no index {kind!r} to export; choose one of {', '.join(CHOICES)}")
    if not 0 < recall <= 1:
        raise UsageError(f"recall must be over 0 and at most 1, not {recall:g}")
    if queries < MIN_QUERIES:
        raise UsageError(f"a recall needs at least {MIN_QUERIES} queries, not {queries}")
    bundle = Bundle.load(folder)
    if kind == "none":
        replace_parts(folder, bundle.manifest, {"index": None}, {"index": None})
        return Exported(None, "the bundle has no index now")
    if kind == "auto" and bundle.n_items <= EXACT_ITEMS:
        return Exported(
            None,
            f"{bundle.n_items:,} items need no index: up to {EXACT_ITEMS:,} an exact search is as fast "
            "(--index ivfpq or hnsw builds one anyway)",
        )
    if bundle.n_items < MIN_ITEMS:
        raise UsageError(f"{folder} has {bundle.n_items} items; an index is for {MIN_ITEMS:,} and more")
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
    from mtaw_fast.export.index_build import HeldOut, MissedError, fitted, write_index

    exact = make_index("native", bundle.item_vectors, bundle.scan)
    say("encoding held-out sessions and finding their true top items")
    if dataset is None:
        sessions, source = synthetic_vectors(bundle, exact, 2 * queries, seed)
    else:
        sessions, source = validation_vectors(bundle, dataset, 2 * queries, seed)
    items = bundle.item_vectors[np.random.default_rng(seed).permutation(bundle.n_items)[:queries]]
    tune, check = HeldOut.halves(sessions, items, exact)
    candidates, missed = [], []
    for kind in kinds:
        try:
            candidates.append(fitted(kind, bundle.item_vectors, exact, tune, check, source, target, seed, say))
        except MissedError as error:
            missed.append(str(error))
            continue
        if _median_us(candidates[-1]) <= _FAST_US:
            break
    if not candidates:
        raise BundleError(
            f"no index of {folder} reaches recall@20 {target:g}: {', '.join(missed)}; lower --recall, or serve it with "
            "an exact index, which needs no export"
        )
    index, entry = min(candidates, key=_median_us)
    say("writing the index into the bundle")
    addition = Addition("faiss", partial(write_index, index=index))
    replace_parts(folder, bundle.manifest, {"index": addition}, {"index": entry})
    return Exported(entry, _description(entry))


def _median_us(candidate: tuple[Any, dict[str, Any]]) -> float:
    return candidate[1]["build"]["median_us"]


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


def _description(entry: dict[str, Any]) -> str:
    """Describe both plans of an entry `index`, with their recalls and times."""
    build, recall = entry["build"], entry["recall"]
    sessions, items = (
        ", ".join(f"{name} {value}" for name, value in entry[plan].items()) for plan in ("search", "search_items")
    )
    return (
        f"{build['factory']}; sessions: {sessions}, recall@20 {recall['sessions']:.4f} on {recall['source']}, "
        f"{build['median_us']:.0f} us a query; similar_items: {items}, recall@20 {recall['items']:.4f}, "
        f"{build['items_median_us']:.0f} us a query"
    )
