"""The quality bench: records are made once, read the test once, continue after an interruption, and become tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.harness import register
from bench.quality import __main__ as quality
from bench.quality import runs as quality_runs
from bench.quality.records import Finalist, protocol_of, records_in, settings_hash
from bench.quality.table import LEAK_MARK, NOT_REFIT_MARK, render
from mtaw_fast.config import preset
from tests.support.bench.quality import bench, records, write_ring

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and the records of finals, a screen with a change, and baselines."""
    folder = tmp_path_factory.mktemp("quality")
    write_ring(folder / "data")
    assert bench(folder, "--preset", "paper", "--seeds", "2") == 0
    assert bench(folder, "--preset", "paper", "--split", "validation") == 0
    assert bench(folder, "--preset", "paper", "--split", "validation", "--set", "gamma=6") == 0
    assert bench(folder, "--preset", "baselines") == 0
    return folder


def written(path: Path) -> list[dict[str, Any]]:
    """The results of a bench JSON document, its envelope checked."""
    report = json.loads(path.read_text())
    assert list(report) == ["schema", "machine", "commit", "at", "quick", "results"]
    assert {record["bench"] for record in report["results"]} == {"quality"}
    return report["results"]


def test_a_final_is_one_record_a_seed_with_all_that_the_notes_need(made: Path) -> None:
    finals = records(made, "paper-*-test-seed")
    assert [record["seed"] for record in finals] == [0, 1]
    for record in finals:
        assert set(record["metrics"]) == {"P@10", "MRR@10", "P@20", "MRR@20"}
        low, high = record["intervals"]["MRR@20"]
        assert low <= record["metrics"]["MRR@20"] <= high
        assert record["non_repeat"]["samples"] == record["exclude_seen"]["samples"] > 0
        assert record["exclude_seen"]["P@20"] >= record["non_repeat"]["P@20"]  # fewer items stand before the target
        assert record["training"]["refit"] is True
        assert record["training"]["validation"]["MRR@20"] > 0
        assert record["training"]["seconds"] > 0
        assert record["config"]["embedding_dim"] == record["changed"]["embedding_dim"] == 8
        assert record["dataset"]["fingerprint"]
        assert record["made"]["machine"]["packages"]["numpy"] == np.__version__
        assert [read["why"] for read in record["reads"]] == ["the finalist's one read"]
    assert finals[0]["metrics"] != finals[1]["metrics"]


def test_what_is_recorded_is_not_done_again(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    before = {path: path.read_bytes() for path in (made / "results").iterdir()}
    monkeypatch.setattr(quality_runs, "train", fail)
    assert bench(made, "--preset", "paper", "--seeds", "2", "--json", f"{tmp_path}/out.json") == 0
    assert written(tmp_path / "out.json") == [
        {"bench": "quality", **record} for record in records(made, "paper-*-test-seed")
    ]
    assert bench(made, "--preset", "baselines") == 0
    assert {path: path.read_bytes() for path in (made / "results").iterdir()} == before
    assert [path.name for path in (made / "work").iterdir()] == ["ring.dataset"]


def test_a_run_cut_off_while_it_read_the_test_logs_a_second_read(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, name = ["--preset", "baselines"], "baseline-popularity-test"
    shutil.copytree(made / "data", tmp_path / "data")

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quality_runs, "evaluate", cut)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, *arguments)
    monkeypatch.undo()
    (record,) = records(tmp_path, name)
    assert "metrics" not in record
    assert bench(tmp_path, *arguments) == 0
    (record,) = records(tmp_path, name)
    assert [read["why"] for read in record["reads"]] == ["the finalist's one read", "the read before was cut off"]
    assert record["metrics"] == records(made, name)[0]["metrics"]


def test_a_record_of_other_data_or_defaults_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    shutil.copytree(made / "results", tmp_path / "results")
    file = records_in(tmp_path / "results")
    entry = file.entry(next(name for name in file.every() if name.endswith("-test-seed0") and "-paper-" in name))
    record = entry.read()
    entry.write(record | {"dataset": {"name": "ring", "fingerprint": "another"}})
    assert bench(tmp_path, "--preset", "paper", "--seeds", "1") == 2
    assert "made from other data" in capsys.readouterr().err
    entry.write(record | {"config": record["config"] | {"patience": 9}})
    assert bench(tmp_path, "--preset", "paper", "--seeds", "1") == 2
    assert "made with other defaults" in capsys.readouterr().err
    entry.write(record)
    entry = file.entry(next(name for name in file.every() if name.endswith("-baseline-popularity-test")))
    entry.write(entry.read() | {"dataset": {"name": "ring", "fingerprint": "another"}})
    assert bench(tmp_path, "--preset", "baselines") == 2
    assert "made from other data" in capsys.readouterr().err
    entry.write({"kind": "something else"})
    assert bench(tmp_path, "--preset", "baselines") == 1
    assert "is no record of bench.quality" in capsys.readouterr().err


def test_the_committed_records_keep_the_hashes_in_their_names() -> None:
    by_name = {name: record for name, record in records_in(ROOT / "docs/results").every().items() if "-seed" in name}
    assert len(by_name) > 100
    for name, record in by_name.items():
        config = preset(record["preset"]).replace(**record["changed"], seed=record["seed"])
        finalist = Finalist(record["dataset"]["name"], record["preset"], config, record["split"], protocol_of(record))
        assert finalist.name == name
    assert settings_hash(preset("full")) == "35ba9187"
    assert settings_hash(preset("paper").replace(gamma=6.0)) == "430a2d11"


def test_the_tables_hold_means_changes_and_published_rows(made: Path, capsys: pytest.CaptureFixture) -> None:
    assert quality.main(["--table", "--results", f"{made}/results"]) == 0
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    by_name = {row[0]: row for row in rows}
    finals = records(made, "paper-*-test-seed")
    name = "paper embedding_dim=8 lr=0.03 batch_prefixes=64 epochs=2 validation_fraction=0.1"
    final = next(row for row in rows if row[0] == name and row[1] == "2")
    values = [record["metrics"]["P@20"] for record in finals]
    assert final[4].startswith(f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} [")
    assert by_name["popularity"][1] == "1"
    assert "gamma=6.0" in text
    assert "co-occurrence + repeats" in by_name
    tmall = [record | {"dataset": {"name": "tmall"}} for record in finals]
    assert "GraphFine, as published" in render(tmall)


def test_misuse_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = ["--data", f"{tmp_path}"]
    for arguments, message in (
        ([], "give --data and --preset"),
        ([*data, "--preset", "paper", "--set", "gama=6"], "gama"),
        (["--quick", *data], "leave --data out"),
        (["--table", "--json", f"{tmp_path}/out.json"], "leave --json and --quick out"),
        ([*data, "--preset", "paper", "--protocol", "not-refit", "--split", "validation"], "leave --split"),
    ):
        assert quality.main(["--results", f"{tmp_path}/results", *arguments][2 * ("--quick" in arguments) :]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_what_is_not_refit_has_its_own_record_and_mark(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    arguments = ["--preset", "full", "--seeds", "1", "--set", "ranker_fraction=0.3"]
    for protocol in ("not-refit", "held-out"):
        assert bench(tmp_path, *arguments, "--protocol", protocol) == 0
    (record,) = records(tmp_path, "test-not-refit")
    assert (record["training"]["refit"], len(record["reads"])) == (False, 1)
    assert [line["model"].endswith("not refit") for line in register.lines(tmp_path / "results")] == [True, False]
    finals = records(tmp_path, "-test-")
    assert {final["training"]["refit"] for final in finals} == {False, True}
    text = render(finals)
    assert len([line for line in text.splitlines() if line.startswith("| full ")]) == 2
    assert text.count(NOT_REFIT_MARK) == 1
    assert LEAK_MARK not in text


def test_quick_makes_its_data_and_keeps_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--threads", "1", "--preset", "paper", "--split", "validation", "--set", "embedding_dim=8"]
    assert quality.main(["--quick", *options, "--json", "out.json"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    (found,) = written(tmp_path / "out.json")
    assert found["dataset"]["name"].startswith("synthetic-")
    assert 0 < found["metrics"]["MRR@20"] < found["metrics"]["P@20"] < 100
