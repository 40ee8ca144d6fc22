"""Write the tables of the pages from their records: those between `<!-- NAME -->` and `<!-- end -->`.

python -m bench.suite.tables [NAME ..]       print them
python -m bench.suite.tables --write DIR     write each into the Markdown files of DIR and of DIR/results

A table is declared in SPEED, from the result files of benches, or made by a function here. A finding that no bench
prints is a line of by-hand.jsonl, whose table is `by hand: NAME`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import string
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import register
from bench.harness.machine import machine_class
from bench.harness.powers import power_of
from bench.harness.register import read_json_lines
from bench.harness.report import command, number
from bench.peers.records import trained
from bench.peers.table import quality as peers_quality
from bench.quality.records import HELD_OUT, NOT_REFIT, protocol_of, records_in
from bench.quality.table import TITLES, ablations, ceiling, markdown, new_items, readings
from bench.suite.results import ROOT, Row, Run, read_runs
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.storage.files import write_bytes

BLOCK = re.compile(r"(?P<begin><!-- (?P<name>(?!end -->)[^\n]+?) -->)\n(?:(?!<!-- ).)*(?P<end><!-- end -->)", re.DOTALL)
NOTHING = "No record yet."
BY_HAND = "by-hand.jsonl"
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_METRICS = ("P@20", "MRR@20")
Blocks = Mapping[str, Callable[[], str]]
Line = dict[str, Any]
Cell = str | Callable[[Line], str]  # a format string over a line, or a function of it


class _Cells(string.Formatter):
    """Format strings with more types: `n` has three digits, `us`, `ms` and `s` are the unit of a time, `N` a size."""

    def get_value(self, key: int | str, _: Sequence[Any], line: Mapping[str, Any]) -> Any:
        return line.get(str(key))

    def format_field(self, value: Any, kind: str) -> str:
        if value is None:
            return ""
        if kind in _UNITS:
            return duration(value, kind)
        return {"n": number, "N": size}[kind](value) if kind in ("n", "N") else format(value, kind)


def duration(value: float, unit: str) -> str:
    """Return a time in the unit in which it is shortest."""
    seconds = value * _UNITS[unit]
    best = next(name for name, step in reversed(_UNITS.items()) if seconds >= 0.9995 * step or name == "us")
    return f"{number(seconds / _UNITS[best])} {best}"


def size(value: float) -> str:
    """Return a size as 10^4 or 3x10^6; below 1,000 as it is."""
    digits = f"{value:.0e}"
    if value < 1000 or float(digits) != value:
        return f"{value:,.0f}"
    head, exponent = digits.split("e")
    return f"{'' if head == '1' else f'{head}x'}10^{int(exponent)}"


def _text(cell: Cell, line: Line) -> str:
    return _Cells().vformat(cell, (), line) if isinstance(cell, str) else cell(line)


def _target(value: str | Callable[[Line], float], limit: float, unit: str = "") -> Cell:
    """Return the cell of a target, an upper limit. value: of a line, or the name of a figure in it."""
    of = value if callable(value) else lambda line: line[value]
    return lambda line: f"{limit:g}{unit}{'' if of(line) <= limit else ', missed'}"


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a table, from rows of result files.

    cases: the newest file with rows of the first is taken. cells: for `Table.head`, over the params, the fields of the
    first row, and the p50 of every metric by its name. where: which params count. each: params, for each of whose
    values the newest file is taken. by: what makes a line; by default rows that differ in metric and baseline alone.
    """

    bench: str
    cases: str
    cells: Sequence[Cell]
    where: Callable[[Mapping[str, Any]], bool] = lambda _: True
    each: Sequence[str] = ()
    by: Callable[[Row], Any] = lambda row: (row["case"], json.dumps(row["params"], sort_keys=True))


@dataclass(frozen=True, slots=True)
class Table:
    """Parts with the same columns. peers: whether the ratio to each baseline is a further column."""

    head: Sequence[str]
    parts: Sequence[Part]
    peers: bool = False


def newest_rows(part: Part, runs: Sequence[Run]) -> list[tuple[Run, list[Row]]]:
    """Return the rows of a part with their files, by the values of its `each`."""
    cases = part.cases.split()
    newest: dict[tuple[Any, ...], tuple[Run, list[Row]]] = {}
    for run in runs:
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in run.rows:
            if row["bench"] == part.bench and row["case"] in cases and part.where(row["params"]):
                groups.setdefault(tuple(row["params"].get(name) for name in part.each), []).append(row)
        for key, rows in groups.items():
            if any(row["case"] == cases[0] for row in rows):
                newest[key] = run, rows
    return [newest[key] for key in sorted(newest)]


def speed(table: Table, runs: Sequence[Run]) -> str:
    """Return a table of what benches measured, below a line that says which files its rows are of."""
    files, lines = [], []
    for part in table.parts:
        for run, rows in newest_rows(part, runs):
            files.append(run)
            groups: dict[Any, list[Row]] = {}
            for row in rows:
                groups.setdefault(part.by(row), []).append(row)
            for group in groups.values():
                metrics = {row["metric"]: row["p50"] for row in group}
                line = {**group[0]["params"], **group[0], **metrics, "rows": group}
                ratios = {row["baseline"]: row["ratio"] for row in group if row["ratio"] is not None}
                lines.append(([_text(cell, line) for cell in part.cells], ratios))
    if not lines:
        return NOTHING
    peers = list(dict.fromkeys(name for _, ratios in lines for name in ratios)) if table.peers else []
    cells = [
        [*texts, *(f"{number(ratios[name])} x" if name in ratios else "" for name in peers)] for texts, ratios in lines
    ]
    return f"{_origin(files)}\n\n{markdown([*table.head, *(f'`{name}`' for name in peers)], cells)}"


def _origin(runs: Iterable[Run]) -> str:
    """Return the line above a table: machine class, date, commit and load of its files."""
    groups: dict[str, list[float]] = {}
    for run in runs:
        commit = run.commit and f"commit {run.commit[:8]}{'-dirty' if run.commit.endswith('-dirty') else ''}"
        parts = [f"`{machine_class(run.machine)}`", run.at[:10], commit, "`--quick`" if run.quick else None]
        load = run.machine.get("load_average")
        groups.setdefault(", ".join(filter(None, parts)), []).extend([] if load is None else [load])
    texts = []
    for text, loads in groups.items():
        ends = dict.fromkeys(f"{load:.1f}" for load in (min(loads), max(loads))) if loads else {}
        texts.append(text + (f", load average {' to '.join(ends)}" if ends else ""))
    return f"{'; '.join(texts)}:"


def machines(runs: Sequence[Run]) -> str:
    """Return the table of the machine classes."""
    newest = {machine_class(run.machine): run.machine for run in sorted(runs, key=lambda run: run.at) if run.rows}
    lines = []
    for name, host in sorted(newest.items()):
        caches = [f"{host['cache_kib'].get(level, 0) / 1024:.0f} MiB" for level in ("L2", "L3")]
        memory = f"{host['memory_gib']:.0f} GiB"
        lines.append([f"`{name}`", host["cpu"], str(host["cores"]), memory, *caches, host["packages"]["torch"]])
    return markdown(["class", "processor", "cores", "memory", "L2", "L3", "torch"], lines)


def _curve(label: str, case: str) -> Part:
    """Return the line of a curve over d = 100: its sizes, its processor time and the power that fits it."""

    def points(line: Line) -> list[tuple[Any, ...]]:
        rows = [row for row in line["rows"] if row["metric"].startswith("processor_")]
        return sorted((row["params"][row["along"]], row["p50"], row["spread"]) for row in rows)

    def sizes(line: Line) -> str:
        axis = {"catalog": "items", "log": "clicks", "clicks": "clicks"}[line["along"]]
        return f"{size(points(line)[0][0])}..{size(points(line)[-1][0])} {axis}"

    def costs(line: Line) -> str:
        unit = line["metric"].rpartition("_")[2]
        return "..".join(duration(points(line)[end][1], unit) for end in (0, -1))

    def power(line: Line) -> str:
        found = power_of(*zip(*points(line), strict=True))
        return f"{found.exponent:.2f} [{found.low:.2f}, {found.high:.2f}]"

    cells = (label, sizes, costs, power)
    return Part("scaling", case, cells, lambda params: params.get("d") in (None, 100), by=lambda row: row["case"])


def _threads(label: str, case: str) -> Part:
    """Return the line of a work on one thread and on two, on the clock."""

    def seconds(line: Line) -> list[float]:
        found = {row["params"]["threads"]: row for row in line["rows"] if row["metric"].startswith("latency_")}
        return [found[count]["p50"] * _UNITS[found[count]["metric"].rpartition("_")[2]] for count in (1, 2)]

    cells: list[Cell] = [label, *(lambda line, end=end: duration(seconds(line)[end], "s") for end in (0, 1))]
    cells.append(lambda line: f"{number(seconds(line)[0] / seconds(line)[1])} x")
    return Part("scaling", case, cells, by=lambda row: row["case"])


SPEED: Mapping[str, Table] = {
    "loss": Table(
        ("batch x catalog", "`native`", "floor"),
        [
            Part("training", "aw_loss", ("{batch:,} x {catalog:,}, gamma {gamma:g}", "{p50:ms}", "{floor:ms}")),
            Part("training", "aw_loss-memory", ("{batch:,} x {catalog:,}, peak memory", "{p50:n} MB", "{floor:n} MB")),
        ],
        peers=True,
    ),
    "epoch": Table(
        ("data set", "samples", "steps", "threads", "an epoch", "floor"),
        [Part("training", "epoch", ("{data}", "{samples:,}", "{steps:,}", "{threads}", "{p50:s}", "{floor:s}"))],
    ),
    "whole trainings": Table(
        ("data set", "preset", "threads", "on the clock", "processor time"),
        [Part("training", "train", ("{data}", "`{preset}`", "{threads}", "{train_s:s}", "{train_processor_s:s}"),
              each=("data", "preset", "threads"))],
    ),
    "rank": Table(
        ("case", "p50 us", "p95", "p99", "floor"),
        [Part("throughput", "recommend encode retrieve memory",
              ("{case}", "{p50:n}", "{p95:n}", "{p99:n}", "{floor:n}"), lambda params: params["data"] == "tmall")],
        peers=True,
    ),
    "rates": Table(
        ("workers", "rankings a second"),
        [Part("throughput", "recommend-rate",
              ("{workers} {by}", lambda line: f"{line['calls'] / line['p50'] * 1e3:,.0f}"),
              lambda params: params["data"] == "tmall")],
    ),
    "with times": Table(
        ("bundle", "p50 us", "without times", "ratio", "target"),
        [Part("throughput", "recommend-times", (
            "{catalog:,} items, {clicks:g} clicks", "{p50:n}", lambda line: number(line["p50"] * line["ratio"]),
            lambda line: f"{1 / line['ratio']:.2f} x", _target(lambda line: 1 / line["ratio"], 1.15, " x"),
        ), each=("data", "catalog"))],
    ),
    "encode": Table(
        ("case", "clicks", "p50 us", "floor"),
        [Part("encoder", "encode append", ("{case}", "{clicks}", "{p50:n}", "{floor:n}"))],
        peers=True,
    ),
    "top k": Table(
        ("index", "items", "recall@20", "p50", "floor"),
        [
            Part("retrieval", "exact", ("`native`", "{catalog:,}", "1", "{p50:us}", "{floor:us}"),
                 lambda params: params["data"] == "clustered", ("catalog",)),
            Part("retrieval", "ladder", ("`ann` ({kind})", "{catalog:,}", "{recall:.4f}", "{p50:us}", ""),
                 lambda params: params["data"] == "clustered", ("catalog",)),
        ],
        peers=True,
    ),
    "load": Table(
        ("items", "index", "recall@20", "requests/s", "p50 ms", "p90", "p99", "service CPU us", "failed"),
        [Part("serving", "poisson", (
            "{catalog:,}", "`{index}`", "{recall:.3f}", "{rate:,.0f}", "{p50:n}", "{p90:n}", "{p99:n}",
            "{server_cpu_us:n}", "{errors}",
        ), lambda params: params["rate"] in (500, 1000), ("catalog", "index"))],
    ),
    "load curve": Table(
        ("items", "index", "requests/s", "p50 ms", "p90", "p99"),
        [Part("serving", "poisson",
              ("{catalog:,}", "`{index}`", "{rate:,.0f}", "{p50:n}", "{p90:n}", "{p99:n}"),
              lambda params: params["rate"] not in (400, 500, 1000), ("catalog", "index"))],
    ),
    "scaling": Table(
        ("unit of work", "sizes", "processor time", "exponent"),
        [_curve(*names) for names in (
            ("training step, 256 samples", "catalog-train-step"), ("exact search", "catalog-scan"),
            ("building the exact index", "catalog-index-exact"), ("encoding a session", "session-encode"),
            ("preparing Parquet", "log-prepare"), ("memory tables", "log-tables"),
            ("ranking with them", "log-evaluate"),
        )],
    ),
    "threads": Table(
        ("unit of work", "one thread", "two", "faster"),
        [_threads(*names) for names in (
            ("training step", "threads-train-step"), ("scoring", "threads-score"),
            ("preparing a log", "threads-prepare"), ("memory tables", "threads-tables"),
        )],
    ),
    "memory use": Table(
        ("", "figure", "target"),
        [
            Part("live", "event", ("an event, processor time", "{p50:n} us", _target("p50", 25, " us")),
                 lambda params: params["stage"] == "total"),
            Part("live", "worker-memory", (
                lambda line: "worker, bytes an event, of {}".format(
                    "a day" if line["step_ms"] > 1 else "minutes, all sessions open"
                ), "{p50:.0f}, of them {delta:.0f} in the native delta",
                _target("p50", 200),
            ), by=lambda row: row["step_ms"]),
            Part("live", "compaction-memory", (
                "compaction, the bundle included", lambda line: f"{line['p50'] / 2**20:.0f} MiB",
                _target(lambda line: line["p50"] / 2**20, 300, " MiB"),
            )),
            Part("live", "redact", ("redaction of one session", "{p50:s}", "")),
        ],
    ),
}  # fmt: skip


def by_hand(record: Line) -> str:
    """Return the table of a finding that was measured by hand, below its machine, date and source.

    Its rows are lists of cells, or cells by a label in front of its columns.
    """
    head, rows = record["columns"], record["rows"]
    if isinstance(rows, dict):
        head, rows = ["", *head], [[label, *cells] for label, cells in rows.items()]
    rows = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in cells] for cells in rows]
    origin = [f"`{record['machine']}`"] if "machine" in record else []
    origin += [record[name] for name in ("date", "state") if name in record]
    return f"{', '.join(origin)}:\n\n{markdown(head, rows)}"


def pair(values: Sequence[float]) -> str:
    """Return P@20 and MRR@20, to two digits."""
    return " / ".join(f"{value:.2f}" for value in values)


def signed(values: Sequence[float]) -> str:
    """Return differences with their signs, to two digits; none is a negative zero."""
    return " / ".join(f"{round(value, 2) + 0.0:+.2f}" for value in values)


def encoder_gain(results: Path) -> str:
    """What the encoder adds to `full` on the test sets, on the seeds of both."""
    rows = []
    for dataset in ("tmall", "retailrocket"):
        runs = _finals(results, "full", dataset, HELD_OUT)
        sides = ({seed: run for (name, seed), run in runs.items() if name == changed}
                 for changed in ('{"dense_candidates": 0}', "{}"))  # fmt: skip
        rows.append([TITLES[dataset], *_gain(*sides)])
    return markdown(["P@20 / MRR@20", "seeds", "memory alone", "`full`", "gain"], rows)


def refit_gain(results: Path) -> str:
    """What learning the validation sessions too adds on the test sets, on the seeds of both protocols."""
    rows = []
    for preset in ("paper-literal", "paper", "full"):
        for dataset in ("tmall", "retailrocket"):
            without, refit = (_finals(results, preset, dataset, protocol) for protocol in (NOT_REFIT, HELD_OUT))
            for changed in sorted({changed for changed, _ in without.keys() & refit.keys()}):
                settings = (f"{name}={value:g}" for name, value in json.loads(changed).items())
                sides = ({key: run for key, run in runs.items() if key[0] == changed} for runs in (without, refit))
                rows.append([" ".join([f"`{preset}`", *settings]), TITLES[dataset], *_gain(*sides)])
    return markdown(["P@20 / MRR@20", "", "seeds", "not refit", "refit", "gain"], rows)


def preset_lines(results: Path) -> list[Line]:
    """Return the runs of `paper-literal` with batches of prefixes and the paper's gamma as lines of `readings`."""
    reading = "batches of 100 prefixes"
    return [
        {"dataset": name, "reading": reading, "seed": run["seed"], "epochs": run["training"]["history"]}
        for name, changed in (("tmall", {}), ("retailrocket", {"gamma": 6.0}))
        for run in records_in(results).finished()
        if (run["preset"], run["dataset"]["name"], run["split"]) == ("paper-literal", name, "validation")
        and run["changed"] == {**changed, "batches": "prefixes"}
    ]


def _finals(results: Path, preset: str, dataset: str, protocol: str) -> dict[tuple[str, int], Line]:
    """Return the runs of a preset on a test set by their changed settings and seed."""
    return {
        (json.dumps(run["changed"], sort_keys=True), run["seed"]): run
        for run in records_in(results).finished()
        if (run["preset"], run["dataset"]["name"], run["split"]) == (preset, dataset, "test")
        and protocol_of(run) == protocol
    }


def _gain(before: Mapping[Any, Line], after: Mapping[Any, Line]) -> list[str]:
    """Return the number of common runs, the means of both over them, and the gain with its deviation over seeds."""
    common = sorted(before.keys() & after.keys())
    values = [[[runs[key]["metrics"][name] for key in common] for name in _METRICS] for runs in (before, after)]
    gains = []
    for less, more in zip(*values, strict=True):
        differences = [new - old for old, new in zip(less, more, strict=True)]
        spread = f" ± {statistics.stdev(differences):.2f}" if len(common) > 1 else ""
        gains.append(f"{signed([statistics.fmean(differences)])}{spread}")
    return [str(len(common)), *(pair([*map(statistics.fmean, side)]) for side in values), " / ".join(gains)]


def final_sets(results: Path) -> str:
    """P@20 / MRR@20 on the sets on which nothing was chosen: means over seeds, deviations and mean intervals."""
    runs = [
        run
        for run in records_in(results).finished()
        if run["split"] == "test" and not run["changed"] and protocol_of(run) == HELD_OUT
    ]
    runs += [{**peer, "preset": peer["title"]} for peer in trained(results) if "metrics" in peer]
    sets, rows = ("diginetica", "yoochoose1_64"), []
    for title in ("full", "paper", "co-occurrence + repeats", "Item-KNN", "own items, frequent first", "popularity"):
        groups = ([run for run in runs if (run["preset"], run["dataset"]["name"]) == (title, name)] for name in sets)
        cells = [" / ".join(_seeds(group, name) for name in _METRICS if group) for group in groups]
        if any(cells):
            rows.append([f"`{title}`" if title in ("full", "paper") else title, *cells])
    return markdown(["P@20 / MRR@20", *(TITLES[name] for name in sets)], rows)


def _seeds(runs: Sequence[Line], metric: str) -> str:
    values = [run["metrics"][metric] for run in runs]
    low, high = (statistics.fmean(run["intervals"][metric][end] for run in runs) for end in (0, 1))
    spread = f" ± {statistics.stdev(values):.2f}" if len(runs) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread} [{low:.2f}, {high:.2f}]"


def runs_below(root: Path) -> list[Run]:
    """Return all result files of a checkout, in the order of `read_runs`."""
    return read_runs((root / "bench/results").glob("*/*.json"))


def blocks(root: Path = ROOT) -> Blocks:
    """Return what makes each table, by name. root: the checkout whose records count."""
    results = root / "docs/results"
    runs = runs_below(root)
    reads = register.tables(register.lines(results))
    return {
        "bench machines": partial(machines, runs),
        **{f"bench {name}": partial(speed, table, runs) for name, table in SPEED.items()},
        "ablations": lambda: ablations(read_json_lines(results / "ablations.jsonl")),
        "readings": lambda: readings([*preset_lines(results), *read_json_lines(results / "readings.jsonl")]),
        "new items": lambda: new_items(read_json_lines(results / "new-items.jsonl")),
        "ceiling": lambda: ceiling(read_json_lines(results / "ceiling.jsonl")),
        **{f"by hand: {line['name']}": partial(by_hand, line) for line in read_json_lines(results / BY_HAND)},
        **{name: partial(make, results) for name, make in (
            ("encoder gain", encoder_gain), ("refit gain", refit_gain), ("final sets", final_sets),
        )},
        **{f"peers {name} quality": partial(peers_quality, results, name) for name in ("tmall", "retailrocket")},
        "test reads, by hand": lambda: reads["hand"],
        "test reads, from records": lambda: reads["records"],
    }  # fmt: skip


def pages(folder: Path) -> list[Path]:
    """Return the Markdown files that may have tables."""
    return sorted([*folder.glob("*.md"), *folder.glob("results/*.md")])


def filled(page: str, made: Blocks) -> str:
    """Return the page with every table made again. Raises DataError on a name that nothing makes."""

    def table(match: re.Match[str]) -> str:
        make = made.get(match["name"])
        if make is None:
            raise DataError(f"no command makes the table {match['begin']}; the tables are {', '.join(made)}")
        return f"{match['begin']}\n\n{make()}\n\n{match['end']}"

    return BLOCK.sub(table, page)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print tables, or write them into pages; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.suite.tables", description="Print the pages' tables, or write them into the pages."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="tables to print (default: all)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write every table into the Markdown files of DIR")
    options = parser.parse_args(argv)
    if options.write is not None and options.names:
        raise UsageError("--write writes every table: leave the names out")
    tables = blocks()
    if unknown := [name for name in options.names if name not in tables]:
        raise UsageError(f"there is no table {unknown[0]!r}; the tables are {', '.join(tables)}")
    for name in (options.names or tables) if options.write is None else ():
        print(f"<!-- {name} -->\n\n{tables[name]()}\n")
    for path in pages(options.write) if options.write is not None else ():
        text = path.read_text(encoding="utf-8")
        updated = filled(text, tables)
        if updated != text:
            write_bytes(path, updated.encode())
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
