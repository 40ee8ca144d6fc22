"""A log's time column: numbers or ISO-8601 texts, brought to int64 milliseconds since 1970 (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtaw_fast.errors import DataError, require

UNITS = ("auto", "s", "ms")
# strptime formats tried in turn after a blank between date and time has become a 'T'. '%.f' also matches no fraction.
_ISO = {
    "local": "%Y-%m-%dT%H:%M:%S%.f",
    "zulu": "%Y-%m-%dT%H:%M:%S%.fZ",
    "offset": "%Y-%m-%dT%H:%M:%S%.f%z",
    "minutes": "%Y-%m-%dT%H:%M",
    "day": "%Y-%m-%d",
}
# 1e11 s is the year 5138 and 1e11 ms is 1973, so no log of clicks is ambiguous.
_LARGEST_SECONDS = 100_000_000_000
_LARGEST_MILLIS = 100_000_000_000_000


def forms(column: str, dtype: Any) -> dict[str, Any]:
    """Every way to read `column`, as polars expressions that are null where a value is of another form.

    Keys: 'int' and 'decimal' (numbers, in the column's own unit), or the ISO forms (milliseconds).
    Texts without an offset count as UTC. An empty mapping says that the type holds no times.
    """
    pl = require("polars", "train")
    value = pl.col(column)
    if dtype in (pl.Date, pl.Datetime):
        return {"local": value.cast(pl.Datetime("ms")).dt.epoch("ms")}
    if dtype.is_integer():
        return {"int": value.cast(pl.Int64, strict=False), "decimal": value.cast(pl.Float64)}
    if dtype.is_float():
        return {"decimal": pl.when(value.is_finite()).then(value.cast(pl.Float64))}
    if dtype not in (pl.String, pl.Categorical, pl.Enum):
        return {}
    text = value.cast(pl.String).str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    joined = text.str.replace(" ", "T", literal=True)
    readings = {
        "int": text.cast(pl.Int64, strict=False),
        "decimal": pl.when(number.is_finite()).then(number),
    }
    for form, pattern in _ISO.items():
        kind = pl.Date if form == "day" else pl.Datetime("ms", "UTC" if form == "offset" else None)
        readings[form] = joined.str.strptime(kind, pattern, strict=False).cast(pl.Datetime("ms")).dt.epoch("ms")
    return readings


def family(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The forms to read a column by: one of the numbers', or the ISO forms it mixes, whichever reads more values.

    counts: form -> how many values can be read so; 'decimal' counts every int too.
    """
    texts = {form: counts.get(form, 0) for form in _ISO}
    if sum(texts.values()) > counts.get("decimal", 0):
        return tuple(form for form, count in texts.items() if count)
    return ("decimal",) if counts.get("decimal", 0) > counts.get("int", 0) else ("int",)


def unit_of(asked: str, largest: float, where: str) -> str:
    """'s' or 'ms' for a column of numbers up to `largest` in size; raises DataError where neither fits."""
    unit = asked if asked != "auto" else ("s" if largest < _LARGEST_SECONDS else "ms")
    if largest >= (_LARGEST_SECONDS if unit == "s" else _LARGEST_MILLIS):
        raise DataError(
            f"{where} reaches {largest:.0f}, too large for {'seconds' if unit == 's' else 'milliseconds'} since 1970; "
            "divide it (micro- and nanoseconds are not read) or name the right unit"
        )
    return unit


def straddles(smallest: float, largest: float) -> bool:
    """Whether a column of numbers holds both units. smallest, largest: of their sizes; zero is the same in both."""
    return smallest < _LARGEST_SECONDS <= largest


def unit_conditions(size: Any) -> dict[str, Any]:
    """By unit, the polars condition that a number of this `size` (an expression) can be of that unit alone."""
    return {"s": (size > 0) & (size < _LARGEST_SECONDS), "ms": size >= _LARGEST_SECONDS}


def milliseconds(readings: Mapping[str, Any], used: tuple[str, ...], unit: str) -> Any:
    """A polars expression: int64 milliseconds since 1970, null where no used form reads the value.

    readings: of one file, from `forms`; used: from `family`; unit: 's' or 'ms', of numbers.
    """
    pl = require("polars", "train")
    factor = 1000 if unit == "s" else 1
    scaled = {
        "int": lambda value: value * factor,
        "decimal": lambda value: (value * factor).round().cast(pl.Int64),
    }
    expressions = [scaled.get(form, lambda value: value)(readings[form]) for form in used if form in readings]
    return pl.coalesce(expressions) if expressions else pl.lit(None, pl.Int64)
