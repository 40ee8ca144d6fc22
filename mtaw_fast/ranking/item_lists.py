"""Rankings without the encoder: the most clicked items, rising items, and items clicked together with one."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.ranked_lists import padded_to
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.memory.co_clicked import neighbors
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.options import Conditions

_RISING = 256  # length of the list of rising items


def most_popular(catalog: Catalog, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """Return the k most clicked items: ids int32[k] and click counts float32[k], padded with -1 / -inf."""
    order = _first_of(catalog.most_clicked, k, conditions)
    return padded_to(k, order, catalog.popularity[order].astype(np.float32))


def _first_of(order: np.ndarray, k: int, conditions: Conditions) -> np.ndarray:
    """Return the first k items of `order` int32[..] that the conditions allow, or fewer."""
    if conditions.allowed is not None:
        order = order[conditions.allowed.mask[order]]
    if conditions.excluded is not None:
        order = order[: k + len(conditions.excluded)]
        order = order[np.isin(order, conditions.excluded, invert=True)]
    return order[:k]


def rising(catalog: Catalog, trends: Trends, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """Return k items: those rising at the time of the request, then the most clicked ones of the bundle.

    The counts are those of the bundle, because the catalog's may be older than its trends. Returns ids int32[k] and
    scores float32[k], padded with -1 / -inf. Rising items have the scores of `Trends.rising`. Each of the others has a
    score 1 lower than the item before it, which only expresses their order.
    """
    items, scores = trends.rising(conditions.at or 0, _RISING)
    in_catalog = (items >= 0) & (items < catalog.size)
    items, scores = items[in_catalog], scores[in_catalog]
    added = np.arange(catalog.model.n_items, catalog.size, dtype=np.int32)
    others = np.concatenate([catalog.model.most_clicked, added])
    others = _first_of(others[~catalog.unavailable[others]], catalog.n_items, conditions)
    others = others[np.isin(others, items, invert=True)]
    is_kept = _is_shown(catalog, items, conditions)
    items, scores = items[is_kept][:k], scores[is_kept][:k]
    others = others[: k - len(items)]
    lowest = min(0.0, float(scores[-1])) if len(scores) else 0.0
    other_scores = lowest - 1 - np.arange(len(others), dtype=np.float32)
    return padded_to(k, np.concatenate([items, others]).astype(np.int32), np.concatenate([scores, other_scores]))


def _is_shown(catalog: Catalog, items: np.ndarray, conditions: Conditions) -> np.ndarray:
    """Return bool[n]: which items of int32[n] may be recommended."""
    is_shown = ~catalog.unavailable[items]
    if conditions.allowed is not None:
        is_shown &= conditions.allowed.mask[items]
    if conditions.excluded is not None:
        is_shown &= np.isin(items, conditions.excluded, invert=True)
    return is_shown


def clicked_together(catalog: Catalog, item: int, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """Return the k items clicked most often together with `item`, an internal id, and their cosines.

    The cosine is that of `memory.co_clicked`; the bundle must have a memory. Returns ids int32[k] and scores
    float32[k], padded with -1 / -inf.
    """
    memory = catalog.model.memory
    assert memory is not None
    others, cosines = neighbors(memory, item, catalog.delta)
    is_kept = _is_shown(catalog, others, conditions) & (cosines > 0)
    others, cosines = others[is_kept], cosines[is_kept]
    order = np.lexsort((others, -cosines))[:k]
    return padded_to(k, others[order], cosines[order])
