"""Context columns of a log: the most frequent values get codes of their own, see `data.context`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtaw_fast.data.context import FIRST, MAX_CHARACTERS, MAX_VALUES, NO_VALUE, OTHER, UNNAMED, ContextColumns
from mtaw_fast.errors import DataError


def check_context_columns(names: Sequence[str], schema: Any, where: str) -> None:
    """Raise DataError unless the columns of a frame hold texts, whole numbers or booleans."""
    for name in names:
        dtype = schema[name]
        if dtype.is_nested() or dtype.is_float() or dtype.is_decimal() or dtype.is_temporal():
            raise DataError(
                f"{where}: context column {name!r} holds {dtype}; values must be text or whole numbers, so cast it "
                "first"
            )


class ContextReader:
    """Collects the context of a log part by part.

    Parameters
    ----------
    names : sequence of str
        The columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._parts: list[list[np.ndarray]] = [[] for _ in names]
        self._texts: list[dict[int, str]] = [{} for _ in names]

    def add(self, column: int, texts: Mapping[int, str], codes: np.ndarray) -> None:
        """Add the rows of a part: numbers int64[n] of texts, -1 without a value."""
        self._texts[column].update(texts)
        self._parts[column].append(codes)

    def finish(self) -> tuple[ContextColumns, np.ndarray]:
        """Return the columns, values by descending count and then text, and uint16[T, C]."""
        values, columns = [], []
        for texts, parts in zip(self._texts, self._parts, strict=True):
            numbers = np.concatenate(parts)
            counts = np.bincount(numbers[numbers >= 0], minlength=max(texts, default=-1) + 1)
            usable = [
                code for code in texts if counts[code] and len(texts[code]) <= MAX_CHARACTERS and texts[code] != UNNAMED
            ]
            frequent = sorted(usable, key=lambda code: (-counts[code], texts[code]))[:MAX_VALUES]
            table = np.full(len(counts) + 1, OTHER, dtype=np.uint16)
            table[-1] = NO_VALUE  # what a code -1 becomes
            table[frequent] = np.arange(FIRST, FIRST + len(frequent))
            values.append(tuple(texts[code] for code in frequent))
            columns.append(table[numbers])
        return ContextColumns(self._names, tuple(values)), np.stack(columns, axis=1)
