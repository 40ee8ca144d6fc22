"""The small form of a bundle, for downloads: what can be derived from the rest is left out, and is made at load.

It differs from the whole form in these ways, and so in its `format_version`:

    weights   `item_embedding` is float16
    catalog   left out: the rows of `item_embedding` at length 1
    scan      left out: codes of these rows
    times, types   left out: serving does not read them

Everything derived is the same, bit for bit, in every process and in libmtaw.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.errors import BundleError
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.model.model import Model

_EMBEDDING = "item_embedding"
_LARGEST = float(np.finfo(np.float16).max)


def compact_weights(model: Model) -> dict[str, np.ndarray]:
    """Return the model's weights as a compact bundle has them.

    Raises BundleError if a value of an item's embedding is too large for a half float.
    """
    embeddings = model.weights[_EMBEDDING]
    if embeddings.size and np.abs(embeddings).max() > _LARGEST:
        raise BundleError(f"an item's embedding has a value beyond {_LARGEST:.0f}, the largest half float")
    return {**model.weights, _EMBEDDING: embeddings.astype(np.float16)}


def with_derived(
    weights: Mapping[str, np.ndarray], catalog: Mapping[str, np.ndarray] | None
) -> tuple[Mapping[str, np.ndarray], np.ndarray | None]:
    """Return a bundle's weights in float32 and its item vectors, made where the bundle lacks them."""
    embedding = weights.get(_EMBEDDING)
    if embedding is not None and embedding.dtype == np.float16:
        embedding = embedding.astype(np.float32)
        embedding.setflags(write=False)
        weights = {**weights, _EMBEDDING: embedding}
    if catalog is not None or embedding is None or embedding.ndim != 2:
        return weights, None if catalog is None else catalog.get("catalog")
    rows = normalized(embedding)
    rows.setflags(write=False)
    return weights, rows
