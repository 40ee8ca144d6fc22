"""What all columns of the item table have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from mtaw_fast.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class Column(ABC):
    """A named column of values of one kind, each of which may be missing.

    kind: {'number', 'category', 'categories', 'boolean', 'text', 'time', 'vector'}, what its values are. name: unique
    in its table. public: whether requests without the admin token may read it. version: the version of the table in
    which the column last changed.
    """

    kind: ClassVar[str]
    name: str
    public: bool = False
    version: int = 0

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """How many rows it has."""

    @property
    @abstractmethod
    def missing(self) -> np.ndarray:
        """bool[n]: which values are missing."""

    def values_at(self, rows: np.ndarray) -> list[Any]:
        """Return the values of rows int[m] as plain Python values; None for a missing one and outside the rows.

        number: float; time: int, Unix milliseconds; boolean: bool; category and text: str; categories: list of str;
        vector: list of float.
        """
        rows = np.asarray(rows)
        values: list[Any] = [None] * len(rows)
        inside = np.flatnonzero((rows >= 0) & (rows < self.n_rows))
        known = inside[~self._missing_at(rows[inside])]
        for index, value in zip(known.tolist(), self._plain(rows[known]), strict=True):
            values[index] = value
        return values

    @abstractmethod
    def resized(self, count: int) -> Self:
        """Return the column with `count` rows: cut, or extended by missing values."""

    @abstractmethod
    def taken(self, rows: np.ndarray) -> Self:
        """Return the column of the rows int[m], in this order."""

    @abstractmethod
    def patched(self, rows: np.ndarray, values: Self) -> Self:
        """Return the column with rows int[m] (distinct) replaced by the m values of another column of this kind."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return its arrays for storage, by their names in the class."""

    @classmethod
    @abstractmethod
    def of_arrays(cls, name: str, public: bool, version: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the column that `arrays` stored. Raises DataError if they do not fit; rows are safe to read then."""

    @abstractmethod
    def _missing_at(self, rows: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _plain(self, rows: np.ndarray) -> list[Any]: ...


def stored_array(arrays: Mapping[str, np.ndarray], part: str, dtype: Any, name: str, axes: int = 1) -> np.ndarray:
    """Return the array `part` of a stored column. Raises DataError if it is missing, or of another type or shape."""
    array = arrays.get(part)
    if array is None or array.dtype != dtype or array.ndim != axes:
        raise DataError(f"column {name!r} of the item table is damaged ({part}); write the file again")
    return array
