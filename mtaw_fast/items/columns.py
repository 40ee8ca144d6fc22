"""The columns of an item table: one class for each kind of value. All are immutable. Axes: n rows, m changed rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.items import ragged
from mtaw_fast.items.labels import Labels

NO_TIME = np.iinfo(np.int64).min


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


@dataclass(frozen=True, eq=False, kw_only=True)
class _ArrayColumn(Column):
    """One entry a row in the array `_array`."""

    _array: ClassVar[str] = "values"
    _dtype: ClassVar[Any]
    _axes: ClassVar[int] = 1
    _missing_value: ClassVar[Any]

    @property
    def _entries(self) -> np.ndarray:
        entries: np.ndarray = getattr(self, self._array)
        return entries

    @property
    def n_rows(self) -> int:
        return len(self._entries)

    @property
    def missing(self) -> np.ndarray:
        return self._missing_at(slice(None))

    def _missing_at(self, rows: Any) -> np.ndarray:
        return self._entries[rows] == self._missing_value

    def _plain(self, rows: np.ndarray) -> list[Any]:
        return self._entries[rows].tolist()

    def _with(self, entries: np.ndarray) -> Self:
        changed: dict[str, Any] = {self._array: entries}
        return replace(self, **changed)

    def resized(self, count: int) -> Self:
        shape = (max(0, count - self.n_rows), *self._entries.shape[1:])
        return self._with(np.concatenate([self._entries[:count], np.full(shape, self._missing_value, self._dtype)]))

    def taken(self, rows: np.ndarray) -> Self:
        return self._with(self._entries[rows])

    def patched(self, rows: np.ndarray, values: Self) -> Self:
        changed = self._entries.copy()
        changed[rows] = values._entries
        return self._with(changed)

    def arrays(self) -> dict[str, np.ndarray]:
        return {self._array: self._entries}

    @classmethod
    def of_arrays(cls, name: str, public: bool, version: int, arrays: Mapping[str, np.ndarray]) -> Self:
        entries: dict[str, Any] = {cls._array: stored_array(arrays, cls._array, cls._dtype, name, cls._axes)}
        return cls(name=name, public=public, version=version, **entries)


@dataclass(frozen=True, eq=False, kw_only=True)
class NumberColumn(_ArrayColumn):
    """values float64[n]; a missing one is NaN."""

    kind: ClassVar[str] = "number"
    _dtype = np.float64
    _missing_value = np.nan
    values: np.ndarray

    def _missing_at(self, rows: Any) -> np.ndarray:
        return np.isnan(self.values[rows])


@dataclass(frozen=True, eq=False, kw_only=True)
class TimeColumn(_ArrayColumn):
    """values int64[n], Unix milliseconds; a missing one is `NO_TIME`."""

    kind: ClassVar[str] = "time"
    _dtype = np.int64
    _missing_value = NO_TIME
    values: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class BooleanColumn(_ArrayColumn):
    """values int8[n], 0 or 1; a missing one is -1."""

    kind: ClassVar[str] = "boolean"
    _dtype = np.int8
    _missing_value = -1
    values: np.ndarray

    def _plain(self, rows: np.ndarray) -> list[Any]:
        return (self.values[rows] != 0).tolist()


@dataclass(frozen=True, eq=False, kw_only=True)
class VectorColumn(_ArrayColumn):
    """values float32[n, d]; a missing one is a row of NaN. d is 0 as long as there is no vector."""

    kind: ClassVar[str] = "vector"
    _dtype = np.float32
    _axes = 2
    _missing_value = np.nan
    values: np.ndarray

    @property
    def d(self) -> int:
        """The length of the vectors."""
        return self.values.shape[1]

    def check_length(self, other: VectorColumn) -> None:
        """Raise DataError if another column has vectors of another length."""
        if self.d and other.d and self.d != other.d:
            raise DataError(f"column {self.name!r} has vectors of {self.d} numbers, not {other.d}; keep the length")

    def _missing_at(self, rows: Any) -> np.ndarray:
        return np.isnan(self.values[rows, :1]).all(axis=1)

    def patched(self, rows: np.ndarray, values: Self) -> Self:
        changed = self.values.copy() if self.d else np.full((self.n_rows, values.d), np.nan, dtype=np.float32)
        changed[rows] = values.values if values.d else np.nan
        return self._with(changed)


@dataclass(frozen=True, eq=False, kw_only=True)
class CategoryColumn(_ArrayColumn):
    """codes int32[n], indices into `labels`; a missing one is -1. Labels that no row has may remain after a patch."""

    kind: ClassVar[str] = "category"
    _array = "codes"
    _dtype = np.int32
    _missing_value = -1
    codes: np.ndarray
    labels: Labels

    def _plain(self, rows: np.ndarray) -> list[Any]:
        return [self.labels[code] for code in self.codes[rows].tolist()]

    def patched(self, rows: np.ndarray, values: Self) -> Self:
        labels, codes = _joined_labels(self.labels, values.labels, values.codes)
        changed = self.codes.copy()
        changed[rows] = codes
        return replace(self, codes=changed, labels=labels)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"codes": self.codes, "label_offsets": self.labels.offsets, "label_text": self.labels.text}

    @classmethod
    def of_arrays(cls, name: str, public: bool, version: int, arrays: Mapping[str, np.ndarray]) -> Self:
        codes, labels = stored_array(arrays, "codes", np.int32, name), _labels(arrays, name)
        _check_codes(codes, -1, len(labels), name)
        return cls(name=name, public=public, version=version, codes=codes, labels=labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class _RaggedColumn(Column):
    """Rows of any length end to end in the array `_flat`, and offsets int64[n + 1]. An empty row is missing."""

    offsets: np.ndarray

    _flat: ClassVar[str]

    @property
    def n_rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def missing(self) -> np.ndarray:
        return self.offsets[1:] == self.offsets[:-1]

    def _missing_at(self, rows: np.ndarray) -> np.ndarray:
        return self.offsets[rows + 1] == self.offsets[rows]

    def resized(self, count: int) -> Self:
        return self._with(*ragged.resized(self.offsets, getattr(self, self._flat), count))

    def taken(self, rows: np.ndarray) -> Self:
        return self._with(*ragged.gathered(self.offsets, getattr(self, self._flat), rows))

    def _with(self, offsets: np.ndarray, flat: np.ndarray) -> Self:
        changed: dict[str, Any] = {"offsets": offsets, self._flat: flat}
        return replace(self, **changed)


@dataclass(frozen=True, eq=False, kw_only=True)
class CategoriesColumn(_RaggedColumn):
    """Several labels a row: codes int32[..] of all rows end to end, offsets int64[n + 1]. An empty row is missing."""

    kind: ClassVar[str] = "categories"
    _flat = "codes"
    codes: np.ndarray
    labels: Labels

    def _plain(self, rows: np.ndarray) -> list[Any]:
        return [[self.labels[code] for code in self.codes[self.offsets[row] : self.offsets[row + 1]]] for row in rows]

    def patched(self, rows: np.ndarray, values: Self) -> Self:
        labels, new_codes = _joined_labels(self.labels, values.labels, values.codes)
        offsets, codes = ragged.replaced((self.offsets, self.codes), rows, (values.offsets, new_codes))
        return replace(self, offsets=offsets, codes=codes, labels=labels)

    def arrays(self) -> dict[str, np.ndarray]:
        labels = {"label_offsets": self.labels.offsets, "label_text": self.labels.text}
        return {"offsets": self.offsets, "codes": self.codes, **labels}

    @classmethod
    def of_arrays(cls, name: str, public: bool, version: int, arrays: Mapping[str, np.ndarray]) -> Self:
        offsets, codes = stored_array(arrays, "offsets", np.int64, name), stored_array(arrays, "codes", np.int32, name)
        labels = _labels(arrays, name)
        _check_codes(codes, 0, len(labels), name)
        _check_rows(offsets, len(codes), name)
        return cls(name=name, public=public, version=version, offsets=offsets, codes=codes, labels=labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class TextColumn(_RaggedColumn):
    """data uint8[..], the UTF-8 of all rows end to end; offsets int64[n + 1]. An empty text is missing."""

    kind: ClassVar[str] = "text"
    _flat = "data"
    data: np.ndarray

    def _plain(self, rows: np.ndarray) -> list[Any]:
        begins, ends = self.offsets[rows].tolist(), self.offsets[rows + 1].tolist()
        return [
            self.data[begin:end].tobytes().decode("utf-8", "replace")
            for begin, end in zip(begins, ends, strict=True)
        ]  # fmt: skip

    def patched(self, rows: np.ndarray, values: Self) -> Self:
        offsets, data = ragged.replaced((self.offsets, self.data), rows, (values.offsets, values.data))
        return replace(self, offsets=offsets, data=data)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"offsets": self.offsets, "data": self.data}

    @classmethod
    def of_arrays(cls, name: str, public: bool, version: int, arrays: Mapping[str, np.ndarray]) -> Self:
        offsets, data = stored_array(arrays, "offsets", np.int64, name), stored_array(arrays, "data", np.uint8, name)
        _check_rows(offsets, len(data), name)
        return cls(name=name, public=public, version=version, offsets=offsets, data=data)


COLUMN_TYPES: Mapping[str, type[Column]] = {
    column.kind: column
    for column in (NumberColumn, CategoryColumn, CategoriesColumn, BooleanColumn, TextColumn, TimeColumn, VectorColumn)
}
KINDS = tuple(COLUMN_TYPES)


def _joined_labels(labels: Labels, other: Labels, codes: np.ndarray) -> tuple[Labels, np.ndarray]:
    """Return `labels` with those that `codes` (indices into `other`, or -1) need, and the codes in it."""
    used = np.unique(codes[codes >= 0])
    translation = np.full(len(other) + 1, -1, dtype=np.int32)  # the last element is that of -1
    new_labels: list[str] = []
    for code in used.tolist():
        new_code = labels.codes.get(other[code])
        if new_code is None:
            new_code = len(labels) + len(new_labels)
            new_labels.append(other[code])
        translation[code] = new_code
    return labels.extended(new_labels), translation[codes]


def _labels(arrays: Mapping[str, np.ndarray], name: str) -> Labels:
    labels = Labels(
        stored_array(arrays, "label_offsets", np.int64, name), stored_array(arrays, "label_text", np.uint8, name)
    )  # fmt: skip
    labels.check(f"column {name!r} of the item table")
    return labels


def _check_codes(codes: np.ndarray, minimum: int, count: int, name: str) -> None:
    if len(codes) and (codes.min() < minimum or codes.max() >= count):
        raise DataError(f"column {name!r} of the item table is damaged (codes); write the file again")


def _check_rows(offsets: np.ndarray, length: int, name: str) -> None:
    if not ragged.check_offsets(offsets, length):
        raise DataError(f"column {name!r} of the item table is damaged (offsets); write the file again")
