"""Find the figures in README and docs that no record has: `python -m bench.suite.figures`.

A figure is a number with decimals outside code, alone, signed, or as `P / MRR`, `mean ± deviation` or `[low, high]`. It
has a record if it stands in a table that `bench.suite.tables` makes, or if a record of its section gives it. SECTIONS
says which records those are; a section that is not there has none. A number alone can match by chance, so write pairs
as one figure. All others are listed in docs/results/without-record/figures.json. The list only gets shorter: a new
figure needs a record.

    python -m bench.suite.figures --write    # after a figure got its record or left
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.json_lines import read_json_lines
from bench.peers.records import trained
from bench.quality.published import QUOTED
from bench.quality.records import PUBLISHED, protocol_of
from bench.quality.records import records_in as quality_in
from bench.suite.measured import Measured
from bench.suite.result_tables import BY_HAND, feature_changes, pair, signed
from bench.suite.speed_tables import ranked
from bench.suite.tables import BLOCK, ROOT, blocks

PAGES = ("README.md", "docs/results.md", "docs/performance.md", "docs/what-works.md")
LIST = "docs/results/without-record/figures.json"
# The sources of a section's figures: files of docs/results, parts of quality.jsonl, one run of it or the epochs of one,
# and `ranking`. `leaking test` has the test figures whose epoch the test set chose; `test` has all others.
SECTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "README.md": {
        "mtaw_fast": ("test", "ranking"),
        "Results": ("test", "published", "peers"),
    },
    "docs/results.md": {
        "Presets on the test sets": ("test", "published"),
        "Sets on which nothing was chosen": ("test", "test-reads"),
        "Reads of the test sets": ("earlier", "test-reads", "validation"),
        "RetailRocket": ("published", "peers"),
        "The paper's own recipe": (
            "test", "leaking test", "published",
            *(f"run tmall-paper-literal-31c6e89a-test-published-seed{seed}" for seed in range(3)),
        ),
        "What the paper leaves open": ("validation", "run tmall-paper-literal-31c6e89a-validation-seed0"),
        "The effect of gamma (figure 2)": (
            "test", "leaking test", "validation", "epochs retailrocket-paper-430a2d11-validation-seed1",
            *(f"epochs tmall-paper-literal-{settings}-validation-seed0" for settings in ("be269569", "e8a617bb")),
            *(f"run retailrocket-paper-literal-2e74eee7-validation-seed{seed}" for seed in range(3)),
        ),
        "Features of the ranker": ("validation",),
        "Training samples of the ranker": ("validation",),
        "Initial weights": ("validation",),
        "Learning while serving": ("test-reads", "ablations"),
        "A news log": ("test-reads", "news-context"),
    },
    "docs/what-works.md": {
        "What works in session-based recommendation": ("test",),
        "Counting is the baseline to beat": ("test", "published"),
        "Retrieve, then rank": ("test", "earlier", "ablations", "features", "ranker-lessons"),
        "Training tricks do little": (
            "validation", "ablations", "run retailrocket-paper-430a2d11-validation-seed0",
            "run tmall-paper-44136fa3-validation-seed0",
        ),
        "What makes figures too high": ("test", "leak", "test-reads"),
        "Time decides on news, and learning beats training": (
            "test", "test-reads", "frozen", "news-context", "by-hand", "ablations",
        ),
        "What is not shown": ("leaking test", "peers"),
    },
}  # fmt: skip
_METRICS = ("P@10", "MRR@10", "P@20", "MRR@20")
_PAIRS = (("P@20", "MRR@20"), ("P@10", "MRR@10"))
_NUMBER = r"\d[\d,]*\.\d+"
_SIGNED = rf"(?<![\w.+-])[-+]?{_NUMBER}"
_FIGURE = re.compile(
    rf"{_SIGNED} / [-+]?{_NUMBER}|{_SIGNED} ± {_NUMBER}|\[[-+]?{_NUMBER}, [-+]?{_NUMBER}\]|{_SIGNED}(?![\w.]*\.\w)"
)
_CODE = re.compile(  # what a command prints is none: ```text; nor is an indented line of a list
    r"^```(?:console|sh|bash|python)$.*?^```$|`[^`\n]*`|\]\([^)\n]*\)|Python \d\.\d+"
    r"|(?:(?<=\n\n)|(?<=```\n))    (?![-*+] )[^\n]*(?:\n    [^\n]*)*",
    re.MULTILINE | re.DOTALL,
)
Record = Mapping[str, Any]


def figures(page: str, made: Collection[str]) -> dict[str, list[str]]:
    """Return the figures of a page by heading, in their order, without code, links and the tables named in `made`."""
    page = BLOCK.sub(lambda block: " " if block["name"] in made else block[0], page)
    by_heading: dict[str, list[str]] = {}
    heading = ""
    for line in _CODE.sub(" ", page).replace("*", "").splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        by_heading.setdefault(heading, []).extend(_FIGURE.findall(line))
    return {name: values for name, values in by_heading.items() if values}


class Records:
    """The figures that each source gives, as pages write them."""

    def __init__(self, root: Path) -> None:
        self._root, self._results = root, root / "docs/results"
        self._known: dict[str, frozenset[str]] = {}

    def of(self, source: str) -> frozenset[str]:
        """Return the figures of a source (see SECTIONS)."""
        if source not in self._known:
            self._known[source] = frozenset(self._figures(source))
        return self._known[source]

    def _figures(self, source: str) -> Iterator[str]:
        if source == "ranking":
            yield from self._ranking()
        elif source.startswith("run "):
            yield from _pairs(quality_in(self._results).every()[source.removeprefix("run ")]["metrics"])
        elif source.startswith("epochs "):
            for epoch in quality_in(self._results).every()[source.removeprefix("epochs ")]["training"]["history"]:
                yield from _pairs(epoch)
        elif source in ("test", "validation", "leaking test"):
            runs = quality_in(self._results).finished()
            leaks, split = source.startswith("leaking"), source.removeprefix("leaking ")
            yield from _of_runs(run for run in runs if (run["split"], protocol_of(run) == PUBLISHED) == (split, leaks))
        elif source == "leak":
            yield from _leak(quality_in(self._results).finished())
        elif source == "features":
            for changes in feature_changes(self._results).values():
                for change in changes.values():
                    yield from _change(change)
        elif source == "earlier":
            yield from _of_runs([record for record in self._lines("earlier") if "metrics" in record])
        elif source == "peers":
            for peer in trained(self._results):
                yield from _of_group([peer]) if "metrics" in peer else ()
        elif source == "published":
            for quoted in read_json_lines(self._root / QUOTED.relative_to(ROOT)):
                yield from map(pair, quoted["figures"].values())
        elif source == "test-reads":
            for read in self._lines(source):
                yield from _FIGURE.findall(read.get("figures", ""))
        elif source == "by-hand":
            for finding in read_json_lines(self._results / BY_HAND):
                for cells in finding["rows"].values():
                    yield from _FIGURE.findall(" ".join(map(str, cells)))
        else:
            for point in self._lines(source):
                yield from _pairs(point)
                if "difference" in point:
                    yield from _change([point["difference"][name][0] for name in _PAIRS[0]])
                    yield from ("[{1:.2f}, {2:.2f}]".format(*point["difference"][name]) for name in _PAIRS[0])
                if "unknown_targets" in point:
                    yield f"{point['unknown_targets']:.1f}"

    def _lines(self, name: str) -> list[Record]:
        return [*read_json_lines(self._results / f"{name}.jsonl")]

    def _ranking(self) -> Iterator[str]:
        """Yield the ms of a `recommend` with a session memory: the median of the table `bench rank`."""
        newest = ranked(Measured.read(self._root / "bench/results"))
        if newest is not None and newest.of("memory"):
            yield f"{newest.of('recommend')[0]['p50'] / 1e3:.2f}"


def _pairs(value: Any) -> Iterator[str]:
    """Yield P@20 / MRR@20 of every object in a point of a bench that has both as numbers."""
    if isinstance(value, Mapping):
        metrics: list[Any] = [value.get("P@20"), value.get("MRR@20")]
        if all(isinstance(metric, float) for metric in metrics):
            yield pair(metrics)
        for part in value.values():
            yield from _pairs(part)


def _of_runs(runs: Iterable[Record]) -> Iterator[str]:
    """Yield the figures of groups of runs that differ in the seed alone."""
    for group in _grouped(runs).values():
        yield from _of_group(group)


def _grouped(runs: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    groups: dict[tuple[str, ...], list[Record]] = {}
    for run in runs:
        names = (run["dataset"]["name"], run["preset"], run["split"], run.get("protocol") or "held-out")
        groups.setdefault((*names, run.get("series", ""), json.dumps(run["changed"], sort_keys=True)), []).append(run)
    return groups


def _of_group(group: Sequence[Record]) -> Iterator[str]:
    """Yield the figures of records that differ in the seed alone."""
    for deep, shallow in _PAIRS:
        if all(deep in record["metrics"] for record in group):
            yield pair([_mean(group, name) for name in (deep, shallow)])
    for name in _METRICS:
        values = [record["metrics"][name] for record in group if name in record["metrics"]]
        if not values:
            continue
        yield f"{statistics.fmean(values):.2f}"
        if len(values) > 1:
            yield f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
        ends = [record["intervals"][name] for record in group if name in record.get("intervals", {})]
        if ends:
            low, high = (statistics.fmean(values) for values in zip(*ends, strict=True))
            yield f"[{low:.2f}, {high:.2f}]"
    for part in ("exclude_seen", "repeat", "non_repeat"):
        values = [record[part]["P@20"] for record in group if record.get(part, {}).get("P@20") is not None]
        if values:
            yield f"{statistics.fmean(values):.2f}"


def _mean(group: Sequence[Record], name: str) -> float:
    return statistics.fmean(record["metrics"][name] for record in group)


def _leak(runs: Iterable[Record]) -> Iterator[str]:
    """Yield what the published protocol adds to the held-out one, on the seeds of both."""
    groups = _grouped(runs)
    for key, group in groups.items():
        base = groups.get((*key[:3], "held-out", *key[4:]), []) if key[3] == "published" else []
        seeds = {record["seed"] for record in group} & {record["seed"] for record in base}
        own_group, base_group = ([record for record in records if record["seed"] in seeds] for records in (group, base))
        if seeds:
            yield from _change([_mean(own_group, name) - _mean(base_group, name) for name in _PAIRS[0]])


def _change(values: Sequence[float]) -> Iterator[str]:
    """Yield a change of P@20 and MRR@20 as a signed pair, and the size of each."""
    yield signed(values)
    yield from (f"{abs(value):.2f}" for value in values)


def without_record(root: Path) -> dict[str, dict[str, list[str]]]:
    """Return the figures of the pages that no record of their section has, by page and heading."""
    records, tables, pages = Records(root), blocks(root), {}
    for name in PAGES:
        missing = {}
        for heading, values in figures((root / name).read_text(encoding="utf-8"), tables).items():
            known = frozenset().union(*map(records.of, SECTIONS.get(name, {}).get(heading, ())))
            missing[heading] = [value for value in values if value not in known]
        pages[name] = {heading: values for heading, values in missing.items() if values}
    return pages


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures without a record, or replace the list; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.suite.figures", description="List the figures of README and docs without a record."
    )
    parser.add_argument("--write", action="store_true", help=f"replace {LIST}")
    options = parser.parse_args(argv)
    pages, tables = without_record(ROOT), blocks()
    if options.write:
        (ROOT / LIST).write_text(json.dumps(pages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, page in pages.items():
        total = sum(len(values) for values in figures((ROOT / name).read_text(encoding="utf-8"), tables).values())
        print(f"{name}: {sum(map(len, page.values()))} of {total} figures have no record")
        for heading, unrecorded in () if options.write else page.items():
            print(f"  {heading}: {', '.join(unrecorded)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
