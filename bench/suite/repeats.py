"""Merge the rows of several processes into one, whose interval contains their differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from bench.harness.powers import student_quantile
from bench.suite.results import keyed

_COUNTS = {"n", "answered", "checked", "errors"}


def merged(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """Merge the rows of repeated runs of a bench into one list.

    Parameters
    ----------
    runs
        The results of each process: rows of the bench JSON schema, or records of another form.

    Returns
    -------
    A row for each that every run has: medians of the numbers, sums of the counts, the geometric mean of the ratios with
    Student's 95% interval over the processes (or the one within them, if it is wider), and `runs`. Records and the rows
    of a single run are unchanged.
    """
    if len(runs) < 2:
        return [row for run in runs for row in run]
    records = [row for run in runs for row in run if not _is_row(row)]
    by_key = [dict(keyed([row for row in run if _is_row(row)])) for run in runs]
    common = [key for key in by_key[0] if all(key in rows for rows in by_key)]
    return [*(_one([rows[key] for rows in by_key]) for key in common), *records]


def _is_row(result: Mapping[str, Any]) -> bool:
    return "metric" in result and "p50" in result


def _one(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row = dict(rows[0]) | {"runs": len(rows)}
    for name, first in rows[0].items():
        values: list[Any] = [run_row.get(name) for run_row in rows]
        if _is_number(first) and all(map(_is_number, values)) and not name.startswith("ratio"):
            row[name] = sum(values) if name in _COUNTS else statistics.median(values)
    if row["ratio"] is None:
        return row
    logs = [math.log(run_row["ratio"]) for run_row in rows]
    middle = statistics.fmean(logs)
    between = student_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    inside = [_half_width(run_row) for run_row in rows if run_row.get("ratio_low") is not None]
    half = max([between, *([math.hypot(*inside) / len(inside)] if inside else [])])
    ends = {"ratio": middle, "ratio_low": middle - half, "ratio_high": middle + half}
    return row | {name: float(f"{math.exp(value):.5g}") for name, value in ends.items()}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _half_width(row: Mapping[str, Any]) -> float:
    return math.log(row["ratio_high"] / row["ratio_low"]) / 2
