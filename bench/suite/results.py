"""The result files of the suite: one for each run, in the folder of its machine class."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.machine import Checkout, machine_class
from bench.harness.report import SCHEMA
from mtaw_fast.errors import DataError
from mtaw_fast.storage.files import read_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
QUALITY = Path(__file__).resolve().parents[2] / "docs" / "results"
_MACHINE = {"cpu", "cpu_family", "cpu_model", "flags", "cores", "arch", "gpus"}
_KEYS = {"case", "params", "metric", "p50", "p95", "p99", "n", "baseline", "ratio", "floor"}
# Params that a run finds: the way that our code chose (or an option of some benches), and counts.
_WAYS = {"backend", "compute_dtype", "nprobe", "k_factor", "pairs"}
_FOUND = {*_WAYS, "recall"}
# Names in earlier result files, and what they are called now.
FORMER_NAMES: Mapping[str, Mapping[str, str]] = {
    "index": {
        "scan": "native", "exact": "numpy", "flat": "faiss-flat", "gpu": "faiss-gpu", "ladder": "ann",
        "exact scan": "exact native", "ladder (ivfpq)": "ann (ivfpq)", "ladder (hnsw)": "ann (hnsw)",
    },
    "encoder": {"eager": "torch"},
    "baseline": {"exact-scan": "exact-native"},
}  # fmt: skip
Key = tuple[str, ...]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A result file.

    date, at: of its start; files without them have the date that their name begins with, or None. quick: whether the
    smallest cases were run. rows: results in the bench JSON schema. records: results of another form.
    """

    path: Path
    machine: Mapping[str, Any]
    commit: str | None
    date: str | None
    at: str | None
    quick: bool
    rows: Sequence[Mapping[str, Any]]
    records: Sequence[Mapping[str, Any]]


def new_path(folder: Path, machine: Mapping[str, Any], commit: Checkout, date: str, quick: bool) -> Path:
    """Return FOLDER/<class>/<date>-<commit>[-dirty][-quick].json, with a number if that file exists."""
    name = commit.commit[:12] if commit.commit else "no-commit"
    stem = f"{date}-{name}{'-dirty' if commit.dirty else ''}{'-quick' if quick else ''}"
    class_folder = folder / machine_class(machine)
    path, number = class_folder / f"{stem}.json", 2
    while path.exists():
        path, number = class_folder / f"{stem}-{number}.json", number + 1
    return path


def read_run(path: Path) -> Run:
    """Read a result file, of the suite or of one bench's --json, with former names translated.

    Raises DataError if it is no result file, or a row is damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such result file; 'python -m bench all' makes one")
    value = read_json(path, DataError)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not isinstance(value.get("results"), list):
        raise DataError(
            f"{path}: no result file of schema {SCHEMA}; make one with --json, or with 'python -m bench all'"
        )
    machine = value.get("machine")
    if not isinstance(machine, dict) or _MACHINE - machine.keys():
        raise DataError(f"{path}: it does not say which machine it is of; the file is damaged, measure again")
    rows, records = [], []
    for number, result in enumerate(value["results"]):
        if not isinstance(result, dict) or not isinstance(result.get("bench"), str):
            raise DataError(f"{path}: result {number} names no bench; the file is damaged, measure again")
        if "metric" not in result or "p50" not in result:
            records.append(result)
            continue
        wrong = _wrong(result)
        if wrong:
            raise DataError(f"{path}: result {number} ({result['bench']}): {wrong}; the file is damaged, measure again")
        rows.append(_with_current_names(result))
    suite = value.get("suite", {})
    quick, at = (value.get(name, suite.get(name)) for name in ("quick", "at"))  # earlier, the suite had its own
    date = suite.get("date") or (at[:10] if at else _date_in(path.name))
    return Run(path, machine, value.get("commit"), date, at, bool(quick), rows, records)


def _date_in(name: str) -> str | None:
    """Return the date that a file's name begins with, or None."""
    match = re.match(r"\d{4}-\d{2}-\d{2}(?!\d)", name)
    return match[0] if match else None


def _with_current_names(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row with the present names of indexes and encoders."""
    params = {name: FORMER_NAMES.get(name, {}).get(str(value), value) for name, value in row["params"].items()}
    return {**row, "params": params, "baseline": FORMER_NAMES["baseline"].get(row["baseline"], row["baseline"])}


def _wrong(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a field of a row, or None."""
    absent = sorted(_KEYS - row.keys())
    if absent:
        return f"'{absent[0]}' is missing"
    for name in ("case", "metric"):
        if not isinstance(row.get(name), str):
            return f"'{name}' is no text"
    if not isinstance(row.get("params"), dict):
        return "'params' is no object"
    for name in ("p50", "p95", "p99", "n"):
        if not _positive(row.get(name)):
            return f"'{name}' is no number over 0"
    for name in ("ratio", "ratio_low", "ratio_high", "floor"):
        if row.get(name) is not None and not _positive(row[name]):
            return f"'{name}' is no number over 0"
    if (row["baseline"] is None) != (row["ratio"] is None):
        return "'baseline' and 'ratio' must both be there, or neither"
    if (row.get("ratio_low") is None) != (row.get("ratio_high") is None):
        return "'ratio_low' and 'ratio_high' must both be there, or neither"
    return None


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def keyed(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    """Yield each row with the key of what it measures; equal rows of a file are numbered in their order.

    Params that a run finds are not part of the key, so rows still match after our code chose another way.
    """
    counts: dict[Key, int] = {}
    for row in rows:
        params = json.dumps(
            {name: value for name, value in row["params"].items() if name not in _FOUND}, sort_keys=True
        )
        key = (row["bench"], row["case"], params, row["metric"], str(row["baseline"]))
        counts[key] = counts.get(key, 0) + 1
        yield (*key, str(counts[key])), row


def other_way(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences in what two rows found, as 'backend native -> torch'."""
    before, after = old["params"], new["params"]
    return [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in sorted(_WAYS)
        if before.get(name) != after.get(name)
    ]
