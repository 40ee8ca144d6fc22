"""What the benches measured, for the pages: rows of the newest result file that has them, of any machine class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.harness.machine import machine_class
from bench.suite.results import RESULTS, Row, Run, read_run

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one result file, in its order; at least one."""

    run: Run
    rows: Sequence[Row]

    def of(self, case: str, **params: Any) -> list[Row]:
        """Return the rows of a case that have these params."""
        return [row for row in self.rows if row["case"] == case and _has(row, params)]


@dataclass(frozen=True, slots=True)
class Measured:
    """Result files, the preferred ones last: full runs after quick ones, later after earlier."""

    runs: Sequence[Run]

    @classmethod
    def read(cls, folder: Path = RESULTS) -> Measured:
        """Read every result file below a folder; DataError if one is damaged."""
        runs = [read_run(path) for path in folder.glob("*/*.json")]
        return cls(sorted(runs, key=lambda run: (not run.quick, run.date or "", run.at or "", run.path.as_posix())))

    def newest(self, bench: str, cases: str | Sequence[str], **params: Any) -> Found | None:
        """Return the rows of these cases in the newest file that has the first of them; None without one.

        params: values that each row must have, or functions of the value.
        """
        names = (cases,) if isinstance(cases, str) else tuple(cases)
        for run in reversed(self.runs):
            rows = [row for row in run.rows if row["bench"] == bench and row["case"] in names and _has(row, params)]
            if any(row["case"] == names[0] for row in rows):
                return Found(run, rows)
        return None

    def newest_each(self, bench: str, case: str, by: Sequence[str], **params: Any) -> list[Found]:
        """Return, for each set of values of the params `by`, the rows of the newest file that has them."""
        values = {
            tuple(row["params"].get(name) for name in by)
            for run in self.runs
            for row in run.rows
            if row["bench"] == bench and row["case"] == case and _has(row, params)
        }
        candidates = (
            self.newest(bench, case, **{**params, **dict(zip(by, value, strict=True))})
            for value in sorted(values, key=str)
        )
        return [candidate for candidate in candidates if candidate is not None]


def _has(row: Row, params: dict[str, Any]) -> bool:
    row_params = row["params"]
    return all(
        wanted(row_params.get(name)) if callable(wanted) else row_params.get(name) == wanted
        for name, wanted in params.items()
    )


def origin(found: Iterable[Found]) -> str:
    """Return the line above a table: machine class, date, commit and load of the files that its rows are of."""
    groups = grouped((file.run for file in found), _made)
    return f"{'; '.join(', '.join([*parts, *_loads(runs)]) for parts, runs in groups.items())}:"


def _made(run: Run) -> tuple[str, ...]:
    parts = [f"`{machine_class(run.machine)}`", run.date or "no date"]
    parts += [f"commit {run.commit[:8]}{'-dirty' if run.commit.endswith('-dirty') else ''}"] if run.commit else []
    return (*parts, *(["`--quick`"] if run.quick else []))


def _loads(runs: Sequence[Run]) -> list[str]:
    """Return the least and the largest load average at the start of runs, in words; nothing if none says it."""
    loads = [run.machine["load_average"] for run in runs if run.machine.get("load_average") is not None]
    ends = dict.fromkeys(f"{load:.1f}" for load in (min(loads), max(loads))) if loads else {}
    return [f"load average {' to '.join(ends)}"] if ends else []


def grouped(every: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return values by key, in the order of the first of each."""
    groups: dict[K, list[T]] = {}
    for value in every:
        groups.setdefault(key(value), []).append(value)
    return groups
