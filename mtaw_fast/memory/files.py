"""The file of the memory tables, which can be mapped: their arrays, and the settings as one more array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.kernels.native.memory_tables import TABLES
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.storage.sealed_file import SealedFile
from mtaw_fast.storage.tensor_file import map_tensors, write_joined, write_tensors

LAYOUT = 1
SESSIONS_LAYOUT = 2  # the sessions alone: the tables are built from them
SESSIONS = ("session_offsets", "session_items")
_SETTINGS = "settings"
_FIELDS = ("window", "span", "recency_share", "recency", "max_neighbors", "max_postings")
_COUNTS = ("window", "span", "max_neighbors", "max_postings")


def write_tables(path: Path, arrays: Mapping[str, np.ndarray], settings: MemorySettings) -> None:
    """Write the arrays and `settings` (with `recency` as a number) to `path` in safetensors format, atomically.

    The settings are float64[8]: the layout's number, the fields in the order of `_FIELDS`, and 1 + `once_from`, or 0.
    """
    write_joined_tables(path, {name: [array] for name, array in arrays.items()}, settings)


def write_joined_tables(path: Path, pieces: Mapping[str, Sequence[np.ndarray]], settings: MemorySettings) -> None:
    """Do what `write_tables` does with arrays in pieces, cut along their first axis."""
    write_joined(path, {**pieces, _SETTINGS: [_numbers(LAYOUT, settings)]})


def write_sessions(path: Path, arrays: Mapping[str, np.ndarray], settings: MemorySettings) -> None:
    """Write the sessions of tables alone, and `settings`, with which the same tables can be built."""
    written = {name: arrays[name] for name in SESSIONS}
    write_tensors(path, {**written, _SETTINGS: _numbers(SESSIONS_LAYOUT, settings)})


def _numbers(layout: int, settings: MemorySettings) -> np.ndarray:
    numbers = [layout, *(getattr(settings, name) for name in _FIELDS)]
    numbers.append(0 if settings.once_from is None else 1 + settings.once_from)
    return np.array(numbers, dtype=np.float64)


def read_tables(path: Path | SealedFile) -> tuple[dict[str, np.ndarray], MemorySettings]:
    """Read what `write_tables` or `write_sessions` wrote, read-only.

    The values of the arrays are not checked. Raises DataError if the file is missing, damaged or of another layout.
    """

    def broken(reason: str) -> DataError:
        return DataError(f"{path}: {reason}; restore the file or rebuild the memory")

    arrays = map_tensors(path)
    numbers = arrays.pop(_SETTINGS, None)
    if numbers is None or numbers.dtype != np.float64 or numbers.shape != (len(_FIELDS) + 2,):
        raise broken("it has no settings of memory tables")
    if numbers[0] not in (LAYOUT, SESSIONS_LAYOUT):
        raise broken(f"its layout is {numbers[0]:g}, not {LAYOUT} or {SESSIONS_LAYOUT}")
    expected = TABLES.keys() if numbers[0] == LAYOUT else set(SESSIONS)
    missing, foreign = sorted(expected - arrays.keys()), sorted(arrays.keys() - expected)
    if missing or foreign:
        raise broken(
            f"{shown(missing[0])} is missing" if missing else f"{shown(foreign[0])} is not an array of the tables"
        )
    # A count that is not a whole number stays a float, which MemorySettings refuses.
    values: dict[str, Any] = {
        name: int(value) if name in _COUNTS and value.is_integer() else value
        for name, value in zip(_FIELDS, numbers[1:-1].tolist(), strict=True)
    }
    if numbers[-1]:
        last = float(numbers[-1])
        values["once_from"] = int(last) - 1 if last.is_integer() else last
    try:
        return arrays, MemorySettings(**values)
    except UsageError as error:
        raise broken(str(error)) from None
