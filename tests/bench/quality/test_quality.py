"""The quality bench: records are made once, read the test once, continue after an interruption, and become tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.quality import command as quality
from bench.quality import reuse
from bench.quality import runs as quality_runs
from bench.quality.records import KIND, SCHEMA, Finalist, load, protocol_of, records_in, settings_hash
from bench.quality.table import render
from mtaw_fast.cli import main as command
from mtaw_fast.config import Config, preset
from mtaw_fast.config.former_names import from_former
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.training import train
from tests.support.bench.quality import TINY, bench, records, write_ring

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


def ranker_losses(record: dict[str, Any]) -> list[float]:
    return [line["loss"] for line in record["training"]["history"] if line["phase"] == "ranker"]


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
        assert record["config"]["d"] == record["changed"]["d"] == 8
        assert record["dataset"]["fingerprint"]
        assert record["made"]["machine"]["packages"]["numpy"] == np.__version__
        assert [read["why"] for read in record["reads"]] == ["the finalist's one read"]
    assert finals[0]["metrics"] != finals[1]["metrics"]


def test_the_metrics_are_those_of_the_command_line(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset = made / "work" / "ring.dataset"
    train = ["train", f"{dataset}", f"{tmp_path}/b", "--preset", "paper", "--json"]
    assert command([*train, *TINY[: TINY.index("--threads")]]) == 0
    capsys.readouterr()
    assert command(["evaluate", f"{tmp_path}/b", f"{dataset}", "--no-baselines", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    record = records(made, "paper-*-test-seed0")[0]
    assert record["metrics"] == {name: expected[name] for name in record["metrics"]}
    assert record["repeat"] == expected["repeat"]


def test_a_screen_reads_no_test_and_keeps_the_validation_sessions_out(made: Path) -> None:
    screens = records(made, "validation")
    assert [record["changed"].get("gamma") for record in screens].count(6.0) == 1
    for record in screens:
        assert record["reads"] == []
        assert record["training"]["refit"] is False
        # The same model on the same sessions, by the trainer's own count.
        assert record["metrics"]["P@20"] == pytest.approx(record["training"]["validation"]["P@20"], abs=0.5)


def test_what_is_recorded_is_not_done_again(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    before = {path: path.read_bytes() for path in (made / "results").iterdir()}
    monkeypatch.setattr(quality_runs, "train", fail)
    assert bench(made, "--preset", "paper", "--seeds", "2") == 0
    assert bench(made, "--preset", "baselines") == 0
    assert {path: path.read_bytes() for path in (made / "results").iterdir()} == before
    assert [path.name for path in (made / "work").iterdir()] == ["ring.dataset"]


def test_another_read_needs_a_reason_and_is_logged(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    assert bench(tmp_path, "--preset", "paper", "--seeds", "1", "--again", "curious") == 2
    assert "has no such read" in capsys.readouterr().err
    shutil.copytree(made / "results", tmp_path / "results", dirs_exist_ok=True)
    assert bench(tmp_path, "--preset", "paper", "--split", "validation", "--again", "curious") == 2
    assert bench(tmp_path, "--preset", "paper", "--seeds", "1", "--again", "the metric was corrected") == 0
    first, second = records(tmp_path, "paper-*-test-seed")
    assert [read["why"] for read in first["reads"]] == ["the finalist's one read", "the metric was corrected"]
    assert len(second["reads"]) == 1
    assert first["metrics"] == records(made, "paper-*-test-seed0")[0]["metrics"]
    assert "Read again: paper seed 0" in render([first, second])


def test_a_run_cut_off_while_it_read_the_test_logs_a_second_read(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made / "data", tmp_path / "data")

    class CutOffError(Exception):
        pass

    def cut(*_: Any) -> None:
        raise CutOffError

    monkeypatch.setattr(quality_runs, "measure", cut)
    with pytest.raises(CutOffError):
        bench(tmp_path, "--preset", "paper", "--seeds", "1")
    monkeypatch.undo()
    assert len(list((tmp_path / "work").glob("*-seed0/run"))) == 1
    (record,) = records(tmp_path, "test")
    assert "metrics" not in record
    assert bench(tmp_path, "--preset", "paper", "--seeds", "1") == 0
    (record,) = records(tmp_path, "test")
    assert [read["why"] for read in record["reads"]] == ["the finalist's one read", "the read before was cut off"]
    assert record["metrics"] == records(made, "paper-*-test-seed0")[0]["metrics"]


def test_baselines_keep_all_their_reads_and_refuse_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_ring(tmp_path / "data")

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quality_runs, "evaluate", cut)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, "--preset", "baselines")
    monkeypatch.undo()
    assert bench(tmp_path, "--preset", "baselines") == 0
    (record,) = records(tmp_path, "baseline-popularity-test")
    assert [read["why"] for read in record["reads"]] == ["the finalist's one read", "the read before was cut off"]
    file = records_in(tmp_path / "results")
    entry = file.entry(next(name for name in file.every() if name.endswith("-baseline-popularity-test")))
    entry.write(record | {"dataset": record["dataset"] | {"fingerprint": "another"}})
    assert bench(tmp_path, "--preset", "baselines") == 2
    assert "made from other data" in capsys.readouterr().err


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
    # A setting that there was not yet, and that shapes a memory: today's default is another model.
    finalist = Finalist("ring", "full", preset("full"), "validation")
    older = {name: value for name, value in preset("full").as_dict().items() if name != "prequential"}
    entry.write(record | {"preset": "full", "config": older})
    with pytest.raises(UsageError, match="made with other defaults"):
        load(entry, finalist, record["dataset"]["fingerprint"])
    entry.write({"kind": "something else"})
    assert bench(tmp_path, "--preset", "paper", "--seeds", "1") == 1
    assert "is no record of bench.quality" in capsys.readouterr().err


def test_the_name_forgets_the_seed_and_new_settings_with_their_defaults() -> None:
    assert settings_hash(Config.of(seed=3, gamma=6.0)) == settings_hash(Config.of(gamma=6.0)) != settings_hash(Config())
    name = Finalist("tmall", "paper", Config.of(seed=3), "test").name
    assert name == f"tmall-paper-{settings_hash(Config())}-test-seed3"


def test_the_committed_records_keep_the_hashes_in_their_names() -> None:
    by_name = {name: record for name, record in records_in(ROOT / "docs/results").every().items() if "-seed" in name}
    assert len(by_name) > 100
    for name, record in by_name.items():
        config = preset(record["preset"]).replace(**from_former(record["changed"]), seed=record["seed"])
        finalist = Finalist(record["dataset"]["name"], record["preset"], config, record["split"], protocol_of(record))
        assert finalist.name == name
    assert settings_hash(preset("full")) == "12cba66a"
    assert settings_hash(preset("paper").replace(gamma=6.0)) == "430a2d11"


def test_the_tables_hold_means_changes_and_published_rows(made: Path, capsys: pytest.CaptureFixture) -> None:
    assert quality.main(["--table", "--results", f"{made}/results"]) == 0
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    by_name = {row[0]: row for row in rows}
    finals = records(made, "paper-*-test-seed")
    name = "paper d=8 lr=0.03 batch_prefixes=64 epochs=2 validation=0.1"
    final = next(row for row in rows if row[0] == name and row[1] == "2")
    values = [record["metrics"]["P@20"] for record in finals]
    assert final[5].startswith(f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} [")
    assert by_name["popularity"][1] == "1"
    assert "gamma=6.0" in text
    assert "co-occurrence + repeats" in by_name
    tmall = [record | {"dataset": {"name": "tmall"}} for record in finals]
    assert "GraphFine, as published" in render(tmall)


def screen(dataset: str, p: float, mrr: float, without: str = "", seed: int = 0) -> dict[str, Any]:
    parts = {"P@20": 1.0, "samples": 3}
    return {
        "dataset": {"name": dataset}, "preset": "full", "split": "validation", "seed": seed, "reads": [],
        "changed": {"leave_out": without} if without else {}, "metrics": {"P@20": p, "MRR@20": mrr},
        "samples": 6, "sessions": 2, "repeat": parts, "non_repeat": parts,
    }  # fmt: skip


def test_features_left_out_share_a_table_of_differences() -> None:
    records = [
        screen("tmall", 50, 20), screen("tmall", 52, 21, seed=1), screen("retailrocket", 60, 30),
        screen("tmall", 49, 20.5, "knn"), screen("tmall", 49, 20.5, "knn", seed=1),
        screen("retailrocket", 60.25, 29, "own,knn"), screen("retailrocket", 9, 9, "own", seed=7),
    ]  # fmt: skip
    table = render(records).split("### Features left out")[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert rows[0] == ["without", "Tmall P@20", "Tmall MRR@20", "RetailRocket P@20", "RetailRocket MRR@20"]
    assert rows[2:] == [["knn", "-2.00", "+0.00", "", ""], ["own, knn", "", "", "+0.25", "-1.00"]]


def test_a_series_of_a_file_has_the_tables_of_its_records(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = {
        name: {"kind": KIND, "schema": SCHEMA, **screen("tmall", start, 20, "")}
        for name, start in (("a", 50), ("b", 60))
    }
    lines = [{"name": name, "series": name, **record} for name, record in whole.items()]
    (tmp_path / "some.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for name, record in whole.items():
        assert quality.main(["--table", "--results", f"{tmp_path}/some.jsonl", "--series", name]) == 0
        assert capsys.readouterr().out == render([record]) + "\n"


@pytest.mark.parametrize("series", ["first", "second", "third"])
def test_the_earlier_records_still_make_their_tables(capsys: pytest.CaptureFixture, series: str) -> None:
    assert quality.main(["--table", "--results", str(ROOT / quality.EARLIER), "--series", series]) == 0
    assert "### Tmall" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --data and --preset"),
        (["--data", "{tmp}", "--preset", "none"], "no preset 'none'"),
        (["--data", "{tmp}", "--preset", "paper", "--set", "gama=6"], "gama"),
        (["--quick", "--data", "{tmp}"], "leave --data out"),
        (["--table", "--json", "{tmp}/out.json"], "leave --json and --quick out"),
        (["--table", "--results", "{tmp}/series.jsonl"], "choose one with --table --series NAME"),
        (["--table", "--results", "{tmp}/series.jsonl", "--series", "third"], "has no series 'third'; it has first"),
        (["--table", "--results", "{tmp}/none.jsonl", "--series", "first"], "No such file"),
        (["--table", "--results", "{tmp}/torn.jsonl", "--series", "first"], "torn.jsonl, line 2, is no JSON"),
        (
            ["--table", "--results", "{tmp}/other.jsonl", "--series", "first"],
            ": a is no record of bench.quality",
        ),
        (["--data", "{tmp}", "--preset", "paper", "--series", "first"], "give --table, or leave --series out"),
        (["--data", "{tmp}", "--preset", "paper", "--json", "{tmp}/none/out.json"], "its folder does not exist"),
        (["--data", "{tmp}", "--preset", "paper", "--seeds", "0"], "at least one seed"),
        (["--data", "{tmp}/none", "--preset", "paper"], "is not a folder"),
        (["--data", "{tmp}", "--preset", "full", "--without", "each"], "--without screens features"),
        (["--data", "{tmp}", "--preset", "paper", "--split", "validation", "--without", "knn"], "--without screens"),
    ],
)
def test_misuse_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    line = json.dumps({"name": "a", "kind": KIND, "schema": SCHEMA, "series": "first"})
    for name, text in {"series": line, "torn": f"{line}\n{{", "other": '{"name": "a"}'}.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    folders = ["--results", f"{tmp_path}/results", "--work", f"{tmp_path}/work"]
    assert quality.main([*folders, *(argument.format(tmp=tmp_path) for argument in arguments)]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_row_for_every_feature_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ring(tmp_path / "data")
    calls, real = [], reuse.ranker_samples
    monkeypatch.setattr(reuse, "_latest", None)  # of another test, with the same settings
    monkeypatch.setattr(reuse, "ranker_samples", lambda *arguments: calls.append(arguments) or real(*arguments))
    assert bench(tmp_path, *MEMORY, "--without", "fwd_dec,own_next,knn") == 0
    assert len(calls) == 1  # the rows share their candidates
    rows = {record["changed"]["leave_out"]: record for record in records(tmp_path, "full")}
    assert rows.keys() == {"fwd_dec", "own_next", "knn"}
    assert len({str(ranker_losses(row)) for row in rows.values()}) == 3
    # and what they share is what a row alone has
    write_ring(tmp_path / "alone" / "data")
    assert bench(tmp_path / "alone", *MEMORY, "--set", "excluded_features=knn") == 0
    (alone,) = records(tmp_path / "alone", "full")
    assert alone["metrics"] == rows["knn"]["metrics"]


MEMORY = ["--preset", "full", "--split", "validation", "--set", "ranker_fraction=0.3"]


def test_screens_of_a_memory_share_their_encoders_and_equal_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ring(tmp_path / "data")
    assert bench(tmp_path, *MEMORY) == 0
    encoders = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "encoders").glob("*/*")}
    assert len({path.parent for path in encoders}) == 2  # before the slice, and all but the held-out sessions
    assert (
        bench(tmp_path, *MEMORY, "--set", "excluded_features=fwd_dec, knn", "--set", "cooccurrence_candidates=20") == 0
    )
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "encoders").glob("*/*")}
    assert after == encoders
    plain, changed = sorted(records(tmp_path, "full"), key=lambda record: "leave_out" in record["changed"])
    assert ranker_losses(plain) != ranker_losses(changed)

    dataset = Dataset.load(tmp_path / "work" / "ring.dataset")
    trained = train(dataset, Config.from_dict(plain["config"]), tmp_path / "run", refit=False)
    assert trained.metrics == pytest.approx(plain["training"]["validation"])
    assert trained.metrics == pytest.approx(plain["metrics"])
    losses = [line["loss"] for line in trained.history if line["phase"] == "ranker"]
    assert ranker_losses(plain) == pytest.approx(losses, rel=1e-5)
