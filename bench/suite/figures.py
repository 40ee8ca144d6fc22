"""Find the figures in README and docs that no record has: `python -m bench.suite.figures`.

A figure is a number with decimals outside code, alone, signed, or as `P / MRR`, `mean ± deviation` or `[low, high]`. It
has a record if it stands in a table that `bench.suite.tables` makes, or if a record of its section gives it. SECTIONS
says which records those are; a section that is not there has none. A number alone can match by chance, so write pairs
as one figure.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.harness.register import read_json_lines
from bench.peers.records import trained
from bench.quality.records import PUBLISHED, protocol_of, records_in
from bench.quality.table import ceiling
from bench.suite.results import ROOT
from bench.suite.tables import BLOCK, SPEED, blocks, newest_rows, pair, runs_below, signed

PAGES = ("README.md", "docs/results.md", "docs/results/quality.md", "docs/performance.md", "docs/what-works.md")
# The sources of a section's figures: files of docs/results, parts of quality.jsonl, one run of it or the epochs of one,
# and `ranking`. `leaking test` has the test figures whose epoch the test set chose; `test` has all others.
_QUALITY: Mapping[str, tuple[str, ...]] = {
    "Presets on the test sets": ("test", "published", "by-hand"),
    "Sets on which nothing was chosen": ("test", "test-reads"),
    "Reads of the test sets": ("earlier", "test-reads", "validation"),
    "The paper's own recipe": (
        "test", "leaking test", "published",
        *(f"run tmall-paper-literal-6ce92adf-test-published-seed{seed}" for seed in range(3)),
    ),
    "What the paper leaves open": ("validation", "run tmall-paper-literal-6ce92adf-validation-seed0"),
    "The effect of gamma (figure 2)": (
        "test", "leaking test", "validation", "epochs retailrocket-paper-430a2d11-validation-seed1",
        *(f"epochs tmall-paper-literal-{settings}-validation-seed0" for settings in ("f6ae9494", "d7637866")),
        *(f"run retailrocket-paper-literal-304c7259-validation-seed{seed}" for seed in range(3)),
    ),
    "Other readings of the recipe": ("validation",),
    "Features of the ranker": ("validation",),
    "Initial weights": ("validation",),
    "Learning while serving": ("test-reads", "ablations"),
    "A news log": ("test-reads", "news-context"),
    "What each part is worth": ("ablations",),
    "Types of clicks": ("types",),
    "A bundle that does not learn": ("frozen", "by-hand"),
}  # fmt: skip
SECTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "README.md": {
        "mtaw_fast": ("test", "ranking"),
        "Results": ("test", "published", "peers"),
    },
    "docs/results.md": _QUALITY,
    "docs/results/quality.md": _QUALITY,
    "docs/what-works.md": {
        "What works in session-based recommendation": ("test",),
        "Counting is the baseline to beat": ("test", "published"),
        "Retrieve, then rank": ("test", "earlier", "ablations", "by-hand", "ceiling", "ranker-lessons"),
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
_REMARKS = ("at", "command", "shaped", "state", "why")  # texts of records without figures of their own
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


@cache
def recorded(source: str, root: Path = ROOT) -> frozenset[str]:
    """Return the figures of a source (see SECTIONS), as pages write them."""
    return frozenset(_figures(source, root))


def _figures(source: str, root: Path) -> Iterator[str]:
    results, (kind, _, name) = root / "docs/results", source.partition(" ")
    if source == "ranking":  # ms of a `recommend` with a session memory, as in the table `bench rank`
        for _, rows in newest_rows(SPEED["rank"].parts[0], runs_below(root)):
            yield from (f"{row['p50'] / 1e3:.2f}" for row in rows if row["case"] == "recommend")
    elif kind in ("run", "epochs"):
        run = records_in(results).every()[name]
        yield from _values(run["metrics"] if kind == "run" else run["training"]["history"])
    elif source in ("test", "validation", "leaking test"):
        wanted = (source.removeprefix("leaking "), kind == "leaking")
        runs = records_in(results).finished()
        yield from _of_runs(run for run in runs if (run["split"], protocol_of(run) == PUBLISHED) == wanted)
    elif source == "leak":
        yield from _leak(records_in(results).finished())
    elif source == "peers":
        yield from _of_runs({**peer, "preset": peer["system"]} for peer in trained(results) if "metrics" in peer)
    else:
        lines = read_json_lines(results / f"{source}.jsonl")
        if source == "earlier":
            yield from _of_runs(line for line in lines if "metrics" in line)
        elif source == "ceiling":
            yield from _FIGURE.findall(ceiling(lines))
        else:
            yield from _values(lines)


def _values(value: Any) -> Iterator[str]:
    """Yield the figures of a record: the texts that have some, P@20 / MRR@20 of every object in it, and differences."""
    if isinstance(value, str):
        yield from _FIGURE.findall(value)
    elif isinstance(value, Mapping):
        metrics: list[Any] = [value.get(name) for name in _PAIRS[0]]
        if all(isinstance(metric, float) for metric in metrics):
            yield pair(metrics)
        if "difference" in value:
            differences = [value["difference"][name] for name in _PAIRS[0]]
            yield from _change([mean for mean, _, _ in differences])
            yield from (f"[{low:.2f}, {high:.2f}]" for _, low, high in differences)
        if isinstance(value.get("unknown_targets"), float):
            yield f"{value['unknown_targets']:.1f}"
        if isinstance(value.get("figures"), Mapping):  # as published
            yield from map(pair, value["figures"].values())
        for name, part in value.items():
            yield from _values(part) if name not in _REMARKS else ()
    elif isinstance(value, list):
        yield from _FIGURE.findall(" ".join(part for part in value if isinstance(part, str)))
        for part in value:
            yield from _values(part)


def _of_runs(runs: Iterable[Record]) -> Iterator[str]:
    """Yield the figures of runs, those that differ in the seed alone as one."""
    for group in _grouped(runs).values():
        for deep, shallow in _PAIRS:
            if all(deep in run["metrics"] for run in group):
                yield pair([_mean(group, name) for name in (deep, shallow)])
        for name in (name for names in _PAIRS for name in names):
            values = [run["metrics"][name] for run in group if name in run["metrics"]]
            if values:
                yield f"{statistics.fmean(values):.2f}"
            if len(values) > 1:
                yield f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
            ends = [run["intervals"][name] for run in group if name in run.get("intervals", {})]
            if ends:
                yield "[{:.2f}, {:.2f}]".format(*(statistics.fmean(end) for end in zip(*ends, strict=True)))
        for part in ("exclude_seen", "repeat", "non_repeat"):
            values = [run[part]["P@20"] for run in group if run.get(part, {}).get("P@20") is not None]
            if values:
                yield f"{statistics.fmean(values):.2f}"


def _grouped(runs: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    groups: dict[tuple[str, ...], list[Record]] = {}
    for run in runs:
        names = (run["dataset"]["name"], run["preset"], run.get("split", ""), run.get("protocol") or "held-out")
        changed = json.dumps(run.get("changed"), sort_keys=True)
        groups.setdefault((*names, run.get("series", ""), changed), []).append(run)
    return groups


def _mean(group: Sequence[Record], name: str) -> float:
    return statistics.fmean(run["metrics"][name] for run in group)


def _leak(runs: Iterable[Record]) -> Iterator[str]:
    """Yield what the published protocol adds to the held-out one, on the seeds of both."""
    groups = _grouped(runs)
    for key, group in groups.items():
        base = groups.get((*key[:3], "held-out", *key[4:]), []) if key[3] == "published" else []
        seeds = {run["seed"] for run in group} & {run["seed"] for run in base}
        sides = [[run for run in side if run["seed"] in seeds] for side in (group, base)]
        if seeds:
            yield from _change([_mean(sides[0], name) - _mean(sides[1], name) for name in _PAIRS[0]])


def _change(values: Sequence[float]) -> Iterator[str]:
    """Yield a change of P@20 and MRR@20 as a signed pair, and the size of each."""
    yield signed(values)
    yield from (f"{abs(value):.2f}" for value in values)


def without_record(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the figures of the pages that no record of their section has, by page and heading."""
    tables, missing = blocks(root), {}
    for name in PAGES:
        for heading, values in figures((root / name).read_text(encoding="utf-8"), tables).items():
            known = frozenset().union(*(recorded(source, root) for source in SECTIONS.get(name, {}).get(heading, ())))
            missing[f"{name}: {heading}"] = [value for value in values if value not in known]
    return {place: values for place, values in missing.items() if values}


def main() -> int:
    """Print the figures without a record; return 1 if there are any."""
    missing = without_record()
    for place, values in missing.items():
        print(f"{place}: {', '.join(values)}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
