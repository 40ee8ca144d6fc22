"""The register of test reads: a JSON line for every time that a test set was ranked, `docs/results/test-reads.jsonl`.

`bench.quality` and `bench.peers` add a line before each read. Reads by other commands, such as `mtaw-fast replay`, are
added by hand, with what they shaped:

    python -m bench.harness.register --add --dataset NAME --model TEXT --figures "P@20 / MRR@20" --shaped TEXT
    python -m bench.harness.register --write docs    # docs/test-reads.md, from the register
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

from mtaw_fast.errors import DataError, UsageError

NAME = "test-reads.jsonl"
RESULTS = Path("docs/results")
PAGE = "test-reads.md"
_MARKS = {"hand": "<!-- test reads, by hand -->", "records": "<!-- test reads, from records -->"}
_END = "<!-- end -->"
Line = dict[str, Any]


def line_of(record: Mapping[str, Any], read: Mapping[str, Any]) -> Line:
    """Return the register's line of one read of a bench's record."""
    changed = [f"{name}={value}" for name, value in (record.get("changed") or {}).items()]
    leak = ["published protocol"] if record.get("protocol") == "published" else []
    return {
        "at": read["at"],
        "dataset": record["dataset"]["name"],
        "model": ", ".join([record.get("preset") or record["title"], *changed, *leak]),
        "seed": record.get("seed"),
        "why": read["why"],
        "commit": read["commit"],
    }


def append(results: Path, line: Line) -> None:
    """Add a line to the register of a folder of records."""
    with (results / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def lines(results: Path) -> list[Line]:
    """Return the register of a folder and of those in it. Raises DataError on a line that is no JSON."""
    found = []
    for path in sorted(results.rglob(NAME)):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                found.append(json.loads(text))
            except ValueError as error:
                raise DataError(f"{path}, line {number}, is no JSON: {error}") from None
    return found


def tables(found: Sequence[Line]) -> dict[str, str]:
    """Return the page's two tables: reads with what they shaped, and those of records by day and model."""
    by_hand = [line for line in found if "shaped" in line]
    rows = ["| when | set | what was read | P@20 / MRR@20 | what it shaped |", "| --- | --- | --- | --- | --- |"]
    rows += ["| {at} | {dataset} | {model} | {figures} | {shaped} |".format_map(line) for line in by_hand]
    of_records = sorted(
        (line["at"][:10], line["dataset"], line["model"], line["why"]) for line in found if "shaped" not in line
    )
    more = ["| day | set | model | reads | why |", "| --- | --- | --- | --- | --- |"]
    for key, group in itertools.groupby(of_records):
        day, dataset, model, why = key
        more.append(f"| {day} | {dataset} | {model} | {len(list(group))} | {why} |")
    return {"hand": "\n".join(rows), "records": "\n".join(more)}


def written(page: str, found: Sequence[Line]) -> str:
    """Return the page with its two tables made from the register. Raises DataError if a mark is missing."""
    for name, table in tables(found).items():
        before, mark, rest = page.partition(_MARKS[name])
        _, end, after = rest.partition(_END)
        if not mark or not end:
            raise DataError(f"{PAGE}: there is no '{_MARKS[name]}' with '{_END}' after it")
        page = f"{before}{mark}\n\n{table}\n\n{end}{after}"
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Add a line, or write the page; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.harness.register", description="Add to the register of test reads, or write its page."
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help=f"(default: {RESULTS})")
    parser.add_argument("--write", type=Path, metavar="DIR", help=f"write the tables of DIR/{PAGE}")
    parser.add_argument("--add", action="store_true", help="add a read that no bench made; give the next four")
    for name in ("dataset", "model", "figures", "shaped"):
        parser.add_argument(f"--{name}", metavar="TEXT")
    options = parser.parse_args(argv)
    try:
        if options.add:
            values = {name: getattr(options, name) for name in ("dataset", "model", "figures", "shaped")}
            if missing := [name for name, value in values.items() if not value]:
                raise UsageError(f"--add needs --{missing[0]}")
            append(options.results, {"at": datetime.datetime.now(datetime.UTC).date().isoformat(), **values})
        elif options.write is None:
            raise UsageError("give --add or --write DIR")
        if options.write is not None:
            page = options.write / PAGE
            page.write_text(written(page.read_text(encoding="utf-8"), lines(options.results)), encoding="utf-8")
    except (DataError, UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
