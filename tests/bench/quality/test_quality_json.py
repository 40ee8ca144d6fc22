"""The quality bench's --json and --quick: the records in the benches' own envelope, and a smoke run that keeps none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.quality import command as quality
from bench.quality import evaluate_cost
from tests.support.bench.quality import bench, records, write_ring


def written(path: Path) -> list[dict[str, Any]]:
    """The results of a bench JSON document, its envelope checked."""
    report = json.loads(path.read_text())
    assert list(report) == ["schema", "machine", "commit", "at", "quick", "results"]
    assert report["schema"] == 1
    assert report["machine"]["cpu"]
    assert report["commit"] is None or len(report["commit"].removesuffix("-dirty")) == 40
    assert {record["bench"] for record in report["results"]} == {"quality"}
    return report["results"]


def test_json_holds_the_records_that_were_made_or_found(tmp_path: Path) -> None:
    write_ring(tmp_path / "data")
    screen = ["--preset", "paper", "--split", "validation"]
    assert bench(tmp_path, *screen, "--json", f"{tmp_path}/first.json") == 0
    (first,) = written(tmp_path / "first.json")
    (kept,) = records(tmp_path, "paper")
    assert first == {"bench": "quality", **kept}
    assert bench(tmp_path, *screen, "--seeds", "2", "--json", f"{tmp_path}/second.json") == 0
    repeated, added = written(tmp_path / "second.json")
    assert repeated == first
    assert (added["seed"], added["changed"]) == (1, first["changed"])
    assert len(records(tmp_path, "paper")) == 2


def quick(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[dict[str, Any]]:
    """The results of a --quick run in a folder; it must leave only its JSON there."""
    monkeypatch.chdir(folder)
    assert quality.main(["--quick", "--threads", "1", "--json", "out.json", *arguments]) == 0
    assert [path.name for path in folder.iterdir()] == ["out.json"]
    return written(folder / "out.json")


def test_quick_makes_its_data_and_keeps_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = quick(tmp_path, monkeypatch, "--preset", "paper", "--split", "validation", "--set", "embedding_dim=8")
    assert record["dataset"]["name"].startswith("synthetic-")
    assert (record["preset"], record["split"], record["seed"]) == ("paper", "validation", 0)
    assert (record["config"]["d"], record["config"]["epochs"]) == (8, 1)
    assert 0 < record["metrics"]["MRR@20"] < record["metrics"]["P@20"] < 100


@pytest.mark.long(caught="test_quick_makes_its_data_and_keeps_no_record, test_quality")
def test_quick_runs_baselines_and_both_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = quick(tmp_path, monkeypatch)
    assert [record["preset"] for record in lines[-2:]] == ["paper", "full"]
    assert len(lines) == 6
    by_name = {record["preset"]: record["metrics"]["P@20"] for record in lines}
    assert all(record["split"] == "test" and len(record["reads"]) == 1 for record in lines)
    assert by_name["full"] > by_name["paper"] > by_name["popularity"]


def test_a_bench_that_keeps_no_record_takes_no_json(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        evaluate_cost.main(["--bundle", "none", "--dataset", "none", "--json", f"{tmp_path}/out.json"])
