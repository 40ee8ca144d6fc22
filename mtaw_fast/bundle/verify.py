"""What no hash of a file tells: numbers that are not finite, ids that are none, parts that belong to another model."""

from __future__ import annotations

import numpy as np

from mtaw_fast.errors import BundleError, DataError
from mtaw_fast.kernels.native.scan import Scanner
from mtaw_fast.model.checks import check_finite
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.model.model import Model

_REMEDY = "restore the bundle or train it again"
_TOLERANCE = 1e-6  # a vector's length is a sum, whose order differs between machines
_ROWS = 4096  # of another model's part nearly every row differs, so that a few tell


def verify_model(where: str, model: Model) -> None:
    """Raise BundleError, naming `where`, unless a model that fits by its shapes also fits by what it holds."""
    check_finite(where, {**model.weights, "catalog": model.item_vectors})
    try:
        model.ids.check()
    except DataError as error:
        raise BundleError(f"{where}: {error}") from None
    rows = _spread(model.n_items, _ROWS)
    made = normalized(model.weights["item_embedding"][rows])
    if np.abs(made - model.item_vectors[rows]).max() > _TOLERANCE:
        raise BundleError(f"{where}: its 'catalog' is of another model than its 'weights'; {_REMEDY}")
    if model.scan is not None:
        try:
            Scanner(model.item_vectors, model.scan)  # looks at codes and rows itself
        except ValueError as error:
            raise BundleError(f"{where}: {error}") from None


def _spread(n_items: int, most: int) -> np.ndarray:
    """int64[..]: at most so many of the items, evenly over the catalog."""
    return np.unique(np.linspace(0, n_items - 1, min(n_items, most)).astype(np.int64))
