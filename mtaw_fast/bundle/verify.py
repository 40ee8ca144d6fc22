"""Checks beyond file hashes: values that are not finite, invalid ids, parts of another model."""

from __future__ import annotations

import numpy as np

from mtaw_fast.errors import BundleError, DataError
from mtaw_fast.kernels.native.scan import Scanner
from mtaw_fast.model.checks import check_finite
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.model.model import Model

_REMEDY = "restore the bundle or retrain it"
_TOLERANCE = 1e-6  # a vector's length is a sum, whose order differs between CPUs
_ROWS = 4096  # in a part of another model nearly every row differs, so a sample is enough


def verify_model(where: str, model: Model) -> None:
    """Raise BundleError, naming `where`, unless the values of a model, whose shapes fit, fit too."""
    check_finite(where, {**model.weights, "catalog": model.item_vectors})
    try:
        model.ids.check()
    except DataError as error:
        raise BundleError(f"{where}: {error}") from None
    rows = _spread(model.n_items, _ROWS)
    expected = normalized(model.weights["item_embedding"][rows])
    if np.abs(expected - model.item_vectors[rows]).max() > _TOLERANCE:
        raise BundleError(f"{where}: its 'catalog' is of another model than its 'weights'; {_REMEDY}")
    if model.scan is not None:
        try:
            Scanner(model.item_vectors, model.scan)  # checks codes and rows itself
        except ValueError as error:
            raise BundleError(f"{where}: {error}") from None


def _spread(n_items: int, count: int) -> np.ndarray:
    """Return int64[..]: at most `count` items, spread evenly over the catalog."""
    return np.unique(np.linspace(0, n_items - 1, min(n_items, count)).astype(np.int64))
