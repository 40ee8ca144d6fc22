"""Find the figures in README and docs that no record has: `python -m bench.suite.figures`.

A figure is a number with decimals outside code, alone or as `P / MRR`, `mean ± deviation` or `[low, high]`. It has a
record if a table between `<!-- .. -->` and `<!-- end -->` has it, which a command writes, or if a group of records in
docs/results has it: quality (means over seeds), peers, points of other benches, the register of test reads, or quoted.
A number alone can match by chance, so write pairs as one figure. All others are listed in
docs/results/without-record/figures.json, by page and heading. The list only gets shorter: a new figure needs a record.

    python -m bench.suite.figures --write    # after a figure got its record or left
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers.records import trained
from bench.peers.systems import QUOTED
from bench.quality.records import records_in as quality_in

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/results.md", "docs/performance.md")
LIST = "docs/results/without-record/figures.json"
# Of benches that read more than one moment or model a line.
_POINTS = ("ablations.jsonl", "frozen.jsonl", "news-context.jsonl", "types.jsonl")
_METRICS = ("P@10", "MRR@10", "P@20", "MRR@20")
_NUMBER = r"\d[\d,]*\.\d+"
_FIGURE = re.compile(
    rf"{_NUMBER} / {_NUMBER}|{_NUMBER} ± {_NUMBER}|\[[-+]?{_NUMBER}, [-+]?{_NUMBER}\]|(?<![\w.]){_NUMBER}(?![\w.]*\.\w)"
)
_CODE = re.compile(
    r"^```.*?^```$|<!-- (?!end|prose).*?<!-- end -->|`[^`\n]*`|\]\([^)\n]*\)|^    [^\n]*$|Python \d\.\d+", re.M | re.S
)
Record = Mapping[str, Any]


def figures(page: str) -> dict[str, list[str]]:
    """Return the figures of a page by heading, in their order, without code, links and generated tables."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in _CODE.sub(" ", page).replace("*", "").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        found.setdefault(heading, []).extend(_FIGURE.findall(line))
    return {name: those for name, those in found.items() if those}


def recorded(root: Path) -> set[str]:
    """Return every figure that the records give, as pages write it."""
    results = root / "docs/results"
    groups: dict[tuple[str, ...], list[Record]] = {}
    earlier = [json.loads(line) for line in (results / "earlier.jsonl").read_text().splitlines()]
    for record in [*quality_in(results).finished(), *(one for one in earlier if "metrics" in one)]:
        names = (record["dataset"]["name"], record["preset"], record["split"], record.get("protocol", "held-out"))
        key = (*names, record.get("series", ""), json.dumps(record["changed"], sort_keys=True))
        groups.setdefault(key, []).append(record)
    found = set(itertools.chain.from_iterable(_of_group(group) for group in groups.values()))
    for record in trained(results):
        if "metrics" in record:
            found.update(_of_group([record]))
    for line in (results / "ranker-lessons.jsonl").read_text().splitlines():
        point = json.loads(line)
        found.update(f"{point[name]:.2f}" for name in _METRICS)
    for name in _POINTS:
        for line in (results / name).read_text().splitlines():
            found.update(_pairs(json.loads(line)))
    for line in (results / "test-reads.jsonl").read_text().splitlines():
        found.update(_FIGURE.findall(json.loads(line).get("figures", "")))
    for line in (root / QUOTED.relative_to(ROOT)).read_text().splitlines():
        found.update("{:.2f} / {:.2f}".format(*pair) for pair in json.loads(line)["figures"].values())
    return found


def _pairs(value: Any) -> Iterator[str]:
    """Yield P@20 / MRR@20 of every object in a point of a bench that has both as numbers."""
    if isinstance(value, Mapping):
        pair = value.get("P@20"), value.get("MRR@20")
        if all(isinstance(one, float) for one in pair):
            yield f"{pair[0]:.2f} / {pair[1]:.2f}"
        for one in value.values():
            yield from _pairs(one)


def _of_group(group: Sequence[Record]) -> Iterator[str]:
    """Yield the figures of records that differ in the seed alone."""
    for deep, shallow in (("P@20", "MRR@20"), ("P@10", "MRR@10")):
        if all(deep in one["metrics"] for one in group):
            yield " / ".join(
                f"{statistics.fmean(one['metrics'][name] for one in group):.2f}" for name in (deep, shallow)
            )
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


def without_record(root: Path) -> dict[str, dict[str, list[str]]]:
    """Return the figures of the pages that no record has, by page and heading."""
    known = recorded(root)
    pages = {name: figures((root / name).read_text(encoding="utf-8")) for name in PAGES}
    found = {
        name: {heading: [one for one in those if one not in known] for heading, those in page.items()}
        for name, page in pages.items()
    }
    return {name: {heading: those for heading, those in page.items() if those} for name, page in found.items()}


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
