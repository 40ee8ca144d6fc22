"""What the benches measured, for the pages: rows of the newest result file that has them, of any machine class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.machine import machine_class
from bench.suite.results import RESULTS, Row, Run, read_run


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
    """Result files, the preferred ones last: full runs after the suite's quick ones, later after earlier."""

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
        found = (
            self.newest(bench, case, **dict(zip(by, one, strict=True)), **params) for one in sorted(values, key=str)
        )
        return [one for one in found if one is not None]


def _has(row: Row, params: dict[str, Any]) -> bool:
    own = row["params"]
    return all(
        wanted(own.get(name)) if callable(wanted) else own.get(name) == wanted for name, wanted in params.items()
    )


def origin(found: Iterable[Found | None]) -> str:
    """Return the line above a table: machine class, date, commit and load of the files that its rows are of."""
    lines = dict.fromkeys(_origin(one.run) for one in found if one is not None)
    return f"{'; '.join(lines)}:"


def _origin(run: Run) -> str:
    load = run.machine.get("load_average")
    parts = [f"`{machine_class(run.machine)}`", run.date or "no date"]
    parts += [f"commit {run.commit[:8]}{'-dirty' if run.commit.endswith('-dirty') else ''}"] if run.commit else []
    parts += [f"load average {load:.1f}"] if load is not None else []
    return ", ".join([*parts, *(["`--quick`"] if run.quick else [])])


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Return the rows by key, in the order of their first."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
