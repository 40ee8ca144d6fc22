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
# Params that a run finds: the way that our code chose (or an option of some benches), and counts.
_WAYS = ("backend", "compute_dtype", "k_factor", "nprobe", "pairs")
Key = tuple[str, ...]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A result file.

    at: when it started. quick: whether the smallest cases were run. rows: results in the bench JSON schema.
    """

    path: Path
    machine: Mapping[str, Any]
    commit: str | None
    at: str
    quick: bool
    rows: Sequence[Row]


def read_run(path: Path) -> Run:
    """Read a result file. Raises DataError if it is none."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such result file; 'python -m bench all' makes one")
    value = read_json(path, DataError)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or "machine" not in value:
        raise DataError(f"{path}: no result file of schema {SCHEMA}; measure again, with --json or 'bench all'")
    rows = [result for result in value["results"] if "metric" in result and "p50" in result]
    return Run(path, value["machine"], value["commit"], str(value.get("at")), bool(value.get("quick")), rows)


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Read result files, the preferred ones last: full runs after quick ones, later after earlier."""
    return sorted(map(read_run, paths), key=lambda run: (not run.quick, run.at, run.path.as_posix()))


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
