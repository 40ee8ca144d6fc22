"""The register of test reads: a line before every read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.harness.records import log_read, read_lines
from bench.harness.register import lines, main, tables
from bench.quality.records import KIND, SCHEMA, records_in

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs/results"
RECORD = {
    "kind": KIND,
    "schema": SCHEMA,
    "dataset": {"name": "ring"},
    "preset": "full",
    "changed": {"gamma": 6.0},
    "seed": 3,
    "reads": [],
}


def test_a_read_is_registered_before_it_happens(tmp_path: Path) -> None:
    record, entry = dict(RECORD), records_in(tmp_path).entry("ring")
    for reason in ("the finalist's one read", "again"):
        log_read(entry, record, reason)
    reads = lines(tmp_path)
    assert [(line["dataset"], line["model"], line["seed"], line["why"]) for line in reads] == [
        ("ring", "full, gamma=6.0", 3, "the finalist's one read"),
        ("ring", "full, gamma=6.0", 3, "again"),
    ]
    ((_, kept),) = read_lines(entry.file.path)
    assert [read["at"] for read in kept["reads"]] == [line["at"] for line in reads]


def test_every_read_of_a_record_is_in_the_register() -> None:
    registered = {(line["at"], line["dataset"], line.get("seed")) for line in lines(RESULTS)}
    for file in ("quality", "earlier", "peers"):
        for name, record in read_lines(RESULTS / f"{file}.jsonl"):
            for read in record.get("reads", []):
                assert (read["at"], record["dataset"]["name"], record.get("seed")) in registered, name


def test_a_read_by_hand_says_what_it_shaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--results", str(tmp_path), "--add", "--dataset", "ring", "--model", "full, replay", "--figures", "1 / 2"]
    assert main(flags) == 2
    assert capsys.readouterr().err == "error: --add needs --shaped\n"
    assert main([*flags, "--shaped", "nothing"]) == 0
    (row,) = tables(lines(tmp_path))["hand"].splitlines()[2:]
    assert row.endswith("| ring | full, replay | 1 / 2 | nothing |")
