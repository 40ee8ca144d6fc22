"""Evaluation of anything that ranks: metrics over the whole catalog and by slice, with intervals over sessions.

Axes: S samples, B sessions of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation.item_facts import ItemFacts
from mtaw_fast.evaluation.measuring import ListObserver, Measured
from mtaw_fast.evaluation.metrics import KS, listed_rank
from mtaw_fast.evaluation.metrics_report import Report, report_of
from mtaw_fast.evaluation.slices import Slicing

if TYPE_CHECKING:
    from mtaw_fast.ranking.catalog import CatalogIds

Progress = Callable[[int, int], None]


class Evaluated(Protocol):
    """Anything that ranks the catalog for the next click of sessions."""

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `k` best items of every session: (ids int32[B, k], scores float32[B, k]), best first.

        ids are internal and distinct in a row; a row with fewer than k items is padded with id -1 and score -inf. A
        row must depend only on its own session.
        """
        ...


def ranks_of(
    ranker: Evaluated,
    samples: Samples,
    max_k: int = 20,
    chunk: int = 512,
    progress: Progress | None = None,
    observer: ListObserver | None = None,
) -> np.ndarray:
    """Return the pessimistic rank of every sample's target.

    The ranker returns max_k + 1 items: a target that ties with the item after the cut is a miss, and only that item
    shows the tie.

    samples: S prefixes and their next clicks. max_k: ranks above it are misses. chunk: samples ranked at a time.
    progress: called as progress(done, S) after every chunk.
    Returns int32[S], 1..max_k, or 0 for a miss.
    Raises UsageError if the ranker breaks its contract (shapes, an item twice in a row), or max_k or chunk is below 1.
    """
    if max_k < 1 or chunk < 1:
        raise UsageError(f"evaluation: max_k and chunk must be at least 1, not {max_k} and {chunk}")
    ranks = np.zeros(len(samples), dtype=np.int32)
    for begin in range(0, len(samples), chunk):
        end = min(begin + chunk, len(samples))
        ids, scores = ranker.rank(samples.prefixes.slice(begin, end), max_k + 1)
        _check_lists(ranker, ids, scores, (end - begin, max_k + 1))
        chunk_ranks = listed_rank(ids, scores, samples.targets[begin:end])
        ranks[begin:end] = np.where(chunk_ranks <= max_k, chunk_ranks, 0)
        if observer is not None:
            observer.add(begin, ids[:, :max_k])
        if progress is not None:
            progress(end, len(samples))
    return ranks


def _check_lists(ranker: Evaluated, ids: np.ndarray, scores: np.ndarray, shape: tuple[int, int]) -> None:
    name = type(ranker).__name__
    if ids.shape != shape or scores.shape != shape or ids.dtype.kind != "i":
        raise UsageError(
            f"ranker {name}: rank() must return integer ids and scores of shape {list(shape)}, "
            f"not {ids.dtype}{list(ids.shape)} and {list(scores.shape)}"
        )
    ordered = np.sort(ids, axis=1)
    twice = np.any((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0), axis=1)
    if twice.any():
        raise UsageError(f"ranker {name}: row {int(twice.argmax())} of a batch has an item twice; ids must differ")


def evaluate(
    ranker: Evaluated,
    samples: Samples,
    chunk: int = 512,
    progress: Progress | None = None,
    unseen: np.ndarray | None = None,
    type_names: Sequence[str] = (),
    weights: np.ndarray | None = None,
    facts: ItemFacts | None = None,
    slicings: Sequence[Slicing] = (),
    whole: Samples | None = None,
) -> Report:
    """Rank every sample over the whole catalog and report.

    ranker: a `Recommender`, a baseline, anything with `rank`.
    facts: of the items that the ranker lists, for `Report.more` and `Report.slices`.

    The other parameters, and the errors, are those of `ranks_of` and `report_of`.
    """
    if facts is None:
        ranks, measured = ranks_of(ranker, samples, max(KS), chunk, progress), None
    else:
        measured = measure(ranker, samples, facts, chunk, progress)
        ranks = measured.ranks
    return report_of(
        ranks, samples, unseen=unseen, type_names=type_names, weights=weights, measured=measured,
        slicings=slicings, whole=whole,
    )  # fmt: skip


def measure(
    ranker: Evaluated,
    samples: Samples,
    facts: ItemFacts,
    chunk: int = 512,
    progress: Progress | None = None,
    keep: bool = False,
) -> Measured:
    """Rank every sample and return the ranks and what the lists are like.

    The parameters are those of `evaluate`; keep: whether to keep the lists.
    """
    observer = ListObserver(samples, facts, keep)
    return observer.measured(ranks_of(ranker, samples, max(KS), chunk, progress, observer))


def translated(samples: Samples, source: ItemIds, target: ItemIds | CatalogIds) -> Samples:
    """Return samples of the catalog `source` in the internal ids of `target`.

    Unknown clicks are dropped; an unknown target is always a miss.
    """
    internal = target.lookup(source.external(np.arange(len(source), dtype=np.int64)))
    if np.array_equal(internal, np.arange(len(target))):
        return samples
    items = internal[samples.prefixes.items]
    prefixes = replace(samples.prefixes.of_clicks(np.flatnonzero(items >= 0)), items=items[items >= 0])
    # Outside the catalog, so that no list has it; each has its own number, since recall counts distinct targets.
    known = internal[samples.targets]
    targets = np.where(known >= 0, known, len(target) + samples.targets).astype(np.int32)
    return Samples(prefixes, targets, samples.session, samples.target_times, samples.target_types)
