"""What must hold of a model's parts, wherever they come from: a training, a caller or a file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.errors import BundleError, shown
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.parameters import parameter_shapes, recent_of


def check_array(where: str, name: str, array: np.ndarray | None, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """`array` itself. Raises BundleError unless it is there with this dtype and shape."""
    wanted = f"{np.dtype(dtype)}{list(shape)}"
    if array is None:
        raise BundleError(f"{where}: the array '{name}' ({wanted}) is missing; train the bundle anew")
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(
            f"{where}: '{name}' must be {wanted}, not {array.dtype}{list(array.shape)}; train the bundle anew"
        )
    return array


def check_weights(where: str, weights: Mapping[str, np.ndarray], config: Config, n_items: int) -> None:
    """Raise BundleError unless `weights` are exactly the model's arrays, by name, dtype and shape."""
    shapes = parameter_shapes(config, n_items)
    foreign = sorted(set(weights) - set(shapes))
    if foreign:
        raise BundleError(f"{where}: {shown(foreign[0])} is no array of this model; train the bundle anew")
    for name, shape in shapes.items():
        check_array(where, name, weights.get(name), np.float32, shape)
    try:
        recent_of(weights)
    except ValueError as error:
        raise BundleError(f"{where}: {error}; train the bundle anew") from None


def check_finite(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise BundleError where a float array holds a NaN or an infinity."""
    for name, array in arrays.items():
        # The extremes carry every NaN and infinity, without a mask of the array's size.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise BundleError(f"{where}: '{name}' holds a value that is not finite; train the bundle anew")


def check_memory(where: str, memory: MemoryTables | None, ranker_net: RankerNet | None, n_items: int) -> None:
    """Raise BundleError unless the tables and the ranker of a session memory are both there, of N items, or neither."""
    if (memory is None) != (ranker_net is None):
        there, missing = ("ranker", "memory") if memory is None else ("memory", "ranker")
        raise BundleError(f"{where}: a '{there}' without its '{missing}' can rank nothing; train the bundle anew")
    if memory is not None and memory.n_items != n_items:
        raise BundleError(f"{where}: its memory is of {memory.n_items} items, not {n_items}; train the bundle anew")
