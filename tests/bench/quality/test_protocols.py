"""Two ways to choose the epoch: by validation, and (a leak, marked as one) by the test set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.harness import register
from bench.quality import best_epochs
from bench.quality import command as quality
from bench.quality import runs as quality_runs
from bench.quality.records import records_in
from bench.quality.table import LEAK_MARK, NOT_REFIT_MARK, render
from bench.suite.result_tables import pair, refit_gain, signed
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.evaluation import evaluate
from mtaw_fast.recommender import Recommender
from mtaw_fast.training import train
from tests.support.bench.quality import bench, records, write_ring

METRICS = ("P@10", "MRR@10", "P@20", "MRR@20")
# Three epochs of the schedule that `paper-literal` has, in which the test's best epochs differ.
LITERAL = ["--preset", "paper-literal", "--set", "epochs=3", "--seeds", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a finished run of the published protocol, without a validation record."""
    folder = tmp_path_factory.mktemp("protocols")
    write_ring(folder / "data")
    assert bench(folder, *LITERAL, "--protocol", "published") == 0
    return folder


def test_each_metric_is_that_of_its_best_test_epoch(made: Path) -> None:
    (record,) = records(made, "published")
    history = record["training"]["history"]
    assert [line["epoch"] for line in history] == [1, 2, 3]
    for name in METRICS:
        values = [line["test"][name] for line in history]
        assert record["metrics"][name] == max(values)
        epoch = record["best_epochs"][name]
        assert epoch == 1 + int(np.argmax(values))
        assert record["intervals"][name] == history[epoch - 1]["test"]["intervals"][name]
    assert record["epochs"] == {"run": 3, "asked": 3}
    assert record["samples"] == history[0]["test"]["samples"] > 0
    assert ["after every epoch, up to epoch 3" in read["why"] for read in record["reads"]] == [True]


def test_its_figures_are_those_of_bundles_of_as_many_epochs(made: Path, tmp_path: Path) -> None:
    (record,) = records(made, "published")
    dataset = Dataset.load(made / "work" / "ring.dataset")
    config = quality_runs.Config.from_dict(record["config"])
    trained = train(dataset, config, tmp_path / "run", threads=1)  # refit for the epochs that validation chose
    trained.save(tmp_path / "bundle", dataset)
    expected = evaluate(Recommender.load(tmp_path / "bundle"), dataset.test)
    shown = record["training"]["history"][trained.best_epoch - 1]["test"]
    assert {name: shown[name] for name in METRICS} == dict(expected.metrics)
    assert shown["intervals"] == {name: list(interval) for name, interval in expected.intervals.items()}


def test_a_run_may_stop_early_and_goes_on_to_the_same_bits(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    published = [*LITERAL, "--protocol", "published"]
    assert bench(tmp_path, *published, "--stop-after", "1") == 0
    (part,) = records(tmp_path, "published")
    assert part["epochs"] == {"run": 1, "asked": 3}
    assert "1 of 3 run" in render([part])
    trained = count_epochs(monkeypatch)
    assert bench(tmp_path, *published, "--stop-after", "1") == 0
    assert trained == []
    assert bench(tmp_path, *published) == 0
    assert trained == [2, 3]
    (whole,), (expected,) = records(tmp_path, "published"), records(made, "published")
    for name in ("metrics", "best_epochs", "intervals", "repeat", "epochs"):
        assert whole[name] == expected[name]
    assert len(whole["reads"]) == 2


def test_what_is_cut_off_has_recorded_its_epochs_and_goes_on(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    judge = best_epochs._TestReader.__call__

    def cut(reader: Any, model: Any) -> dict[str, Any]:
        if reader._epoch == 1:
            raise KeyboardInterrupt
        return judge(reader, model)

    monkeypatch.setattr(best_epochs._TestReader, "__call__", cut)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, *LITERAL, "--protocol", "published")
    (part,) = records_in(tmp_path / "results").finished()
    assert part["epochs"] == {"run": 1, "asked": 3}
    monkeypatch.undo()
    trained = count_epochs(monkeypatch)
    assert bench(tmp_path, *LITERAL, "--protocol", "published") == 0
    assert trained == [2, 3]
    assert records(tmp_path, "published")[0]["metrics"] == records(made, "published")[0]["metrics"]


@pytest.mark.parametrize("first", ["validation", "published"])
def test_the_other_protocol_takes_the_refit_that_is_there_already(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    for folder in (alone := tmp_path / "alone", both := tmp_path / "both"):
        shutil.copytree(made / "data", folder / "data")
    assert bench(alone, *LITERAL) == 0
    runs = [["--split", "validation"], ["--protocol", "published"]]
    for options in runs if first == "validation" else reversed(runs):
        assert bench(both, *LITERAL, *options) == 0
    kept = list((both / "work").glob("*-published-*/epoch-*.safetensors"))
    assert len(kept) == (1 if first == "validation" else 3)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(quality_runs, "train", fail)
    assert bench(both, *LITERAL) == 0
    (shared,), (expected,) = records(both, "test-seed"), records(alone, "test-seed")
    for name in ("metrics", "intervals", "repeat", "exclude_seen", "config"):
        assert shared[name] == expected[name]
    assert shared["training"]["best_epoch"] == expected["training"]["best_epoch"]
    shown = [(line["phase"], line["epoch"], line["loss"]) for line in shared["training"]["history"]]
    assert shown == [(line["phase"], line["epoch"], line["loss"]) for line in expected["training"]["history"]]
    assert "test" not in shared["training"]["history"][-1]
    assert [read["why"] for read in shared["reads"]] == ["the finalist's one read"]


@pytest.mark.parametrize(
    "preset", [pytest.param("paper", marks=pytest.mark.long(caught="here, with a memory on top")), "full"]
)
def test_what_is_not_refit_has_the_figures_of_the_search(made: Path, tmp_path: Path, preset: str) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    arguments = ["--preset", preset, "--seeds", "1", "--set", "ranker_fraction=0.3"]
    assert bench(tmp_path, *arguments, "--protocol", "not-refit") == 0
    (record,) = records(tmp_path, "test-not-refit")
    dataset = Dataset.load(tmp_path / "work" / "ring.dataset")
    trained = train(dataset, quality_runs.Config.from_dict(record["config"]), tmp_path / "run", threads=1, refit=False)
    trained.save(tmp_path / "bundle", dataset)
    assert record["metrics"] == dict(evaluate(Recommender.load(tmp_path / "bundle"), dataset.test).metrics)
    assert record["training"]["refit"] is False
    ranker_losses, expected_losses = (
        [line["loss"] for line in history if line["phase"] == "ranker"]
        for history in (record["training"]["history"], trained.history)
    )
    assert ranker_losses == pytest.approx(expected_losses, rel=1e-5)
    assert len(record["reads"]) == 1
    assert [line["model"].endswith("not refit") for line in register.lines(tmp_path / "results")] == [True]
    assert bench(tmp_path, *arguments) == 0
    finals = records(tmp_path, "-test-")
    assert {final["training"]["refit"] for final in finals} == {False, True}
    text = render(finals)
    assert len([line for line in text.splitlines() if line.startswith(f"| {preset} ")]) == 2
    assert text.count(NOT_REFIT_MARK) == 1
    assert "(LEAK" not in text
    path = tmp_path / "results" / "quality.jsonl"
    path.write_text(path.read_text().replace('"name": "ring"', '"name": "tmall"'))
    (row,) = refit_gain(tmp_path / "results").splitlines()[2:]
    pairs = [[final["metrics"][name] for name in ("P@20", "MRR@20")] for final in finals]
    shown = [cell.strip() for cell in row.split("|")[1:-1]]
    gain = signed(np.subtract(pairs[1], pairs[0]).tolist())
    settings = [f"{name}={value:g}" for name, value in sorted(finals[0]["changed"].items())]
    assert shown == [" ".join([f"`{preset}`", *settings]), "Tmall", "1", *map(pair, pairs), gain]


def test_every_table_marks_the_leak(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = records(made, "published")
    searched = [{"phase": "search"}, {"phase": "search"}, {"phase": "refit"}]
    chosen = {**record["training"], "best_epoch": 1, "history": searched}
    honest = {**record, "protocol": "held-out", "training": chosen}
    text = render([record, honest])
    rows = [line for line in text.splitlines() if line.startswith("| paper-literal")]
    assert [LEAK_MARK in row for row in rows] == [False, True]
    assert "1 of 3, 2 searched" in rows[0]
    assert "3 of 3 run" in rows[1]
    assert f"\n{LEAK_MARK}: the test set was read after every epoch" in text
    assert "Read again" not in text
    assert LEAK_MARK not in render([honest])
    assert quality.main(["--table", "--results", f"{made}/results", "--preset", "paper-literal"]) == 0
    assert LEAK_MARK in capsys.readouterr().out
    assert quality.main(["--table", "--results", f"{made}/results", "--preset", "full"]) == 0
    assert "|" not in capsys.readouterr().out


def test_defaults_of_the_memory_may_change_where_there_is_none(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    file = records_in(tmp_path / "results")
    entry = file.entry(next(name for name in file.every() if "published" in name))
    record = entry.read()
    changed = {"ranker_lr": 0.1, "window": 3, "leave_out": "knn"}
    entry.write({**record, "config": {**record["config"], **changed}})
    assert bench(tmp_path, *LITERAL, "--protocol", "published") == 0
    entry.write({**record, "config": {**record["config"], "memory": True}})
    assert bench(tmp_path, *LITERAL, "--protocol", "published") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "paper", "--stop-after", "2"], "with --protocol published alone"),
        (["--preset", "paper", "--protocol", "published", "--stop-after", "0"], "at least one epoch"),
        (["--preset", "full", "--protocol", "published"], "give a preset without a session memory"),
        (["--preset", "baselines", "--protocol", "published"], "give a preset without a session memory"),
        (["--preset", "paper", "--protocol", "published", "--split", "validation"], "leave --split and --again out"),
        (["--preset", "paper", "--protocol", "published", "--again", "why"], "leave --split and --again out"),
        (["--preset", "paper", "--protocol", "not-refit", "--split", "validation"], "leave --split out"),
        (["--preset", "baselines", "--protocol", "not-refit"], "a preset on the test set: give one"),
    ],
)
def test_misuse_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert bench(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def count_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are trained from now on, as they begin."""
    fitting: Any = best_epochs.Fitting
    epoch: Callable[..., Any] = fitting._epoch
    begun: list[int] = []
    monkeypatch.setattr(fitting, "_epoch", lambda self, *values: begun.append(values[1]) or epoch(self, *values))
    return begun
