"""Turn a column of plain values into a typed column: infer its kind, or check the values against a given one."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, other_unit, shown
from mtaw_fast.items.columns import (
    KINDS,
    NO_TIME,
    BooleanColumn,
    CategoriesColumn,
    CategoryColumn,
    Column,
    NumberColumn,
    TextColumn,
    TimeColumn,
    VectorColumn,
)
from mtaw_fast.items.labels import Labels
from mtaw_fast.items.ragged import offsets_of

MAX_TEXT = 4096  # characters of a text
MAX_LABEL = 512  # characters of a category
MAX_LABELS = 256  # categories of one item
MAX_VECTOR = 4096  # numbers of a vector
SEPARATOR = "|"  # between the categories of one item where a file has only texts

_LONG = 100  # characters: a longer value is no category
_MANY = 1000  # rows: from here on a column with mostly different values is no category
_LATEST = 4_102_444_800_000  # 2100
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
_NAMES = {"boolean": "true or false", "category": "a text", "text": "a text", "categories": "a list of texts"}
OF_LABELS = ("category", "categories", "text")
_NEVER_MISSING = {str, int, bool, list, type(None)}
_MISSING_TYPES = ("NAType", "NaTType")  # pandas.NA and NaT, without an import of pandas
_LISTED = ("Struct", "Int128", "UInt128", "Null")  # of polars: numpy has no such type, or would take it for another one


class WrongValueError(Exception):
    """A value does not fit its column. row: the value's row."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason


def column_of(name: str, values: Any, kind: str | None = None, *, exact: bool = False) -> Column:
    """Return a column of values.

    name: of the column. values: None and NaN are missing values. kind: one of `KINDS`; by default it is inferred, see
    `inferred_kind`. exact: whether the values must have the kind already. Else whole numbers also make texts and
    categories, 0 and 1 make booleans, and a text with `SEPARATOR` makes several categories.

    Raises WrongValueError on the first value that does not fit, UsageError on an unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"column {name!r}: there is no kind {shown(kind)}; the kinds are {', '.join(KINDS)}")
    if kind in OF_LABELS and hasattr(values, "to_list"):  # numpy makes floats of whole numbers next to missing ones
        values = values.to_list()
    plain_values = _array_or_list(values)
    if isinstance(plain_values, np.ndarray):
        column = _of_array(name, plain_values, kind)
        if column is not None:
            return column
        plain_values = plain_values.tolist()
    if not set(map(type, plain_values)) <= _NEVER_MISSING:
        plain_values = [None if is_missing(value) else value for value in plain_values]
    column_kind = kind or inferred_kind(plain_values)
    if exact:
        _check_exact(column_kind, plain_values)
    return _MAKERS[column_kind](name, plain_values)


def _check_exact(kind: str, values: list[Any]) -> None:
    """Raise WrongValueError on the first value that only a conversion would make fit."""
    converted = {"boolean": (int, float), "category": (int, float), "text": (int, float), "categories": (str,)}
    other_types = converted.get(kind, ())
    if not other_types or set(map(type, values)) <= {bool, str, list, type(None)} - set(other_types):
        return
    for row, value in enumerate(values):
        if isinstance(value, (*other_types, np.number)) and not (kind == "boolean" and isinstance(value, bool)):
            raise WrongValueError(
                row, f"{shown(value, 40)} is not {_NAMES[kind]}; declare the column as {kind} to convert it"
            )


def inferred_kind(values: Sequence[Any]) -> str:
    """Return the kind of a column by its values, of which None are missing.

    Numbers are 'number', true and false 'boolean', dates 'time', lists of fractions 'vector', other lists 'categories'.
    Texts are 'time' if all are ISO dates; 'text' if one is a web address or has over 100 characters, or if most differ
    and there are over 1,000 or a tenth of them have a space; else 'category'. Without any value it is 'category'.
    """
    known = [value for value in values if value is not None]
    types = set(map(type, known))
    if not known:
        return "category"
    if all(issubclass(value_type, (bool, np.bool_)) for value_type in types):
        return "boolean"
    if all(issubclass(value_type, (int, float, decimal.Decimal, np.number)) for value_type in types):
        return "number"
    if all(issubclass(value_type, (datetime.date, np.datetime64)) for value_type in types):
        return "time"
    if any(issubclass(value_type, (list, tuple, np.ndarray, set, frozenset)) for value_type in types):
        first = next((element for row in known if isinstance(row, (list, tuple, np.ndarray)) for element in row), None)
        return "vector" if isinstance(first, (float, np.floating)) else "categories"
    if types == {str}:
        return _kind_of_texts(known)
    return "category"  # whose check names the first value that does not fit


def _kind_of_texts(known: list[str]) -> str:
    if all(map(_ISO.fullmatch, known)):
        return "time"
    if any(len(text) > _LONG or text.startswith(("https://", "http://")) for text in known):
        return "text"
    spaced = sum(" " in text for text in known)
    mostly_different = 2 * len(set(known)) > len(known)
    return "text" if mostly_different and (len(known) > _MANY or 10 * spaced > len(known)) else "category"


def _array_or_list(values: Any) -> np.ndarray | list[Any]:
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, (list, tuple)):
        return list(values)
    if hasattr(values, "to_numpy") and type(getattr(values, "dtype", None)).__name__ not in _LISTED:
        return np.asarray(values.to_numpy())  # of polars, pandas or pyarrow
    return list(values)


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return value != value
    return type(value).__name__ in _MISSING_TYPES or (isinstance(value, np.datetime64) and bool(np.isnat(value)))


def _of_array(name: str, values: np.ndarray, kind: str | None) -> Column | None:
    """Return the column of a typed array without a Python object for each value; None if that does not work."""
    dtype_kind = values.dtype.kind
    if values.ndim == 1 and dtype_kind in "iuf" and kind in (None, "number"):
        wide = values.astype(np.float64)
        _refuse(np.isinf(wide), wide, "is not a finite number")
        return NumberColumn(name=name, values=wide)
    if values.ndim == 1 and dtype_kind == "b" and kind in (None, "boolean"):
        return BooleanColumn(name=name, values=values.astype(np.int8))
    if values.ndim == 1 and dtype_kind == "M" and kind in (None, "time"):
        times = values.astype("datetime64[ms]").astype(np.int64)  # NaT is NO_TIME
        _refuse((times != NO_TIME) & ((times < 0) | (times > _LATEST)), values, "is not between 1970 and 2100")
        return TimeColumn(name=name, values=times)
    if values.ndim == 2 and dtype_kind == "f" and kind in (None, "vector") and 0 < values.shape[1] <= MAX_VECTOR:
        rows = values.astype(np.float32)
        known = ~np.isnan(rows).all(axis=1)
        _refuse(known & ~np.isfinite(rows).all(axis=1), rows, "is not a vector of finite numbers")
        return VectorColumn(name=name, values=rows)
    return None


def _refuse(wrong: Any, values: np.ndarray, reason: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise WrongValueError(row, f"{shown(values[row].tolist(), 40)} {reason}")


def _filled(convert: Callable[[int, Any], Any], missing: Any, dtype: Any, values: list[Any]) -> np.ndarray:
    out = np.full(len(values), missing, dtype=dtype)
    for row, value in enumerate(values):
        if value is not None:
            out[row] = convert(row, value)
    return out


def _number(row: int, value: Any) -> float:
    fits = isinstance(value, (int, float, decimal.Decimal, np.number)) and not isinstance(value, (bool, np.bool_))
    try:
        number = float(value) if fits else math.inf
    except (OverflowError, ValueError):
        number = math.inf
    if not math.isfinite(number):
        raise WrongValueError(row, f"{shown(value, 40)} is not a {'finite ' if fits else ''}number")
    return number


def _boolean(row: int, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_, int, float, np.number)) or value not in (0, 1):
        raise WrongValueError(row, f"{shown(value, 40)} is not true or false")
    return bool(value)


def _milliseconds(row: int, value: Any) -> int:
    time: Any = value
    try:
        if isinstance(time, str):
            time = datetime.datetime.fromisoformat(time)
        if isinstance(time, np.datetime64):
            time = int(time.astype("datetime64[ms]").astype(np.int64))
        elif isinstance(time, datetime.date):
            if not isinstance(time, datetime.datetime):
                time = datetime.datetime(time.year, time.month, time.day)
            zoned = time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)
            time = round(zoned.timestamp() * 1000)
        elif isinstance(time, (float, np.integer)) and time == int(time):
            time = int(time)
    except (ValueError, OverflowError):
        time = None
    is_number = isinstance(time, int) and not isinstance(value, (str, datetime.date, np.datetime64))
    if is_number and (wrong := other_unit(time)):
        raise WrongValueError(row, f"{time}{wrong}")
    if isinstance(time, bool) or not isinstance(time, int) or not 0 <= time <= _LATEST:
        raise WrongValueError(row, f"{shown(value, 40)} is not a time (Unix milliseconds or an ISO date, 1970 to 2100)")
    return time


def _label(row: int, value: Any, max_length: int = MAX_LABEL) -> str:
    """Return a value as the text of a category or a text; numbers that are whole count as text."""
    if isinstance(value, (float, np.floating)) and value.is_integer():
        value = int(value)  # whole numbers next to missing ones are floats in some tables
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = str(int(value))
    if not isinstance(value, str):
        raise WrongValueError(row, f"{shown(value, 40)} is not a text")
    if len(value) > max_length:
        raise WrongValueError(row, f"a value of {len(value):,} characters is too long; at most {max_length:,}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongValueError(row, f"{shown(value, 40)} is not valid Unicode") from None
    return value


def _categories_of(name: str, values: list[Any]) -> Column:
    code_of: dict[Any, int] = {}
    labels: dict[str, int] = {}
    if set(map(type, values)) <= {str, type(None)}:
        rows = dict(zip(reversed(values), range(len(values) - 1, -1, -1), strict=True))  # the first row of each value
        code_of = {
            value: labels.setdefault(_label(rows[value], value), len(labels)) for value in reversed(rows) if value
        }
        code_of[None] = code_of[""] = -1
        row_codes = np.fromiter(map(code_of.__getitem__, values), dtype=np.int32, count=len(values))
        return CategoryColumn(name=name, codes=row_codes, labels=Labels.of(list(labels)))
    codes = np.full(len(values), -1, dtype=np.int32)
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value):
            continue
        try:
            code = code_of.get(value)
        except TypeError:  # a list
            code = None
        if code is None or isinstance(value, bool):
            label = _label(row, value)
            code = labels.setdefault(label, len(labels))
            code_of[value] = code
        codes[row] = code
    return CategoryColumn(name=name, codes=codes, labels=Labels.of(list(labels)))


def _lists_of_categories(name: str, values: list[Any]) -> Column:
    lengths, codes, labels = np.zeros(len(values), dtype=np.int64), list[int](), dict[str, int]()
    for row, entry in enumerate(values):
        if entry is None:
            continue
        value = entry.split(SEPARATOR) if isinstance(entry, str) else entry
        if not isinstance(value, (list, tuple, np.ndarray, set, frozenset)):
            raise WrongValueError(row, f"{shown(value, 40)} is not a list of texts")
        ordered = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        known = [element for element in ordered if (element if isinstance(element, str) else not is_missing(element))]
        row_labels = dict.fromkeys(_label(row, element) for element in known)
        if len(row_labels) > MAX_LABELS:
            raise WrongValueError(row, f"a list of {len(row_labels):,} is too long; at most {MAX_LABELS}")
        lengths[row] = len(row_labels)
        codes += [labels.setdefault(label, len(labels)) for label in row_labels]
    return CategoriesColumn(
        name=name, offsets=offsets_of(lengths), codes=np.array(codes, dtype=np.int32), labels=Labels.of(list(labels))
    )


def _texts(name: str, values: list[Any]) -> Column:
    plain = [value or "" for value in values] if set(map(type, values)) <= {str, type(None)} else []
    if plain and max(map(len, plain)) <= MAX_TEXT and "".join(plain).isascii():
        encoded = [value.encode() for value in plain]
    else:
        encoded = [b"" if value is None else _label(row, value, MAX_TEXT).encode() for row, value in enumerate(values)]
    offsets = offsets_of(list(map(len, encoded)))
    return TextColumn(name=name, offsets=offsets, data=np.frombuffer(b"".join(encoded), dtype=np.uint8))


def _vectors(name: str, values: list[Any]) -> Column:
    rows: dict[int, np.ndarray] = {}
    length = 0
    for row, value in enumerate(values):
        if value is None or (isinstance(value, (list, tuple, np.ndarray)) and not len(value)):
            continue
        try:
            vector = np.array(value, dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            vector = np.empty(0, dtype=np.float32)
        if vector.ndim != 1 or not 0 < len(vector) <= MAX_VECTOR or isinstance(value, str):
            raise WrongValueError(row, f"{shown(value, 40)} is not a list of 1 to {MAX_VECTOR:,} numbers")
        if not np.isfinite(vector).all():
            raise WrongValueError(row, f"{shown(value, 40)} has a number that is not finite")
        length = length or len(vector)
        if len(vector) != length:
            raise WrongValueError(row, f"a vector of {len(vector)} numbers, where others have {length}")
        rows[row] = vector
    out = np.full((len(values), length), np.nan, dtype=np.float32)
    if rows:
        out[list(rows)] = list(rows.values())
    return VectorColumn(name=name, values=out)


_MAKERS: dict[str, Callable[[str, list[Any]], Column]] = {
    "number": lambda name, values: NumberColumn(name=name, values=_filled(_number, np.nan, np.float64, values)),
    "boolean": lambda name, values: BooleanColumn(name=name, values=_filled(_boolean, -1, np.int8, values)),
    "time": lambda name, values: TimeColumn(name=name, values=_filled(_milliseconds, NO_TIME, np.int64, values)),
    "category": _categories_of,
    "categories": _lists_of_categories,
    "text": _texts,
    "vector": _vectors,
}


def refused(where: str, name: str, ids: Sequence[Any], error: WrongValueError) -> DataError:
    """Return the error of a value in one line, with its column, row and id."""
    item = f" (id {shown(ids[error.row], 60)})" if error.row < len(ids) else ""
    return DataError(f"{where}: column {name!r}, row {error.row + 1}{item}: {error.reason}")
