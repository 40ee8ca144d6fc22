"""The results of a bench: rows in the bench JSON schema, a table for people, options and exit code."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.harness.comparison import Case, Comparison, Ratio, WrongAnswerError, compare, ratio
from bench.harness.machine import checkout, describe, machine_record
from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.storage.files import write_json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One result against one baseline, with the fields of the JSON.

    p50, p95, p99, floor: ours, in the metric's unit. n: timed calls. baseline: its name, or None. ratio: median of the
    baseline over the median of ours; > 1 is better. floor: the physical limit. more: fields that follow the others.
    """

    bench: str
    case: str
    params: Mapping[str, Any]
    metric: str
    p50: float
    p95: float
    p99: float
    n: int
    baseline: str | None
    ratio: float | None
    floor: float | None
    floor_what: str | None
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values, figures to five digits."""
        values = {row_field.name: getattr(self, row_field.name) for row_field in dataclasses.fields(self)}
        values["params"] = dict(self.params)
        values |= values.pop("more")
        return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Line:
    """A row with what else the table shows: 95% intervals and the baseline's median (metric's unit)."""

    row: Row
    interval: tuple[float, float]
    baseline_p50: float | None
    ratio: Ratio | None

    @classmethod
    def of_value(
        cls,
        bench: str,
        case: str,
        params: Mapping[str, Any],
        metric: str,
        value: float,
        baseline: tuple[str, float] | None = None,
        floor: tuple[float, str] | None = None,
    ) -> Line:
        """Return the line of a value that was measured once; baseline: name and value, floor: limit and its meaning."""
        name, theirs = baseline or (None, None)
        times = None if theirs is None else theirs / value
        row = Row(bench, case, params, metric, value, value, value, 1, name, times, *(floor or (None, None)))
        return cls(row, (value, value), theirs, None if times is None else Ratio(times, times, times))

    def as_json(self) -> dict[str, Any]:
        """Return the row, with the ends of its ratio's interval if it has one."""
        has_interval = self.ratio is not None and self.ratio.low < self.ratio.high  # else it was measured once
        ends = {"ratio_low": self.ratio.low, "ratio_high": self.ratio.high} if self.ratio and has_interval else {}
        return replace(self.row, more={**self.row.more, **ends}).as_json()


class Report:
    """Collects the results of one run of a bench; `finish` prints and writes them and returns the exit code.

    quick: whether the smallest cases are run. lines: rows of the table and of the JSON. notes: lines for people under
    the table. rows: further rows of the JSON. records: results of another form, written to the JSON as they are.
    """

    def __init__(self, bench: str, quick: bool) -> None:
        self.bench, self.quick = bench, quick
        self.at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.machine = machine_record()
        self.checkout = checkout(ignoring="bench/results")
        self.lines: list[Line] = []
        self.refusals: list[str] = []
        self.notes: list[str] = []
        self.rows: list[Row] = []
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
        self.lines += lines_of(self.bench, comparison)
        return comparison

    def refuse(self, reason: str) -> None:
        """Report at once why something has no row, and fail the bench."""
        self.refusals.append(reason)
        print(f"refused: {reason}", file=sys.stderr)

    def as_json(self) -> dict[str, Any]:
        """Return the whole report in the bench JSON schema."""
        rows = [*(line.as_json() for line in self.lines), *(row.as_json() for row in self.rows)]
        return {
            "schema": SCHEMA,
            "machine": self.machine,
            "commit": self.checkout.as_json(),
            "at": self.at,
            "quick": self.quick,
            "results": [*rows, *({"bench": self.bench, **record} for record in self.records)],
        }

    def finish(self, json_path: Path | None) -> int:
        """Print the table, write the JSON if a path is given, and return 0, or 1 if anything was refused."""
        if self.lines:
            print_table(self.lines)
        for note in self.notes:
            print(note)
        print(f"{describe(self.machine)}; {self.checkout}")
        if json_path is not None:
            write_json(json_path, self.as_json())
            print(f"wrote {json_path}")
        if self.refusals:
            print(f"{len(self.refusals)} refused, see above", file=sys.stderr)
        return 1 if self.refusals else 0


def lines_of(bench: str, comparison: Comparison) -> list[Line]:
    """Return one line for each baseline; without baselines, one line without a ratio."""
    case, ours, scale = comparison.case, comparison.ours, comparison.case.scale
    limit = (None, None) if case.floor is None else (case.floor.seconds * scale, case.floor.what)
    p50, p95, p99 = scale * ours.median, scale * ours.percentile(95), scale * ours.percentile(99)
    low, high = (scale * end for end in ours.median_interval())
    lines = []
    for baseline in comparison.baselines or (None,):
        relative = None if baseline is None else ratio(ours, baseline)
        row = Row(
            bench, case.name, case.params, case.metric, p50, p95, p99, ours.n,
            None if baseline is None else baseline.name, None if relative is None else relative.value, *limit,
        )  # fmt: skip
        lines.append(Line(row, (low, high), None if baseline is None else scale * baseline.median, relative))
    return lines


def print_table(lines: Sequence[Line]) -> None:
    """Print the rows as a table on stdout, then the meaning of each floor."""
    rich_table, rich_console = require("rich.table", "train"), require("rich.console", "train")
    table = rich_table.Table(title=f"{lines[0].row.bench}: medians with 95% intervals; ratio > 1: ours is faster")
    for heading in ("case", "params", "metric"):
        table.add_column(heading)
    for heading in ("p50 [interval]", "p95", "p99", "n", "baseline p50", "ratio [interval]", "floor", "p50/floor"):
        table.add_column(heading, justify="right")
    for line in lines:
        row, times = line.row, line.ratio
        table.add_row(
            row.case,
            " ".join(f"{name}={value}" for name, value in row.params.items()),
            row.metric,
            f"{number(row.p50)} [{number(line.interval[0])}, {number(line.interval[1])}]",
            number(row.p95),
            number(row.p99),
            str(row.n),
            "" if line.baseline_p50 is None else f"{row.baseline} {number(line.baseline_p50)}",
            "" if times is None else f"{times.value:.2f} [{times.low:.2f}, {times.high:.2f}]",
            *(["", ""] if row.floor is None else [number(row.floor), f"{row.p50 / row.floor:.2f}"]),
        )
    console = rich_console.Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)
    console.print(table)
    floors = (
        f"floor of {line.row.case}, {number(line.row.floor)} {line.row.metric}: {line.row.floor_what}"
        for line in lines
        if line.row.floor is not None
    )
    for floor in dict.fromkeys(floors):  # once for all baselines of a case
        console.print(floor, markup=False, highlight=False)


def number(value: float) -> str:
    """Return the value with three significant digits, without an exponent, and with commas from 1,000 on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def bench_parser(
    bench: str, description: str, quick: str = "under a minute: the 40k catalog, batch 1"
) -> argparse.ArgumentParser:
    """Return a parser with the options of every bench: --quick (`quick`: its help) and --json."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{bench}",
        description=description,
        epilog=f"example: python -m bench.{bench} --quick --json {bench.rpartition('.')[2]}.json",
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, in the bench JSON schema")
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options. A --json file in a folder that does not exist is refused before anything is measured."""
    options = parser.parse_args(argv)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise UsageError(f"--json {options.json}: its folder does not exist; make it first")
    return options


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
