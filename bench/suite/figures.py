"""Find the figures in README and docs that no record has: `python -m bench.suite.figures`.

A figure is a number with decimals outside code, alone, signed, or as `P / MRR`, `mean ± deviation` or `[low, high]`. It
has a record if it stands between `<!-- .. -->` and `<!-- end -->`, where `bench.suite.tables` writes, or if a record of
its section gives it. SECTIONS says which records those are; a section that is not there has none. A number alone can
match by chance, so write pairs as one figure. All others are listed in docs/results/without-record/figures.json. The
list only gets shorter: a new figure needs a record.

    python -m bench.suite.figures --write    # after a figure got its record or left
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.report import number as short
from bench.peers.records import trained
from bench.peers.systems import QUOTED
from bench.quality.records import records_in as quality_in
from bench.suite.measured import Measured
from bench.suite.result_tables import BY_HAND, feature_changes, lines_in, signed
from bench.suite.tables import BLOCK, ROOT

PAGES = ("README.md", "docs/results.md", "docs/performance.md", "docs/what-works.md")
LIST = "docs/results/without-record/figures.json"
# The sources of a section's figures: files of docs/results, parts of quality.jsonl, and `bench NAME [CASE]`.
SECTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "README.md": {
        "mtaw_fast": ("test", "bench throughput recommend", "bench training train"),
        "Results": ("test", "published", "peers"),
    },
    "docs/results.md": {
        "Presets on the test sets": ("test", "published"),
        "Sets on which nothing was chosen": ("test", "test-reads"),
        "Reads of the test sets": ("test", "earlier", "test-reads"),
        "Other systems, trained here": ("peers",),
        "Tmall": ("peers",),
        "RetailRocket": ("peers",),
        "The paper's own recipe": ("test", "validation", "published", "leak"),
        "What the paper leaves open": ("validation",),
        "The effect of gamma (figure 2)": ("test", "validation", "changes"),
        "What each part is worth": ("ablations",),
        "Features of the ranker": ("validation",),
        "Samples of the catalog": ("validation",),
        "Initial weights": ("validation",),
        "Learning while serving": ("test-reads",),
        "A news log": ("test-reads", "news-context"),
        "Types of clicks": ("types",),
        "A bundle that does not learn": ("frozen", "by-hand"),
    },
    "docs/what-works.md": {
        "What works in session-based recommendation": ("test",),
        "Counting is the baseline to beat": ("test", "published"),
        "Retrieve, then rank": ("test", "ablations", "features", "ranker-lessons"),
        "Training tricks count for less than the start": ("validation", "ablations"),
        "How figures get too good": ("test", "leak", "validation", "test-reads"),
        "Time decides on news, and learning beats training": ("test-reads", "frozen", "news-context", "by-hand"),
    },
    "docs/performance.md": {
        "Adaptive-weight loss": ("bench training",),
        "Small batches": ("bench training",),
        "The preset": ("bench training",),
        "Ten million clicks": ("by-hand",),
        "Rank a session": ("bench throughput",),
        "A bundle with times": ("bench throughput", "by-hand"),
        "Encode a session": ("bench encoder",),
        "Find the top K": ("bench retrieval",),
        "Serve under load": ("bench serving",),
        "A request's processor time": ("bench serving.cost", "bench serving"),
        "Prepare a click log": ("bench prepare",),
        "How costs grow": ("bench scaling",),
        "Learn while serving": ("bench live", "by-hand"),
    },
}
_METRICS = ("P@10", "MRR@10", "P@20", "MRR@20")
_PAIRS = (("P@20", "MRR@20"), ("P@10", "MRR@10"))
_NUMBER = r"\d[\d,]*\.\d+"
_SIGNED = rf"(?<![\w.+-])[-+]?{_NUMBER}"
_FIGURE = re.compile(
    rf"{_SIGNED} / [-+]?{_NUMBER}|{_SIGNED} ± {_NUMBER}|\[[-+]?{_NUMBER}, [-+]?{_NUMBER}\]|{_SIGNED}(?![\w.]*\.\w)"
)
_CODE = re.compile(
    rf"^```.*?^```$|{BLOCK.pattern}|`[^`\n]*`|\]\([^)\n]*\)|^    [^\n]*$|Python \d\.\d+", re.MULTILINE | re.DOTALL
)
Record = Mapping[str, Any]


def figures(page: str) -> dict[str, list[str]]:
    """Return the figures of a page by heading, in their order, without code, links and generated tables."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in _CODE.sub(" ", page).replace("*", "").splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        found.setdefault(heading, []).extend(_FIGURE.findall(line))
    return {name: those for name, those in found.items() if those}


class Records:
    """The figures that each source gives, as pages write them."""

    def __init__(self, root: Path) -> None:
        self._root, self._results = root, root / "docs/results"
        self._measured = Measured.read(root / "bench/results")
        self._known: dict[str, frozenset[str]] = {}

    def of(self, source: str) -> frozenset[str]:
        """Return the figures of a source (see SECTIONS)."""
        if source not in self._known:
            self._known[source] = frozenset(self._figures(source))
        return self._known[source]

    def _figures(self, source: str) -> Iterator[str]:
        if source.startswith("bench "):
            yield from self._benched(*source.split()[1:])
        elif source in ("test", "validation"):
            yield from _of_runs(one for one in quality_in(self._results).finished() if one["split"] == source)
        elif source in ("changes", "leak"):
            yield from _differences(quality_in(self._results).finished(), leak=source == "leak")
        elif source == "features":
            for changes in feature_changes(self._results).values():
                for change in changes.values():
                    yield from _change(change)
        elif source == "earlier":
            yield from _of_runs([one for one in self._lines("earlier") if "metrics" in one])
        elif source == "peers":
            for one in trained(self._results):
                yield from _of_group([one]) if "metrics" in one else ()
        elif source == "published":
            for quoted in lines_in(self._root / QUOTED.relative_to(ROOT)):
                yield from ("{:.2f} / {:.2f}".format(*pair) for pair in quoted["figures"].values())
        elif source == "test-reads":
            for read in self._lines(source):
                yield from _FIGURE.findall(read.get("figures", ""))
        elif source == "by-hand":
            for finding in lines_in(self._results / BY_HAND):
                for cells in finding["rows"].values():
                    yield from _FIGURE.findall(" ".join(map(str, cells)))
        else:
            for point in self._lines(source):
                yield from _pairs(point)
                if "difference" in point:
                    yield from _change([point["difference"][name][0] for name in _PAIRS[0]])
                if "unknown_targets" in point:
                    yield f"{point['unknown_targets']:.1f}"

    def _lines(self, name: str) -> list[Record]:
        return lines_in(self._results / f"{name}.jsonl")

    def _benched(self, bench: str, case: str | None = None) -> Iterator[str]:
        """Yield medians, percentiles and ratios of a bench's rows; times in every unit."""
        for run in self._measured.runs:
            for row in run.rows:
                if row["bench"] == bench and case in (None, row["case"]):
                    for name in ("p50", "p90", "p95", "p99", "ratio"):
                        if row.get(name) is not None:
                            for scale in (1e3, 1.0, 1e-3, 1e-6):
                                yield short(row[name] * scale)


def recorded(root: Path) -> set[str]:
    """Return the figures of all sources but the benches' rows."""
    records = Records(root)
    sources = {one for page in SECTIONS.values() for those in page.values() for one in those}
    return {figure for one in sources if not one.startswith("bench ") for figure in records.of(one)}


def _pairs(value: Any) -> Iterator[str]:
    """Yield P@20 / MRR@20 of every object in a point of a bench that has both as numbers."""
    if isinstance(value, Mapping):
        pair = value.get("P@20"), value.get("MRR@20")
        if all(isinstance(one, float) for one in pair):
            yield f"{pair[0]:.2f} / {pair[1]:.2f}"
        for one in value.values():
            yield from _pairs(one)


def _of_runs(runs: Iterable[Record]) -> Iterator[str]:
    """Yield the figures of groups of runs that differ in the seed alone, and the pairs of each run."""
    for group in _grouped(runs).values():
        yield from _of_group(group)
        for one in group:
            yield from _pairs(one["metrics"])


def _grouped(runs: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    groups: dict[tuple[str, ...], list[Record]] = {}
    for one in runs:
        names = (one["dataset"]["name"], one["preset"], one["split"], one.get("protocol") or "held-out")
        groups.setdefault((*names, one.get("series", ""), json.dumps(one["changed"], sort_keys=True)), []).append(one)
    return groups


def _of_group(group: Sequence[Record]) -> Iterator[str]:
    """Yield the figures of records that differ in the seed alone."""
    for deep, shallow in _PAIRS:
        if all(deep in one["metrics"] for one in group):
            yield " / ".join(f"{_mean(group, name):.2f}" for name in (deep, shallow))
    for name in _METRICS:
        values = [one["metrics"][name] for one in group if name in one["metrics"]]
        if not values:
            continue
        yield f"{statistics.fmean(values):.2f}"
        if len(values) > 1:
            yield f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
        ends = [one["intervals"][name] for one in group if name in one.get("intervals", {})]
        if ends:
            low, high = (statistics.fmean(values) for values in zip(*ends, strict=True))
            yield f"[{low:.2f}, {high:.2f}]"
    for part in ("exclude_seen", "repeat", "non_repeat"):
        values = [one[part]["P@20"] for one in group if one.get(part, {}).get("P@20") is not None]
        if values:
            yield f"{statistics.fmean(values):.2f}"


def _mean(group: Sequence[Record], name: str) -> float:
    return statistics.fmean(one["metrics"][name] for one in group)


def _differences(runs: Sequence[Record], *, leak: bool) -> Iterator[str]:
    """Yield what one more changed setting adds, on the seeds of both; or (leak) what the published protocol adds."""
    groups = _grouped(runs)
    for key, group in groups.items():
        changed = json.loads(key[-1])
        bases = [{name: value for name, value in changed.items() if name != one} for one in changed]
        others = [(*key[:-1], json.dumps(base, sort_keys=True)) for base in bases]
        if leak:
            others = [(*key[:3], "held-out", *key[4:])] if key[3] == "published" else []
        for base in (groups[one] for one in others if one in groups):
            seeds = {one["seed"] for one in group} & {one["seed"] for one in base}
            own, theirs = ([one for one in those if one["seed"] in seeds] for those in (group, base))
            if seeds:
                yield from _change([_mean(own, name) - _mean(theirs, name) for name in _PAIRS[0]], alone=leak)


def _change(values: Sequence[float], *, alone: bool = True) -> Iterator[str]:
    """Yield differences of P@20 and MRR@20 as a signed pair, and (alone) each, with its sign and as a size."""
    pair = signed(values)
    yield pair
    if alone:  # few enough that a number does not match by chance
        yield from (*pair.split(" / "), *(f"{abs(value):.2f}" for value in values))


def without_record(root: Path) -> dict[str, dict[str, list[str]]]:
    """Return the figures of the pages that no record of their section has, by page and heading."""
    records, found = Records(root), {}
    for name in PAGES:
        missing = {}
        for heading, those in figures((root / name).read_text(encoding="utf-8")).items():
            known = frozenset().union(*map(records.of, SECTIONS[name].get(heading, ())))
            missing[heading] = [one for one in those if one not in known]
        found[name] = {heading: those for heading, those in missing.items() if those}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures without a record, or replace the list; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.suite.figures", description="List the figures of README and docs without a record."
    )
    parser.add_argument("--write", action="store_true", help=f"replace {LIST}")
    options = parser.parse_args(argv)
    found = without_record(ROOT)
    if options.write:
        (ROOT / LIST).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, page in found.items():
        every = sum(len(those) for those in figures((ROOT / name).read_text(encoding="utf-8")).values())
        print(f"{name}: {sum(map(len, page.values()))} of {every} figures have no record")
        for heading, those in () if options.write else page.items():
            print(f"  {heading}: {', '.join(those)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
