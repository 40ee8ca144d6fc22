"""Vectors of items from their attributes, for items without clicks.

A ridge regression from the attributes to the vectors that the training gave the clicked items. Axes: n items, N items
of the catalog, F features, d dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.items.columns import CategoriesColumn, CategoryColumn, TextColumn, VectorColumn
from mtaw_fast.items.content_features import ContentFeatures
from mtaw_fast.items.table import ItemTable
from mtaw_fast.items.text_embedding import TextEmbedding, text_embedding
from mtaw_fast.items.unclicked_order import UnclickedOrder

MIN_CLICKS = 5  # of an item whose vector is an example
MIN_EXAMPLES = 50
_RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_HELD_OUT = 0.2  # of the examples
_PRIORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_FEW_CLICKS = (1, 2, 4, 8)
_MAX_CLICKS = 50  # an item with more clicks counts as much as one with these
_ABOUT, _LAYOUT = "about", 1

Evidence = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class ContentVectors:
    """A linear model from attributes to item vectors.

    features: its inputs. weights: float32[F + 1, d], of the features, and the constant in the last row. prior_clicks:
    the weight of such a vector against clicks next to other items, in clicks. text_model: folder of the static
    embedding of texts; empty: words are hashed. held_out: what the fit measured on items held out whole: see
    `fit_content_vectors`. order: how unclicked items are ordered among each other, if they have a time.
    """

    features: ContentFeatures
    weights: np.ndarray
    prior_clicks: float
    held_out: Mapping[str, Any]
    text_model: str = ""
    order: UnclickedOrder | None = None

    @property
    def embed(self) -> TextEmbedding | None:
        """The embedding of texts; None if words are hashed. Loads it at the first use; see `text_embedding`."""
        return text_embedding(self.text_model) if self.text_model and self.features.has_text else None

    @property
    def d(self) -> int:
        """The length of its vectors."""
        return self.weights.shape[1]

    def vectors(self, table: ItemTable, rows: np.ndarray) -> np.ndarray:
        """Return float32[n, d]: vectors of length 1 of rows int[n]; zero for items without a known attribute."""
        inputs = self.features.of_rows(table, rows, self.embed)
        vectors = inputs @ self.weights[:-1] + self.weights[-1]
        vectors[~inputs.any(axis=1)] = 0
        return _normalized(vectors)

    def describes(self, table: ItemTable, rows: np.ndarray) -> np.ndarray:
        """Return bool[n]: which rows int[n] have a known category, a text or a vector: numbers name no near items."""
        described = np.zeros(len(rows), dtype=bool)
        for about in self.features.columns:
            column = table.columns.get(about["name"])
            if column is None or column.kind != about["kind"]:
                continue
            if about["kind"] in (CategoryColumn.kind, CategoriesColumn.kind):
                described |= ContentFeatures((about,)).of_rows(table, rows).any(axis=1)
            elif about["kind"] in (TextColumn.kind, VectorColumn.kind):
                described |= ~column.missing[rows]
        return described

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as named arrays, for a safetensors file."""
        about = {
            "layout": _LAYOUT,
            "columns": list(self.features.columns),
            "prior_clicks": self.prior_clicks,
            "held_out": dict(self.held_out),
            "text_model": self.text_model,
            "order": None if self.order is None else self.order.as_dict(),
        }
        return {_ABOUT: np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), "weights": self.weights}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> ContentVectors:
        """Return what `arrays` stored; the core has checked it."""
        about = json.loads(arrays[_ABOUT].tobytes())
        order = None if about.get("order") is None else UnclickedOrder.of_dict(about["order"])
        features, text_model = ContentFeatures(tuple(about["columns"])), about.get("text_model", "")
        return cls(features, arrays["weights"], float(about["prior_clicks"]), about["held_out"], text_model, order)


def fit_content_vectors(
    table: ItemTable,
    vectors: np.ndarray,
    clicks: np.ndarray,
    *,
    seed: int = 0,
    evidence: Evidence | None = None,
    text_model: str = "",
) -> ContentVectors | None:
    """Fit vectors to attributes; the strength of the ridge is chosen on items held out whole.

    table: of the catalog. vectors: float32[N, d], the trained vectors, of length 1. clicks: int64[N], clicks of each
    item in the training. seed: for the items that are held out. evidence: evidence(items int[n], k) returns float64[n,
    d], what k clicks on each item say of its vector; `prior_clicks` is chosen with it on the items that were held out.
    1 without it. text_model: folder of a static embedding of texts (`text_embedding`); by default words are hashed.

    Returns None if there are fewer than `MIN_EXAMPLES` items with clicks and attributes.
    `held_out` has the number of `items`, the mean `cosine` of their vectors with the trained ones, that of the
    `mean_vector`, and the `ridge`.
    """
    rows = np.flatnonzero(clicks[: table.n_rows] >= MIN_CLICKS)
    embed = text_embedding(text_model) if text_model else None
    features = ContentFeatures.of(table, rows) if embed is None else ContentFeatures.of(table, rows, embed.d)
    inputs = features.of_rows(table, rows, embed)
    examples = inputs.any(axis=1)
    rows, inputs = rows[examples], inputs[examples]
    if len(rows) < MIN_EXAMPLES:
        return None
    goals = vectors[rows].astype(np.float64)
    masses = np.minimum(clicks[rows], _MAX_CLICKS) / _MAX_CLICKS
    held = np.zeros(len(rows), dtype=bool)
    held[np.random.default_rng(seed).permutation(len(rows))[: max(1, int(_HELD_OUT * len(rows)))]] = True
    fitted = {ridge: _solved(inputs[~held], goals[~held], masses[~held], ridge) for ridge in _RIDGES}
    cosines = {ridge: _cosine(inputs[held], goals[held], weights) for ridge, weights in fitted.items()}
    ridge = max(cosines, key=lambda candidate: cosines[candidate])
    mean_only = np.zeros_like(fitted[ridge])
    mean_only[-1] = goals[~held].mean(axis=0)
    held_out = {
        "items": int(held.sum()),
        "cosine": round(cosines[ridge], 4),
        "mean_vector": round(_cosine(inputs[held], goals[held], mean_only), 4),
        "ridge": ridge,
    }
    prior = 1.0
    if evidence is not None:
        guesses = _predicted(inputs[held], fitted[ridge])
        prior = _prior_clicks(guesses, goals[held], [evidence(rows[held], k) for k in _FEW_CLICKS])
    weights = _solved(inputs, goals, masses, ridge).astype(np.float32)
    return ContentVectors(features, weights, prior, held_out, text_model)


def _solved(inputs: np.ndarray, goals: np.ndarray, masses: np.ndarray, ridge: float) -> np.ndarray:
    """Return float64[F + 1, d]: the weighted ridge regression, whose constant is not shrunk."""
    wide = np.concatenate([inputs.astype(np.float64), np.ones((len(inputs), 1))], axis=1)
    weighted = wide * masses[:, None]
    square = wide.T @ weighted
    penalty = np.full(len(square), ridge)
    penalty[-1] = 1e-9 * len(inputs)
    square[np.diag_indices_from(square)] += penalty
    solved: np.ndarray = np.linalg.solve(square, weighted.T @ goals)
    return solved


def _predicted(inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _normalized(inputs @ weights[:-1] + weights[-1])


def _cosine(inputs: np.ndarray, goals: np.ndarray, weights: np.ndarray) -> float:
    return float((_predicted(inputs, weights) * goals).sum(axis=1).mean())


def _prior_clicks(guesses: np.ndarray, goals: np.ndarray, evidence: Sequence[np.ndarray]) -> float:
    """Return the weight of the guesses with which they and a few clicks come closest to the goals."""

    def cosine(prior: float) -> float:
        return sum(float((_normalized(vectors + prior * guesses) * goals).sum()) for vectors in evidence)

    return max(_PRIORS, key=cosine)


def _normalized(vectors: np.ndarray) -> np.ndarray:
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
