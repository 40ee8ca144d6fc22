"""The register of test reads: a JSON line for every time that a test set was ranked, `docs/results/test-reads.jsonl`.

`bench.quality` and `bench.peers` add a line before each read. Reads by other commands, such as `mtaw-fast replay`, are
added by hand, with what they shaped:

    python -m bench.harness.register --add --dataset NAME --model TEXT --figures "P@20 / MRR@20" --shaped TEXT

`bench.suite.tables` writes the tables of docs/test-reads.md from the register.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.report import command
from mtaw_fast.errors import DataError, UsageError

NAME = "test-reads.jsonl"
RESULTS = Path("docs/results")
Line = dict[str, Any]


def line_of(record: Mapping[str, Any], read: Mapping[str, Any]) -> Line:
    """Return the register's line of one read of a bench's record."""
    changed = [f"{name}={value}" for name, value in (record.get("changed") or {}).items()]
    protocol = {"published": ["published protocol"], "not-refit": ["not refit"]}.get(record.get("protocol") or "", [])
    return {
        "at": read["at"],
        "dataset": record["dataset"]["name"],
        "model": ", ".join([record.get("preset") or record["title"], *changed, *protocol]),
        "seed": record.get("seed"),
        "why": read["why"],
        "commit": read["commit"],
    }


def append(results: Path, line: Line) -> None:
    """Add a line to the register of a folder of records."""
    with (results / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[Line]:
    """Return the object of every line of a file. Raises DataError on a line that is none."""
    objects = []
    with path.open(encoding="utf-8") as file:  # splitlines would also cut texts at U+2028 and the like
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise DataError(f"{path}, line {number}, is no JSON object")
            objects.append(value)
    return objects


def lines(results: Path) -> list[Line]:
    """Return the register of a folder and of those in it. Raises DataError on a line that is no JSON object."""
    return [line for path in sorted(results.rglob(NAME)) for line in read_json_lines(path)]


def tables(found: Sequence[Line]) -> dict[str, str]:
    """Return the page's two tables: reads with what they shaped, and those of records by day and model."""
    by_hand = [line for line in found if "shaped" in line]
    rows = ["| when | set | what was read | P@20 / MRR@20 | what it shaped |", "| --- | --- | --- | --- | --- |"]
    rows += ["| {at} | {dataset} | {model} | {figures} | {shaped} |".format_map(line) for line in by_hand]
    of_records = sorted(
        (line["at"][:10], line["dataset"], line["model"], line["why"]) for line in found if "shaped" not in line
    )
    record_rows = ["| day | set | model | runs | why |", "| --- | --- | --- | --- | --- |"]
    for key, group in itertools.groupby(of_records):
        day, dataset, model, why = key
        record_rows.append(f"| {day} | {dataset} | {model} | {len(list(group))} | {why} |")
    return {"hand": "\n".join(rows), "records": "\n".join(record_rows)}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Add a line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.harness.register", description="Add a read that no bench made to the register."
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help=f"(default: {RESULTS})")
    parser.add_argument("--add", action="store_true", required=True, help="add a read; give the next four")
    names = ("dataset", "model", "figures", "shaped")
    for name in names:
        parser.add_argument(f"--{name}", metavar="TEXT")
    options = parser.parse_args(argv)
    values = {name: getattr(options, name) for name in names}
    if missing := [name for name, value in values.items() if not value]:
        raise UsageError(f"--add needs --{missing[0]}")
    append(options.results, {"at": datetime.datetime.now(datetime.UTC).date().isoformat(), **values})
    return 0


if __name__ == "__main__":
    sys.exit(main())
