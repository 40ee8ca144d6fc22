"""The small form of a bundle, for downloads: what can be derived from the rest is left out, and is made at load.

It differs from the whole form in these ways, and so in its `format_version`:

    weights   `item_embedding` is float16
    catalog   left out: the rows of `item_embedding` at length 1
    scan      left out: codes of these rows
    times, types   left out: serving does not read them

Everything derived is the same, bit for bit, in every process and in libmtaw (`kernels/native/bundle/compact.cpp`).
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.errors import BundleError
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
