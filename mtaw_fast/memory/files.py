"""The file of the memory tables, which can be mapped: their arrays, and the settings as one more array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.storage.tensor_file import Tensors, map_tensors, write_joined

LAYOUT = 1
SETTINGS = "settings"  # the array of their numbers
_FIELDS = ("window", "span", "recency_share", "recency", "max_neighbors", "max_postings")
_COUNTS = ("window", "span", "max_neighbors", "max_postings")


def write_tables(path: Path, arrays: Mapping[str, np.ndarray], settings: MemorySettings) -> None:
    """Write the arrays and `settings` (with `recency` as a number) to `path` in safetensors format, atomically.

    The settings are float64[8]: the layout's number, the fields in the order of `_FIELDS`, and 1 + `once_from`, or 0.
    """
    write_joined_tables(path, {name: [array] for name, array in arrays.items()}, settings)


def write_joined_tables(path: Path, pieces: Mapping[str, Sequence[np.ndarray]], settings: MemorySettings) -> None:
    """Do what `write_tables` does with arrays in pieces, cut along their first axis."""
    numbers = [LAYOUT, *(getattr(settings, name) for name in _FIELDS)]
    numbers.append(0 if settings.once_from is None else 1 + settings.once_from)
    write_joined(path, {**pieces, SETTINGS: [np.array(numbers, dtype=np.float64)]})


def read_tables(path: Path | Tensors) -> tuple[dict[str, np.ndarray], MemorySettings]:
    """Read what `write_tables` wrote, read-only.

    The values of the arrays are not checked. Raises DataError if the file is missing, damaged or of another layout.
    """
    arrays, (*numbers, last) = read_arrays(path)
    values: dict[str, Any] = {
        name: whole(value) if name in _COUNTS else value for name, value in zip(_FIELDS, numbers, strict=True)
    }
    return arrays, MemorySettings(**values, once_from=whole(last - 1) if last else None)


def read_arrays(path: Path | Tensors) -> tuple[dict[str, np.ndarray], list[float]]:
    """Read the arrays of a file, and the numbers of its settings but the layout's.

    Names and settings are not checked: the core has checked those of a bundle. Raises DataError if the file is missing,
    damaged or of another layout.
    """
    arrays = map_tensors(path)
    layout, *numbers = arrays.pop(SETTINGS).tolist()
    if layout != LAYOUT:
        raise DataError(f"{path}: its layout is {layout:g}, not {LAYOUT}; train, or export, again")
    return arrays, numbers


def whole(value: float) -> Any:
    """Return a number as an int; one that is not whole stays a float, which settings refuse."""
    return int(value) if value.is_integer() else value
