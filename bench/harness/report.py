"""The results of a bench: rows in the bench JSON schema, a table for people, options and exit code."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.harness.comparison import Case, Comparison, WrongAnswerError, compare, ratio
from bench.harness.machine import commit_of, describe, machine_record
from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.storage.files import write_json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One result against one baseline; the fields up to `floor_what` are those of the JSON.

    p50, p95, p99, floor: ours, in the metric's unit. n: timed calls. baseline: its name, or None. ratio: median of the
    baseline over the median of ours; > 1 is better. floor: the physical limit. more: fields that follow the others.
    interval, ratio_interval: 95% intervals of p50 and of the ratio. baseline_p50: its median.
    """

    bench: str
    case: str
    params: Mapping[str, Any]
    metric: str
    p50: float
    p95: float
    p99: float
    n: int
    baseline: str | None = None
    ratio: float | None = None
    floor: float | None = None
    floor_what: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    ratio_interval: tuple[float, float] | None = None
    baseline_p50: float | None = None

    @classmethod
    def of(
        cls, bench: str, case: str, params: Mapping[str, Any], metric: str, values: ArrayLike,
        more: Mapping[str, Any] | None = None, baseline: tuple[str, float] | None = None,
        floor: tuple[float, str] | None = None,
    ) -> Row:  # fmt: skip
        """Return the row of values in the metric's unit; baseline: name and value, floor: limit and its meaning."""
        figures = np.asarray(values, float)
        p50, p95, p99 = np.percentile(figures, (50, 95, 99), method="inverted_cdf").tolist()
        name, theirs = baseline or (None, None)
        return cls(
            bench, case, params, metric, p50, p95, p99, figures.size, name, None if theirs is None else theirs / p50,
            *(floor or (None, None)), more=more or {}, baseline_p50=theirs,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values, figures to five digits."""
        values = {row_field.name: getattr(self, row_field.name) for row_field in dataclasses.fields(self)[:12]}
        values["params"] = dict(self.params)
        if self.ratio_interval is not None:
            values |= zip(("ratio_low", "ratio_high"), self.ratio_interval, strict=True)
        values |= self.more
        return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in values.items()}


class Report:
    """Collects the results of one run of a bench; `finish` prints and writes them and returns the exit code.

    quick: whether the smallest cases are run. rows: of the table and of the JSON. notes: lines for people under the
    table. records: results of another form, written to the JSON as they are.
    """

    def __init__(self, bench: str, quick: bool) -> None:
        self.bench, self.quick = bench, quick
        self.at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.machine = machine_record()
        self.commit = commit_of(ignoring="bench/results")
        self.rows: list[Row] = []
        self.refusals: list[str] = []
        self.notes: list[str] = []
        self.records: list[Mapping[str, Any]] = []

    def run(self, case: Case) -> Comparison | None:
        """Check and time a case and keep its rows. A wrong answer is reported at once and has no row."""
        try:
            comparison = compare(case)
        except WrongAnswerError as error:
            self.refuse(str(error))
            return None
        for name, reason in comparison.refused.items():
            self.refuse(f"{case.name}: {name}: {reason}; no speed is reported")
        self.rows += rows_of(self.bench, comparison)
        return comparison

    def refuse(self, reason: str) -> None:
        """Report at once why something has no row, and fail the bench."""
        self.refusals.append(reason)
        print(f"refused: {reason}", file=sys.stderr)

    def as_json(self) -> dict[str, Any]:
        """Return the whole report in the bench JSON schema."""
        records = ({"bench": self.bench, **record} for record in self.records)
        return {
            "schema": SCHEMA,
            "machine": self.machine,
            "commit": self.commit,
            "at": self.at,
            "quick": self.quick,
            "results": [*(row.as_json() for row in self.rows), *records],
        }

    def finish(self, json_path: Path | None) -> int:
        """Print the table, write the JSON if a path is given, and return 0, or 1 if anything was refused."""
        if self.rows:
            print_table(self.rows)
        for note in self.notes:
            print(note)
        print(self.origin())
        if json_path is not None:
            write_json(json_path, self.as_json())
            print(f"wrote {json_path}")
        if self.refusals:
            print(f"{len(self.refusals)} refused, see above", file=sys.stderr)
        return 1 if self.refusals else 0

    def origin(self) -> str:
        """Return one line on machine and commit."""
        return f"{describe(self.machine)}; {self.commit or 'no commit'}"


def rows_of(bench: str, comparison: Comparison) -> list[Row]:
    """Return one row for each baseline; without baselines, one row without a ratio."""
    case, ours, scale = comparison.case, comparison.ours, comparison.case.scale
    low, high = (scale * end for end in ours.median_interval())
    plain = Row.of(
        bench, case.name, case.params, case.metric, scale * ours.seconds,
        floor=None if case.floor is None else (case.floor.seconds * scale, case.floor.what),
    )  # fmt: skip
    plain = replace(plain, p50=scale * ours.median, interval=(low, high))
    rows = []
    for baseline in comparison.baselines:
        relative = ratio(ours, baseline)
        rows.append(replace(
            plain, baseline=baseline.name, ratio=relative.value, ratio_interval=(relative.low, relative.high),
            baseline_p50=scale * baseline.median,
        ))  # fmt: skip
    return rows or [plain]


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows as a table on stdout, then the meaning of each floor."""
    rich_table, rich_console = require("rich.table", "train"), require("rich.console", "train")
    table = rich_table.Table(title=f"{rows[0].bench}: medians with 95% intervals; ratio > 1: ours is faster")
    for heading in ("case", "params", "metric"):
        table.add_column(heading)
    for heading in ("p50 [interval]", "p95", "p99", "n", "baseline p50", "ratio [interval]", "floor", "p50/floor"):
        table.add_column(heading, justify="right")

    def ends(interval: tuple[float, float] | None) -> str:
        return "" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]"

    for row in rows:
        table.add_row(
            row.case,
            " ".join(f"{name}={value}" for name, value in row.params.items()),
            row.metric,
            number(row.p50) + ends(row.interval),
            number(row.p95),
            number(row.p99),
            str(row.n),
            "" if row.baseline_p50 is None else f"{row.baseline} {number(row.baseline_p50)}",
            "" if row.ratio is None else f"{row.ratio:.2f}{ends(row.ratio_interval)}",
            *(["", ""] if row.floor is None else [number(row.floor), f"{row.p50 / row.floor:.2f}"]),
        )
    console = rich_console.Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)
    console.print(table)
    floors = (
        f"floor of {row.case}, {number(row.floor)} {row.metric}: {row.floor_what}"
        for row in rows
        if row.floor is not None
    )
    for floor in dict.fromkeys(floors):  # once for all baselines of a case
        console.print(floor, markup=False, highlight=False)


def number(value: float) -> str:
    """Return the value with three significant digits, without an exponent, and with commas from 1,000 on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def bench_parser(
    bench: str, doc: str | None, quick: str = "under a minute: the 40k catalog, batch 1"
) -> argparse.ArgumentParser:
    """Return a parser with the options of every bench: --quick (`quick`: its help) and --json. doc: of the module."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{bench}",
        description=(doc or "").splitlines()[0],
        epilog=f"example: python -m bench.{bench} --quick --json {bench.rpartition('.')[2]}.json",
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, in the bench JSON schema")
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, needs: Sequence[str] = ()
) -> argparse.Namespace:
    """Parse the options. A --json file in a folder that does not exist is refused before anything is measured.

    needs: packages that the extra 'bench' has.
    """
    options = parser.parse_args(argv)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise UsageError(f"--json {options.json}: its folder does not exist; make it first")
    for package in needs:
        require(package, "bench")
    return options


def chosen(option: str, text: str | None, known: Iterable[str], what: str = "case") -> list[str]:
    """Return the names of an option, separated by commas; all if it is not given, UsageError for an unknown one."""
    known = list(known)
    names = known if text is None else [name for name in text.split(",") if name]
    for name in names or [""]:
        if name not in known:
            raise UsageError(f"{option} {text}: there is no {what} {name!r}; choose from {', '.join(known)}")
    return names


def command(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Decorate the main function of a command: an MtawError is printed as one line and becomes the exit code."""

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except MtawError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code

    return run


def whole_numbers(option: str, text: str, minimum: int = 1) -> list[int]:
    """Return the numbers of an option, separated by commas; UsageError if one is not whole or below `minimum`."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < minimum or not all(map(float.is_integer, numbers)):
        raise UsageError(f"{option} {text}: give whole numbers from {minimum} on, with commas, such as 10000,1e6")
    return [int(number) for number in numbers]


def say(what: str) -> None:
    """Report progress on stderr."""
    print(f"{what} ..", file=sys.stderr, flush=True)
