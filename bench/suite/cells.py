"""Cells of the pages' tables: numbers, times, ratios and sizes as they are written there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.harness.report import number
from bench.quality.table import markdown
from bench.suite.measured import Found, origin
from bench.suite.results import Row

NOTHING = "No record yet."
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def duration(value: float, metric: str) -> str:
    """Return a time with its unit. metric: ends with the unit of the value, as in 'latency_us'."""
    seconds = value * _UNITS[metric.rpartition("_")[2]]
    unit = next(name for name, size in reversed(_UNITS.items()) if seconds >= 0.9995 * size or name == "us")
    return f"{number(seconds / _UNITS[unit])} {unit}"


def times(ratio: float | None) -> str:
    """Return a ratio as pages write it."""
    return "" if ratio is None else f"{number(ratio)} x"


def size(value: float) -> str:
    """Return a size as 10^4 or 3x10^6; below 1,000 as it is."""
    digits = f"{value:.0e}"
    if value < 1000 or float(digits) != value:
        return f"{value:,.0f}"
    head, exponent = digits.split("e")
    return f"{'' if head == '1' else f'{head}x'}10^{int(exponent)}"


def against(rows: Iterable[Row], baselines: Sequence[str]) -> list[str]:
    """Return a cell for each baseline: its ratio in these rows of one measurement."""
    ratios = {row["baseline"]: row["ratio"] for row in rows}
    return [times(ratios.get(name)) for name in baselines]


def baselines_of(rows: Iterable[Row]) -> list[str]:
    """Return the names of the baselines, in the order of the rows."""
    return list(dict.fromkeys(row["baseline"] for row in rows if row["baseline"] is not None))


def floor(row: Row) -> str:
    """Return the limit of a row with its unit; empty without one."""
    return "" if row["floor"] is None else duration(row["floor"], row["metric"])


def table(found: Found | Sequence[Found], head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table below the line that says which files its rows are of."""
    files = [found] if isinstance(found, Found) else found
    return f"{origin(files)}\n\n{markdown(head, rows)}"


def missed_note(met: bool) -> str:
    """Return what follows a target: nothing if it is met."""
    return "" if met else ", missed"
