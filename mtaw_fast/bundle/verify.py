"""What no hash of a file tells: numbers that are not finite, ids that are none, parts that belong to another model."""

from __future__ import annotations

import numpy as np

from mtaw_fast.errors import BundleError, DataError
from mtaw_fast.kernels.native.scan import quantise
from mtaw_fast.model.checks import check_finite
from mtaw_fast.model.item_vectors import normalised
from mtaw_fast.model.model import Model

_REMEDY = "restore the bundle or train it again"
_TOLERANCE = 1e-6  # a vector's length is a sum, whose order differs between machines
_ROWS = 1 << 16


def verify_model(where: str, model: Model) -> None:
    """Raise BundleError, naming `where`, unless a model that fits by its shapes also fits by what it holds."""
    check_finite(where, {**model.weights, "catalog": model.item_vectors})
    if model.ranker is not None:
        check_finite(f"{where}: the ranker", model.ranker.arrays())
    try:
        model.ids.check()
    except DataError as error:
        raise BundleError(f"{where}: {error}") from None
    embeddings = model.weights["item_embedding"]
    for begin in range(0, len(embeddings), _ROWS):
        rows = slice(begin, begin + _ROWS)
        if np.abs(normalised(embeddings[rows]) - model.item_vectors[rows]).max(initial=0) > _TOLERANCE:
            raise BundleError(f"{where}: its 'catalog' is of another model than its 'weights'; {_REMEDY}")
    if model.scan is not None:
        made = quantise(model.item_vectors)
        if any(not np.array_equal(made[name], model.scan[name]) for name in model.scan if name in made):
            raise BundleError(f"{where}: its 'scan' is of another catalog than its 'catalog'; {_REMEDY}")
