"""The result files of the suite and of each bench's --json, in the folders of their machine classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.report import SCHEMA
from mtaw_fast.errors import DataError
from mtaw_fast.storage.files import read_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench/results"
_TEXTS, _NUMBERS = ("case", "metric"), ("p50", "p95", "p99", "n")
_OPTIONAL = ("baseline", "ratio", "ratio_low", "ratio_high", "floor")
# Params that a run finds: the way that our code chose (or an option of some benches), and counts.
_WAYS = ("backend", "compute_dtype", "k_factor", "nprobe", "pairs")
Key = tuple[str, ...]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A result file.

    at: when it started. quick: whether the smallest cases were run. rows: results in the bench JSON schema. records:
    results of another form.
    """

    path: Path
    machine: Mapping[str, Any]
    commit: str | None
    at: str
    quick: bool
    rows: Sequence[Row]
    records: Sequence[Row]


def read_run(path: Path) -> Run:
    """Read a result file. Raises DataError if it is none, or a row is damaged."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such result file; 'python -m bench all' makes one")
    value = read_json(path, DataError)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not isinstance(value.get("results"), list):
        raise DataError(f"{path}: no result file of schema {SCHEMA}; measure again, with --json or 'bench all'")
    machine = value.get("machine")
    if not isinstance(machine, dict) or not {"cpu", "cpu_family", "cpu_model", "flags", "cores"} <= machine.keys():
        raise DataError(f"{path}: it does not say which machine it is of; the file is damaged, measure again")
    rows, records = [], []
    for number, result in enumerate(value["results"]):
        if not isinstance(result, dict) or not isinstance(result.get("bench"), str):
            raise DataError(f"{path}: result {number} names no bench; the file is damaged, measure again")
        if "metric" not in result or "p50" not in result:
            records.append(result)
            continue
        if wrong := _wrong(result):
            raise DataError(f"{path}: result {number} ({result['bench']}): {wrong}; the file is damaged, measure again")
        rows.append(result)
    return Run(path, machine, value.get("commit"), str(value.get("at")), bool(value.get("quick")), rows, records)


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Read result files, the preferred ones last: full runs after quick ones, later after earlier."""
    return sorted(map(read_run, paths), key=lambda run: (not run.quick, run.at, run.path.as_posix()))


def _wrong(row: Row) -> str | None:
    """Return what is wrong with a field of a row, or None."""
    for name in (*_TEXTS, "params"):
        if not isinstance(row.get(name), dict if name == "params" else str):
            return f"'{name}' is {'no object' if name == 'params' else 'no text'}"
    for name in (*_NUMBERS, *_OPTIONAL[1:]):
        value = row.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
        if not number and (value is not None or name in _NUMBERS):
            return f"'{name}' is no number over 0"
    for one, other in (("baseline", "ratio"), ("ratio_low", "ratio_high")):
        if (row.get(one) is None) != (row.get(other) is None):
            return f"'{one}' and '{other}' must both be there, or neither"
    return None


def keyed(rows: Sequence[Row]) -> Iterator[tuple[Key, Row]]:
    """Yield each row with the key of what it measures; equal rows of a file are numbered in their order.

    Params that a run finds are not part of the key, so rows still match after our code chose another way.
    """
    counts: dict[Key, int] = {}
    for row in rows:
        params = {name: value for name, value in row["params"].items() if name not in (*_WAYS, "recall")}
        key = (row["bench"], row["case"], json.dumps(params, sort_keys=True), row["metric"], str(row["baseline"]))
        counts[key] = counts.get(key, 0) + 1
        yield (*key, str(counts[key])), row


def other_way(old: Row, new: Row) -> list[str]:
    """Return the differences in what two rows found, as 'backend native -> torch'."""
    before, after = old["params"], new["params"]
    return [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in _WAYS
        if before.get(name) != after.get(name)
    ]
