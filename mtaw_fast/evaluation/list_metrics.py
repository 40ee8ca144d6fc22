"""Metrics of ranked lists besides P@K and MRR@K: numbers in, numbers out. `docs/evaluation.md` has the parity table.

Axes: S samples or B rows of a batch, K listed items, N items, d, A attributes. A list is a row of item ids, best first,
negative entries are padding. Sums are in float64.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Samples


def ndcg_gains(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return NDCG@K of each sample in percent: float64[S].

    With one target, DCG = 1 / log2(rank + 1) and the ideal DCG is 1, so NDCG@K = 100 / log2(rank + 1) where
    1 <= rank <= K, else 0. Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.

    ranks: int[S], 0 for a miss.
    """
    hits = (ranks > 0) & (ranks <= k)
    return np.where(hits, 100.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)


class RestOfSessions:
    """The distinct targets that are still to come in each sample's session, with the sample's own target.

    They are the targets of the session's samples with the same or a longer prefix. Prefixes without the clicks that a
    bundle does not know may be equally long: then the order of the samples decides, which rises or falls in length.
    """

    def __init__(self, samples: Samples) -> None:
        lengths, number = samples.prefixes.lengths, np.arange(len(samples))
        falls = np.diff(lengths)[samples.session[1:] == samples.session[:-1]].sum() < 0
        order = np.lexsort((-number if falls else number, lengths, samples.session))
        session = samples.session[order].astype(np.int64)
        self._position = np.empty(len(order), dtype=np.int64)  # of a sample among all, sessions one after the other
        self._position[order] = np.arange(len(order))
        self._session = samples.session.astype(np.int64)
        items = samples.targets[order].astype(np.int64)
        self._n_items = int(items.max(initial=0)) + 1
        keys = session * self._n_items + items
        by_key = np.argsort(keys, kind="stable")
        is_last = np.append(keys[by_key][1:] != keys[by_key][:-1], True) if len(keys) else np.empty(0, dtype=bool)
        self._keys, self._last = keys[by_key][is_last], by_key[is_last]
        counts = np.zeros(len(order), dtype=np.int64)
        counts[self._last] = 1
        # From the last sample back; the total before a session's end is subtracted.
        totals = np.cumsum(counts[::-1])[::-1]
        ends = np.searchsorted(session, session, side="right")
        later_totals = np.append(totals, 0)[ends]
        self.counts = (totals - later_totals)[self._position]  # int64[S], at least 1

    def recall(self, lists: np.ndarray, begin: int, ks: tuple[int, ...]) -> np.ndarray:
        """Return recall@K of samples begin .. begin + B - 1 in percent: float64[B, len(ks)].

        recall@K = |first K listed items that are among the distinct targets to come| / |those targets|. With one target
        left it is P@K. Ludewig and Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018.

        lists: int[B, K].
        """
        rows = slice(begin, begin + len(lists))
        known = (lists >= 0) & (lists < self._n_items)
        keys = self._session[rows, None] * self._n_items + lists
        indices = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        hits = known & (self._keys[indices] == keys) & (self._last[indices] >= self._position[rows, None])
        counted = np.cumsum(hits, axis=1)
        width = lists.shape[1]
        return np.stack([100.0 * counted[:, min(k, width) - 1] / self.counts[rows] for k in ks], axis=1)


def coverage(exposures: np.ndarray) -> float:
    """Return the catalog coverage in percent: 100 * |items shown at least once| / N; NaN without an item.

    Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy: evaluating recommender systems by coverage and serendipity",
    RecSys 2010.

    exposures: int[N], how often each item of the catalog was listed.
    """
    return 100.0 * np.count_nonzero(exposures) / len(exposures) if len(exposures) else float("nan")


def gini(exposures: np.ndarray) -> float:
    """Return the Gini index of exposure: 0 if all items are shown equally often, near 1 if few get all; NaN if none is.

    With x_1 <= .. <= x_N: G = sum_i (2 i - N - 1) x_i / (N sum_i x_i), over the whole catalog, items that are never
    shown included. Gini 1912, as in Castells, Hurley and Vargas, "Novelty and diversity in recommender systems",
    Recommender Systems Handbook, 2022.

    exposures: int[N].
    """
    total = float(exposures.sum(dtype=np.float64))
    if total == 0:
        return float("nan")
    ordered = np.sort(exposures).astype(np.float64)
    count = len(ordered)
    weights = 2.0 * np.arange(1, count + 1) - count - 1
    return float(weights @ ordered / (count * total))


def novelty(lists: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Return the mean self-information of each list in bits: float64[B]; 0 for an empty list.

    Item i has -log2(sessions with i / all sessions) bits (`information_of`): the less popular, the more.
    Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010; the mean inverse
    user frequency of RecTools.

    lists: int[B, K]; information: float[N].
    """
    is_item = lists >= 0
    bits = np.where(is_item, information[np.where(is_item, lists, 0)], 0.0)
    return bits.sum(axis=1, dtype=np.float64) / np.maximum(is_item.sum(axis=1), 1)


def information_of(sessions_with: np.ndarray, sessions: int) -> np.ndarray:
    """Return -log2(sessions_with / sessions): float64[N]. An item of no session counts as one of one session."""
    return -np.log2(np.maximum(sessions_with, 1) / max(sessions, 1))


def diversity_by_vectors(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the intra-list diversity by vectors: float64[B], the mean of 1 - cosine over all pairs of a list.

    ILD = sum_{i != j} (1 - u_i . u_j) / (n (n - 1)) for the n items of a list, which is
    1 - (|sum_i u_i|^2 - sum_i |u_i|^2) / (n (n - 1)). 0 for a list of one item or none. Ziegler et al.,
    "Improving recommendation lists through topic diversification", WWW 2005.

    lists: int[B, K]; vectors: float32[N, d] of length 1 (or 0).
    """
    is_item = lists >= 0
    list_vectors = vectors[np.where(is_item, lists, 0)]  # [B, K, d]
    if not is_item.all():
        list_vectors = list_vectors * is_item[:, :, None]
    total = list_vectors.sum(axis=1)
    square_of_sum = np.einsum("bd,bd->b", total, total, dtype=np.float64)
    sum_of_squares = np.einsum("bkd,bkd->b", list_vectors, list_vectors, optimize=False).astype(np.float64)
    counts, pairs = _pairs(is_item)
    return np.where(counts > 1, 1.0 - (square_of_sum - sum_of_squares) / pairs, 0.0)


def diversity_by_attributes(lists: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the intra-list diversity by attributes: float64[B], the mean share of attributes that differ in a pair.

    ILD = sum_{i != j} (1/A) sum_a [code_a(i) != code_a(j)] / (n (n - 1)) for the n items of a list: RecTools'
    IntraListDiversity with the Hamming distance, divided by A. Two missing values are equal. 0 for a list
    of one item or none.

    lists: int[B, K]; codes: int32[A, N], A >= 1.
    """
    is_item = lists >= 0
    items = np.where(is_item, lists, 0)
    differing = np.zeros(len(lists))
    for column in codes:
        values = np.where(is_item, column[items].astype(np.int64), np.iinfo(np.int64).min)
        values.sort(axis=1)
        # A run of r equal values has r^2 ordered pairs that agree, itself included: count them by their run's length.
        ranks = np.ones(values.shape, dtype=np.int64)
        for position in range(1, values.shape[1]):
            ranks[:, position] += np.where(values[:, position] == values[:, position - 1], ranks[:, position - 1], 0)
        counted = values > np.iinfo(np.int64).min
        counts = counted.sum(axis=1)
        # sum over a run of (2 rank - 1) is r^2.
        agreeing = ((2 * ranks - 1) * counted).sum(axis=1)
        differing += counts * counts - agreeing
    return differing / (len(codes) * _pairs(is_item)[1])


def _pairs(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of each list and its ordered pairs, at least 1: int64[B] both."""
    counts = shown.sum(axis=1)
    return counts, np.maximum(counts * (counts - 1), 1)
