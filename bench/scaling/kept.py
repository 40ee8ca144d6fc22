"""The result file, rewritten after each point, so that a run continues after the last one."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness.powers import Power, power_of
from bench.harness.report import Report
from mtaw_fast.errors import DataError
from mtaw_fast.storage.files import read_json, write_json

BENCH = "scaling"
_POWER = "power"  # of a record: what was fitted
_LEFT_OUT = "left_out"
Row = Mapping[str, Any]


class Kept:
    """Rows and records of a result file; without a path they stay in memory.

    Raises DataError if the file is not a result of this bench at this commit on this machine.
    """

    def __init__(self, path: Path | None, report: Report) -> None:
        self._path, self._report, self._quick = path, report, report.quick
        self._rows: dict[str, Row] = {}
        self._left_out: dict[str, Row] = {}
        self._read()

    def rows(self, case: str, axis: str, fixed: Mapping[str, Any]) -> list[Row]:
        """Return the rows of a curve, in order of size."""
        matching = [row for row in self._rows.values() if row["case"] == case and _is_of(row["params"], axis, fixed)]
        return sorted(matching, key=lambda row: row["params"][axis])

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows and write the file."""
        with self._alone():
            self._read()
            for row in rows:
                self._rows[_key(row)] = row
                self._left_out.pop(_key(row, metric=False), None)
            self._write()

    def leave_out(self, case: str, params: Mapping[str, Any], reason: str) -> None:
        """Record why a point is missing."""
        record = {"bench": BENCH, "case": case, "params": dict(params), _LEFT_OUT: reason}
        with self._alone():
            self._read()
            self._left_out[_key(record, metric=False)] = record
            self._write()

    @property
    def results(self) -> list[Row]:
        """All rows, the powers fitted to them, and what was left out."""
        return [*self._rows.values(), *powers(list(self._rows.values())), *self._left_out.values()]

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        value = read_json(self._path, DataError)
        results = value.get("results") if isinstance(value, dict) else None
        if not isinstance(results, list) or any(result.get("bench") != BENCH for result in results):
            raise DataError(f"{self._path}: no result of this bench; name another file")
        commit = self._report.checkout.as_json()
        if value.get("commit") != commit:
            raise DataError(
                f"{self._path}: its points are of commit {value.get('commit')}, not {commit}; name another file"
            )
        theirs, ours = value["machine"], self._report.machine
        if any(theirs.get(name) != ours[name] for name in ("cpu", "cpu_family", "cpu_model", "cores")):
            raise DataError(f"{self._path}: its points are of another machine; name another file")
        self._quick = self._quick and bool(value.get("quick"))  # one whole run makes it no quick file
        for result in results:
            if _LEFT_OUT in result:
                self._left_out.setdefault(_key(result, metric=False), result)
            elif "p50" in result:
                self._rows.setdefault(_key(result), result)

    def _write(self) -> None:
        if self._path is not None:
            write_json(self._path, {**self._report.as_json(), "quick": self._quick, "results": self.results})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the file: cases that run at the same time write it in turns."""
        if self._path is None:
            yield
            return
        with self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def powers(rows: Sequence[Row]) -> list[Row]:
    """Return a record for every curve of two points or more: the powers fitted to its times and its peak memory."""
    curves: dict[str, list[Row]] = {}
    for row in rows:
        params = {name: value for name, value in row["params"].items() if name != row["along"]}
        identity = {"case": row["case"], "metric": row["metric"], "along": row["along"], "params": params}
        curves.setdefault(json.dumps(identity, sort_keys=True), []).append(row)
    results: list[Row] = []
    for text, points in curves.items():
        if len({row["params"][row["along"]] for row in points}) > 1:
            results.append({"bench": BENCH, **json.loads(text), _POWER: _as_json(fitted(points))})
    return results


def fitted(rows: Sequence[Row]) -> Power:
    """Fit the power of a curve's rows."""
    sizes = [row["params"][row["along"]] for row in rows]
    return power_of(sizes, [row["p50"] for row in rows], [row["spread"] for row in rows])


def _as_json(power: Power) -> dict[str, Any]:
    bend = power.bend
    turn = None if bend is None else {"at": bend.size, "before": round(bend.before, 3), "after": round(bend.after, 3)}
    ends = {"exponent": power.exponent, "low": power.low, "high": power.high}
    return {**{name: round(value, 3) for name, value in ends.items()}, "points": power.points, "bend": turn}


def _is_of(params: Mapping[str, Any], axis: str, fixed: Mapping[str, Any]) -> bool:
    return axis in params and {name: value for name, value in params.items() if name != axis} == dict(fixed)


def _key(row: Row, *, metric: bool = True) -> str:
    return json.dumps([row["case"], row["params"], row["metric"] if metric else None], sort_keys=True)
