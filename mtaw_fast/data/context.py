"""The context of visits: columns of a log, such as the referrer, with a few values each.

A value is kept as a code: 0 without a value, 1 for every value that the column does not name, 2.. for those it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.system.cached_property import cached_property

MAX_COLUMNS = 8
MAX_VALUES = 1000  # of a column: the most frequent ones; all others share one code
MAX_CHARACTERS = 200  # of a value
NO_VALUE, OTHER, FIRST = 0, 1, 2
UNNAMED = "\ufffd"  # stands for a value that is not kept; no column names it


@dataclass(frozen=True, eq=False)
class ContextColumns:
    """C named columns and the values that have codes of their own.

    names: of the columns. values: by column; the code of `values[c][i]` is i + 2.

    Raises DataError if there are too many columns or values, or a name or value is there twice.
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    _codes: tuple[Mapping[str, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.names) > MAX_COLUMNS or len(set(self.names)) != len(self.names):
            raise DataError(f"context: name at most {MAX_COLUMNS} columns, each once; there are {len(self.names)}")
        if len(self.values) != len(self.names) or any(len(set(values)) != len(values) for values in self.values):
            raise DataError("context: each column needs a list of distinct values; prepare the data set again")
        if any(len(values) > MAX_VALUES for values in self.values):
            raise DataError(f"context: a column has more than {MAX_VALUES} values; prepare the data set again")
        codes = tuple({value: FIRST + code for code, value in enumerate(values)} for values in self.values)
        object.__setattr__(self, "_codes", codes)

    @classmethod
    def from_dict(cls, entries: Any) -> ContextColumns | None:
        """Return what `as_dict` made; None for an empty list. Raises DataError on anything else."""
        try:
            columns = [(str(column["name"]), tuple(map(str, column["values"]))) for column in entries]
        except (TypeError, KeyError, ValueError):
            raise DataError("context: the columns are damaged; prepare the data set again") from None
        return cls(tuple(name for name, _ in columns), tuple(values for _, values in columns)) if columns else None

    def as_dict(self) -> list[dict[str, Any]]:
        """Return plain JSON values."""
        return [{"name": name, "values": list(values)} for name, values in zip(self.names, self.values, strict=True)]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The largest code of each column."""
        return tuple(1 + len(values) for values in self.values)

    @cached_property
    def unknown(self) -> np.ndarray:
        """uint16[C]: the codes of a visit without context."""
        return np.zeros(len(self.names), dtype=np.uint16)

    def codes(self, context: Mapping[str, str] | None) -> np.ndarray:
        """Return uint16[C]: the codes of checked values by column; columns that the log does not have are ignored."""
        if not context:
            return self.unknown
        codes = np.zeros(len(self.names), dtype=np.uint16)
        for column, name in enumerate(self.names):
            value = context.get(name)
            if value is not None:
                codes[column] = self._codes[column].get(value, OTHER)
        return codes

    def unnamed(self, context: Mapping[str, Any], codes: np.ndarray) -> tuple[str, ...]:
        """Return COLUMN=VALUE for each value of a context that has no own code. codes: those of the context."""
        coded = zip(self.names, codes.tolist(), strict=True)
        return tuple(f"{name}={context[name]}" for name, code in coded if code == OTHER)

    def values_of(self, codes: np.ndarray) -> dict[str, str]:
        """Return values by column that have the codes uint16[C] again; `UNNAMED` for a value without an own code."""
        coded = zip(self.names, self.values, codes.tolist(), strict=True)
        return {
            name: values[code - FIRST] if code >= FIRST else UNNAMED for name, values, code in coded if code != NO_VALUE
        }


def translated_codes(codes: np.ndarray, source: ContextColumns, target: ContextColumns) -> np.ndarray:
    """Translate codes uint16[T, C] of the columns `source` to codes uint16[T, C'] of the columns `target`."""
    if (source.names, source.values) == (target.names, target.values):
        return codes
    rows, inverse = np.unique(codes, axis=0, return_inverse=True)
    translated = [target.codes(source.values_of(row)) for row in rows]
    return np.array(translated, dtype=np.uint16).reshape(len(rows), len(target.names))[inverse.reshape(-1)]


@dataclass(frozen=True, slots=True, eq=False)
class ClickContext:
    """The context of T clicks: codes uint16[T, C] of `columns`. Raises DataError if the codes do not fit them."""

    columns: ContextColumns
    codes: np.ndarray

    def __post_init__(self) -> None:
        codes, sizes = self.codes, np.array(self.columns.sizes)
        if codes.dtype != np.uint16 or codes.ndim != 2 or codes.shape[1] != len(sizes):
            raise DataError(f"context: codes must be uint16[T, {len(sizes)}], not {codes.dtype}{list(codes.shape)}")
        if len(codes) and (codes.max(axis=0) > sizes).any():
            raise DataError("context: a code lies outside its column; restore the file or retrain the bundle")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays for storage."""
        columns = json.dumps(self.columns.as_dict(), ensure_ascii=False).encode()
        return {"codes": self.codes, "columns": np.frombuffer(columns, dtype=np.uint8)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ClickContext:
        """Return what `arrays` stored; the core has checked it."""
        columns = ContextColumns.from_dict(json.loads(arrays["columns"].tobytes()))
        assert columns is not None
        return cls(columns, arrays["codes"])


def checked_context(values: Any, names: Sequence[str] | None = None, where: str = "context") -> dict[str, str]:
    """Check a visit's context from outside: values by column name.

    values: text or whole numbers by column; None as a value is the same as leaving the column out. names: the columns
    that there are. where: names the context in an error.

    Returns the text by column, without the columns that have no value.

    Raises UsageError if it is not such a mapping, names an unknown column, or has a value that is too long.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} must be values by column, such as {{'referrer': 'search'}}, not {shown(values)}")
    if len(values) > MAX_COLUMNS:
        raise UsageError(f"{where} has {len(values)} columns; at most {MAX_COLUMNS}")
    context: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(name, str) or (names is not None and name not in names):
            columns = "none" if not names else ", ".join(names)
            raise UsageError(f"{where}: {shown(name)} is not a context column; the bundle has {columns}")
        if value is None:
            continue
        if isinstance(value, (bool, float)) or not isinstance(value, (str, int, np.integer)):
            raise UsageError(f"{where}: {name} must be a text or a whole number, not {shown(value)}")
        text = str(value)
        if len(text) > MAX_CHARACTERS:
            raise UsageError(f"{where}: {name} has {len(text)} characters; at most {MAX_CHARACTERS}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{where}: {name} is not valid Unicode; send UTF-8") from None
        if text:
            context[name] = text
    return context
