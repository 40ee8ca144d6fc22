"""The file of the memory tables, which can be mapped: their arrays, and the settings as one more array."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.kernels.native.memory_tables import TABLES
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
    arrays, (*numbers, last) = read_arrays(path, "memory tables", len(_FIELDS) + 2, {LAYOUT: TABLES})
    values: dict[str, Any] = {
        name: whole(value) if name in _COUNTS else value for name, value in zip(_FIELDS, numbers[1:], strict=True)
    }
    if last:
        values["once_from"] = whole(last - 1)
    try:
        return arrays, MemorySettings(**values)
    except UsageError as error:
        raise broken(path, str(error), "memory tables") from None


def read_arrays(
    path: Path | Tensors, what: str, n_numbers: int, layouts: Mapping[int, Collection[str]],
    optional: Collection[str] = (),
) -> tuple[dict[str, np.ndarray], list[float]]:  # fmt: skip
    """Read the arrays of a file, and the numbers of its settings, of which the first is the layout's.

    layouts: the names of its arrays by layout. optional: more names; a file has all of them or none. Raises DataError,
    naming `what`, if the file is missing, damaged or of another layout.
    """
    arrays = map_tensors(path)
    numbers = arrays.pop(SETTINGS, None)
    if numbers is None or numbers.dtype != np.float64 or numbers.shape != (n_numbers,):
        raise broken(path, f"it has no settings of {what}", what)
    if numbers[0] not in layouts:
        expected_layouts = " or ".join(map(str, layouts))
        raise DataError(f"{path}: its layout is {numbers[0]:g}, not {expected_layouts}; train, or export, again")
    expected = {*layouts[int(numbers[0])], *(optional if arrays.keys() & {*optional} else ())}
    missing, foreign = sorted(expected - arrays.keys()), sorted(arrays.keys() - expected)
    if missing:
        raise broken(path, f"{shown(missing[0])} is missing", what)
    if foreign:
        raise broken(path, f"{shown(foreign[0])} is not an array of the {what}", what)
    return arrays, numbers.tolist()


def broken(path: Path | Tensors, reason: str, what: str) -> DataError:
    """Return the error of a file that cannot be read."""
    return DataError(f"{path}: {reason}; restore the file or rebuild the {what}")


def whole(value: float) -> Any:
    """Return a number as an int; one that is not whole stays a float, which settings refuse."""
    return int(value) if value.is_integer() else value
