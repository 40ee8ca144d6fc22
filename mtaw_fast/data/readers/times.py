"""Convert a log's time column, numbers or ISO-8601 texts, to int64 milliseconds since 1970 (UTC)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtaw_fast.data.moments import text_of
from mtaw_fast.errors import DataError, require

UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
UNITS = ("auto", *UNIT_NAMES)
NUMBERS = ("int", "decimal")
# strptime formats, tried in turn after the blank between date and time is replaced by 'T'. '%.f' also matches no
# fraction.
_ISO = {
    "local": "%Y-%m-%dT%H:%M:%S%.f",
    "zulu": "%Y-%m-%dT%H:%M:%S%.fZ",
    "offset": "%Y-%m-%dT%H:%M:%S%.f%z",
    "minutes": "%Y-%m-%dT%H:%M",
    "day": "%Y-%m-%d",
}
NO_ZONE = {"local", "minutes", "day"}  # forms whose times count as UTC
_ZONE = "zone "  # + a zone name such as UTC or Europe/Berlin: the form of times that end in that name
_ZONE_NAME = r"[0-9] ?([A-Za-z][A-Za-z0-9_+/-]+)$"
_MAX_ZONES = 50
# The first size that belongs to the next unit. 1e11 s is the year 5138 and 1e11 ms is 1973, and so on for the next
# units, so times of clicks are never ambiguous.
TOO_LARGE = 2**63  # for any unit
_BOUNDS = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": TOO_LARGE}
_PER_MILLISECOND = {"us": 1000, "ns": 1_000_000}
_MILLISECONDS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_RECENT, _LATEST = 946_684_800_000, 4_102_444_800_000  # 2000, 2100


def forms(column: str, dtype: Any, zones: Sequence[str] = ()) -> dict[str, Any]:
    """Return every way to read `column`: polars expressions that are null for a value of another form.

    Keys: 'int' and 'decimal' (numbers, in the column's own unit), or the ISO forms (milliseconds), also those of
    `zones`. Texts without an offset count as UTC. The mapping is empty for a column type that cannot be a time.
    """
    pl = require("polars", "train")
    value = pl.col(column)
    if dtype in (pl.Date, pl.Datetime):
        zone = dtype == pl.Datetime and dtype.time_zone is not None
        return {"offset" if zone else "local": value.cast(pl.Datetime("ms")).dt.epoch("ms")}
    if dtype.is_integer():
        return {"int": value.cast(pl.Int64, strict=False), "decimal": value.cast(pl.Float64)}
    if dtype.is_float():
        return {"decimal": pl.when(value.is_finite()).then(value.cast(pl.Float64))}
    if not is_text(dtype):
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
    for zone in zones:
        bare = text.str.strip_suffix(zone).str.strip_chars_end().str.replace(" ", "T", literal=True)
        local = pl.when(text.str.ends_with(zone)).then(bare)
        moment = pl.coalesce(
            local.str.strptime(pl.Datetime("ms"), _ISO[form], strict=False) for form in ("local", "minutes")
        )
        # An hour that occurs twice means the first one; an hour that the clocks skip cannot be read.
        zoned = moment.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        readings[_ZONE + zone] = zoned.dt.epoch("ms")
    return readings


def is_text(dtype: Any) -> bool:
    """Return whether a column of this type has texts."""
    pl = require("polars", "train")
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def zones_of(frame: Any, column: str) -> list[str]:
    """Return the names of time zones that texts of `column` end in, except the Z of ISO-8601."""
    pl = require("polars", "train")
    ends = frame.select(pl.col(column).cast(pl.String).str.strip_chars().str.extract(_ZONE_NAME).unique().alias("zone"))
    names = ends.drop_nulls().head(_MAX_ZONES).collect(engine="streaming")["zone"].to_list()
    return sorted(zone for zone in names if _is_zone(zone))


def _is_zone(name: str) -> bool:
    pl = require("polars", "train")
    try:
        pl.Series([0]).cast(pl.Datetime("ms")).dt.replace_time_zone(name)
    except pl.exceptions.PolarsError:
        return False
    return True


def zones_in(used: Sequence[str]) -> list[str]:
    """Return the zones among the forms `used`."""
    return [form.removeprefix(_ZONE) for form in used if form.startswith(_ZONE)]


def family(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the forms to read a column by, whichever reads more values: a form of numbers, or all ISO forms that
    occur.

    counts: by form, the number of values that it reads; 'decimal' also counts every int.
    """
    texts = {form: count for form, count in counts.items() if form not in NUMBERS}
    if sum(texts.values()) > counts.get("decimal", 0):
        return tuple(form for form, count in texts.items() if count)
    return ("decimal",) if counts.get("decimal", 0) > counts.get("int", 0) else ("int",)


def unit_of(time_unit: str, largest: float, where: str) -> str:
    """Return the unit of a column of numbers up to `largest`. Raises DataError if `time_unit` does not fit."""
    likely = own_unit(largest)
    unit = time_unit if time_unit != "auto" else likely
    moment = largest * _MILLISECONDS[likely]
    if unit != likely and _RECENT <= moment < _LATEST:
        raise DataError(
            f"{where} reaches {largest:.0f}, {text_of(int(moment))} in {UNIT_NAMES[likely]}: it is not in "
            f"{UNIT_NAMES[unit]}; set --time-unit {likely}, or leave it out"
        )
    if largest >= _BOUNDS[unit]:
        raise DataError(
            f"{where} reaches {largest:.0f}, too large for {UNIT_NAMES[unit]} since 1970; divide it or name the right "
            "unit"
        )
    return unit


def own_unit(size: float) -> str:
    """Return the unit of a number with this absolute value, if it is the time of a click."""
    return next((unit for unit, bound in _BOUNDS.items() if size < bound), "ns")


def straddles(smallest: float, largest: float) -> bool:
    """Return whether the numbers of a column have two units.

    smallest, largest: the extremes of the absolute values, without 0.
    """
    return smallest <= largest and own_unit(smallest) != own_unit(largest)


def unit_of_most(time_unit: str, rows_of: Mapping[str, int]) -> tuple[str, tuple[float, float]]:
    """Return the unit of a column with several units, and the sizes [low, high) of its valid numbers.

    time_unit: the unit to use, or 'auto' for that of most rows. With a unit given, smaller numbers are invalid only if
    they are the minority. rows_of: by unit, how many numbers have only this unit, taken as times of clicks.
    """
    if time_unit == "auto":
        unit = max(UNIT_NAMES, key=lambda name: rows_of[name])
        return unit, _sizes_of(unit)
    low, high = _sizes_of(time_unit)
    smaller = sum(rows_of[name] for name, bound in _BOUNDS.items() if bound <= low)
    return time_unit, (low if rows_of[time_unit] >= smaller else 0.0, high)


def _sizes_of(unit: str) -> tuple[float, float]:
    """Return low and high: an absolute value in [low, high), as the time of a click, can only have this unit."""
    low = max((bound for bound in _BOUNDS.values() if bound < _BOUNDS[unit]), default=0)
    return low, _BOUNDS[unit]


def unit_conditions(size: Any) -> dict[str, Any]:
    """Return by unit the polars condition that a number of this `size` (an expression) has only that unit."""
    conditions = {}
    for unit in _BOUNDS:
        low, high = _sizes_of(unit)
        conditions[unit] = (size > 0 if low == 0 else size >= low) & (size < high)
    return conditions


def milliseconds(readings: Mapping[str, Any], used: tuple[str, ...], unit: str) -> Any:
    """Return a polars expression: int64 milliseconds since 1970, null if no form in `used` reads the value.

    readings: the result of `forms` for a part of the log. used: the result of `family`. unit: that of numbers.
    """
    pl = require("polars", "train")
    factor, divisor = 1000 if unit == "s" else 1, _PER_MILLISECOND.get(unit, 1)
    conversions = {
        "int": lambda value: value * factor if divisor == 1 else value // divisor,
        "decimal": lambda value: (value * factor / divisor).round().cast(pl.Int64, strict=False),
    }
    expressions = [conversions.get(form, lambda value: value)(readings[form]) for form in used if form in readings]
    return pl.coalesce(expressions) if expressions else pl.lit(None, pl.Int64)
