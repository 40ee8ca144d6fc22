"""Vectors of items from their attributes, fitted to a trained model. Axes: N items, d dimensions, n chosen items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtaw_fast.items.columns import NO_TIME
from mtaw_fast.items.content_vectors import fit_content_vectors
from mtaw_fast.items.unclicked_order import NO_CATEGORY, UnclickedOrder, fit_unclicked_order
from mtaw_fast.model.item_vectors import mean_norm
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.item_content import content_arrays, content_columns

_REACH = 10  # clicks next to a click that say something of it, as in the session memory


def with_content(model: Model, seed: int = 0) -> Model:
    """Return the model with content vectors; its items without clicks get theirs.

    The same model without an item table, or if too few items have clicks and attributes.
    """
    if model.items is None:
        return model
    evidence = None if model.memory is None else _Evidence(model, seed)
    text_model = model.config.model.text_model
    content = fit_content_vectors(
        model.items, model.item_vectors, model.popularity, seed=seed, evidence=evidence, text_model=text_model
    )
    if content is None:
        return model
    content = replace(content, order=_unclicked_order(model, seed))
    unclicked = np.flatnonzero(model.popularity == 0)
    vectors = content.vectors(model.items, unclicked)
    has_vector = vectors.any(axis=1)
    if not has_vector.any():
        return replace(model, content=content)
    embedding = np.array(model.weights["item_embedding"])
    embedding[unclicked[has_vector]] = vectors[has_vector] * np.float32(mean_norm(embedding))
    return replace(model.with_weights({**model.weights, "item_embedding": embedding}), content=content)


def _unclicked_order(model: Model, seed: int) -> UnclickedOrder | None:
    """Fit how unclicked items are ordered; None without times of items and clicks."""
    side, times = content_columns(model.items), model.clicked_at
    codes, created = content_arrays(side, model.items)
    if side.created is None or created is None or times is None:
        return None
    rows = len(created)
    columns = [np.concatenate([column, np.full(max(0, model.n_items - rows), NO_CATEGORY)]) for column in codes]
    padded = np.concatenate([created, np.full(max(0, model.n_items - rows), NO_TIME)])
    sessions = model.sessions
    return fit_unclicked_order(
        dict(zip(side.categories, columns, strict=True)), side.created, padded, sessions.items, sessions.offsets, times,
        NO_TIME, seed,
    )  # fmt: skip


class _Evidence:
    """What some clicks on an item say of its vector: the vectors of the items next to them, by 1 / distance."""

    def __init__(self, model: Model, seed: int) -> None:
        sessions = model.sessions
        self._items, self._vectors, self._seed = np.asarray(sessions.items), model.item_vectors, seed
        self._session = np.repeat(np.arange(len(sessions)), sessions.lengths)
        self._order = np.argsort(self._items, kind="stable")
        self._begins = np.searchsorted(self._items[self._order], np.arange(model.n_items + 1))

    def __call__(self, items: np.ndarray, k: int) -> np.ndarray:
        """Return float64[n, d] of k clicks on each item, drawn at random."""
        rng = np.random.default_rng([self._seed, k])
        sums = np.zeros((len(items), self._vectors.shape[1]))
        for row, item in enumerate(items.tolist()):
            clicks = self._order[self._begins[item] : self._begins[item + 1]]
            for click in rng.choice(clicks, min(k, len(clicks)), replace=False).tolist():
                near = np.arange(max(0, click - _REACH), min(len(self._items), click + _REACH + 1))
                near = near[(self._session[near] == self._session[click]) & (self._items[near] != item)]
                sums[row] += (1 / np.abs(near - click)) @ self._vectors[self._items[near]]
        return sums
