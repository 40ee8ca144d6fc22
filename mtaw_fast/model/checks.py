"""Checks of a model's parts, whether they come from a training, a caller or a file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.errors import BundleError, shown
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.parameters import parameter_shapes, recent_of

RETRAIN = "retrain the bundle"


def check_array(where: str, name: str, array: np.ndarray | None, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """Return `array`. Raises BundleError unless it exists with this dtype and shape."""
    expected = f"{np.dtype(dtype)}{list(shape)}"
    if array is None:
        raise BundleError(f"{where}: the array '{name}' ({expected}) is missing; {RETRAIN}")
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(f"{where}: '{name}' must be {expected}, not {array.dtype}{list(array.shape)}; {RETRAIN}")
    return array


def check_weights(where: str, weights: Mapping[str, np.ndarray], config: Config, n_items: int) -> None:
    """Raise BundleError unless `weights` are exactly the model's arrays, by name, dtype and shape."""
    shapes = parameter_shapes(config, n_items)
    foreign = sorted(set(weights) - set(shapes))
    if foreign:
        raise BundleError(f"{where}: {shown(foreign[0])} is not an array of this model; {RETRAIN}")
    for name, shape in shapes.items():
        check_array(where, name, weights.get(name), np.float32, shape)
    try:
        recent_of(weights)
    except ValueError as error:
        raise BundleError(f"{where}: {error}; {RETRAIN}") from None


def check_finite(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise BundleError if a float array contains a NaN or an infinity."""
    for name, array in arrays.items():
        # Minimum and maximum show every NaN and infinity, without a mask of the array's size.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise BundleError(f"{where}: '{name}' has a value that is not finite; {RETRAIN}")


def check_memory(where: str, memory: MemoryTables | None, ranker_net: RankerNet | None, n_items: int) -> None:
    """Raise BundleError unless a session memory has both its tables, of N items, and its ranker, or neither."""
    if (memory is None) != (ranker_net is None):
        present, missing = ("ranker", "memory") if memory is None else ("memory", "ranker")
        raise BundleError(f"{where}: a '{present}' without its '{missing}' can rank nothing; {RETRAIN}")
    if memory is not None and memory.n_items != n_items:
        raise BundleError(f"{where}: its memory is of {memory.n_items} items, not {n_items}; {RETRAIN}")
