"""`mtaw-fast evaluate` and `compare`: what they print, their JSON, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mtaw_fast import Dataset, Recommender, compare, evaluate
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import DataWarning
from mtaw_fast.evaluation.measuring import COLUMNS, MORE
from mtaw_fast.evaluation.metrics import METRICS, listed_rank
from tests.support.cli import TINY, failure


@pytest.mark.parametrize("encoder", ["native", "numpy", "torch"])
@pytest.mark.parametrize("index", ["numpy", "faiss-flat"])
def test_every_encoder_and_index_evaluates_alike(
    work: Path, capsys: pytest.CaptureFixture[str], encoder: str, index: str
) -> None:
    capsys.readouterr()
    arguments = ["evaluate", f"{work}/bundle", f"{work}/dataset", "--json", "--no-baselines"]
    assert main(arguments) == 0
    expected = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--encoder", encoder, "--index", index]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["encoder"], result["index"]) == (encoder, index)
    assert result["P@20"] == expected["P@20"]
    assert result["MRR@20"] == pytest.approx(expected["MRR@20"], abs=1e-9)


def test_every_slice_adds_up_to_all_samples(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", f"{work}/bundle", f"{work}/dataset", "--json", "--no-baselines"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(MORE) <= set(report)
    assert set(report["intervals"]) == {*METRICS, *MORE} - {"coverage@20", "gini@20"}
    assert {"session length", "first click", "target popularity", "hour (UTC)"} <= set(report["slices"])
    for values in report["slices"].values():
        assert sum(group["samples"] for group in values.values()) == report["samples"]
        for name in COLUMNS:
            total = sum(group["samples"] * group[name] for group in values.values())
            assert total / report["samples"] == pytest.approx(report[name])
    frame = evaluate(work / "bundle", work / "dataset").to_frame()
    assert frame.columns == ["slice", "value", "samples", "sessions", "metric", "mean", "low", "high"]
    assert len(frame) == len(METRICS) + len(MORE) + len(COLUMNS) * sum(map(len, report["slices"].values()))
    for row in frame.filter(pl.col("slice") == "session length").iter_rows(named=True):
        group = report["slices"]["session length"][row["value"]]
        assert (row["samples"], row["mean"]) == (group["samples"], group[row["metric"]])
        assert [row["low"], row["high"]] == group["intervals"].get(row["metric"], [None, None])
    rows = evaluate(work / "bundle", work / "dataset").to_frame("pandas")
    assert list(rows.columns) == frame.columns


def test_it_says_how_much_later_than_the_validation_the_clicks_are(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["evaluate", f"{work}/bundle", f"{work}/dataset", "--no-baselines"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("validation")]
    data, bundle = Dataset.load(work / "dataset"), Bundle.load(work / "bundle")
    known: Any = data.train.split_last(bundle.config.optimizer.validation_fraction)[0].times
    train: Any = data.train.times
    test: Any = data.test.target_times
    assert f"P@20 {bundle.metrics['validation']['P@20']:.2f} on clicks up to " in line
    result = evaluate(bundle, data)
    assert result.validation is not None
    spans = (train.max() - known.max(), test.max() - train.max())
    assert (result.validation.hours, result.validation.hours_here) == tuple(span / 3_600_000 for span in spans)
    with pytest.warns(DataWarning, match="not trained on the training part"):
        assert evaluate(bundle, dataclasses.replace(data, fingerprint="of-another-log")).validation is None


def test_repeats_of_the_last_click_are_warned_of(
    tmp_path: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every view is followed by a cart of the same item; merged, nothing is left to repeat."""
    lines = (work / "clicks.csv").read_text(encoding="utf-8").splitlines()
    rows = [f"{line},view\n{line},cart" for line in lines[1:]]
    (tmp_path / "typed.csv").write_text("\n".join([f"{lines[0]},event", *rows]) + "\n", encoding="utf-8")
    for name, options in (("plain", []), ("merged", ["--merge-types"])):
        prepare = ["prepare", "clicks", f"{tmp_path}/typed.csv", f"{tmp_path}/{name}", "--test-days", "2"]
        assert main([*prepare, "--type", "event", *options]) == 0
        capsys.readouterr()
        assert main(["evaluate", f"{work}/bundle", f"{tmp_path}/{name}", "--no-baselines"]) == 0
        captured = capsys.readouterr()
        warned = "100% of the hits of type cart repeat the last click" in captured.err
        assert warned == (name == "plain")
        assert ("0 of these are new to the session: none" in captured.out) == (name == "plain")


def test_the_table_names_every_row(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"{work}/bundle", f"{work}/dataset", "--split", "validation"]) == 0
    captured = capsys.readouterr()
    assert "refit on the validation sessions" in captured.err
    rows = [line for line in captured.out.splitlines() if line.startswith("|")]
    names = [row.split("|")[1].strip() for row in rows if row.split("|")[1].strip() not in ("", "---")]
    others = ["popularity", "own items, recent first", "own items, frequent first", "co-occurrence + repeats"]
    later = ["served a day later", "served a week or more later"]
    assert names == ["model", *later, *others, "model", *others]  # metrics with intervals, then the others


@pytest.fixture(scope="module")
def other(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of later sessions alone, so that its catalog is another and it knows less."""
    folder = tmp_path_factory.mktemp("compare")
    lines = (work / "clicks.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines[1:] if "sku-7é" not in line]
    (folder / "clicks.csv").write_text("\n".join([lines[0], *kept[len(kept) // 2 :]]) + "\n", encoding="utf-8")
    assert main(["prepare", "clicks", f"{folder}/clicks.csv", f"{folder}/dataset", "--test-days", "2"]) == 0
    assert main(["train", f"{folder}/dataset", f"{folder}/other", "--epochs", "1", *TINY, "--json"]) == 0
    return folder / "other"


def test_the_command_says_which_bundle_finds_more(work: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["compare", f"{work}/bundle", f"{other}", f"{work}/dataset", "--examples", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].endswith(".")
    assert "of 100 targets than bundle" in captured.out.splitlines()[0]
    assert "P@20 by slice" in captured.out
    assert "are shown by A alone" in captured.out
    assert "warning: other: this bundle was not trained on the training part of clicks" in captured.err
    assert main(["compare", f"{work}/bundle", f"{other}", f"{work}/dataset", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["verdict"] == captured.out.splitlines()[0]
    assert comparison["samples"] == len(Dataset.load(work / "dataset").test)
    assert comparison["lists"]["only_first"] >= 1  # the item that the other has not
    for example in comparison["examples"]:
        ranks = [example[name]["rank"] for name in ("first", "second")]
        assert (ranks[0] is None) != (ranks[1] is None)
        for name, rank in zip(("first", "second"), ranks, strict=True):
            items = example[name]["items"]
            assert len(set(items)) == 5
            if rank is not None and rank <= 5:
                assert example["target"] in items
            if rank is None:
                assert example["target"] not in items


def test_a_bundle_equals_itself(work: Path) -> None:
    comparison = compare(work / "bundle", work / "bundle", work / "dataset", split="test", examples=1)
    assert (comparison.first, comparison.second) == ("bundle (A)", "bundle (B)")
    assert comparison.verdict.startswith("No difference is shown: bundle (B) finds 0.00 more")
    assert (comparison.lists.overlap, comparison.lists.same_list, comparison.lists.new_share) == (100, 100, 0)
    assert comparison.examples == []


def test_validation_is_what_both_bundles_held_out(work: Path, tmp_path: Path) -> None:
    bundle, data = Bundle.load(work / "bundle"), Dataset.load(work / "dataset")
    held_out_more = bundle.model.config.replace(validation_fraction=0.4)
    model = dataclasses.replace(bundle.model, config=held_out_more)
    other = Bundle.save(tmp_path / "other", model, metrics={"refit": False}, dataset=bundle.dataset)
    _, held_out = data.train.split_last(bundle.config.optimizer.validation_fraction)
    expected = len(Samples.from_sessions(held_out, data.min_prefix))
    for pair in ((bundle, other), (other, bundle)):
        with pytest.warns(DataWarning, match="^bundle: this bundle was refit on the validation sessions"):
            assert compare(*pair, data, split="validation", examples=0).samples == expected


def test_a_later_serving_is_measured_by_ranking_later(work: Path) -> None:
    dataset, bundle = Dataset.load(work / "dataset"), Recommender.load(work / "bundle")
    evaluation = evaluate(bundle, dataset)
    names = {"served a day later": 1, "served a week or more later": 7}
    assert list(evaluation.served_late) == list(names)
    for name, days in names.items():
        prefixes = dataset.test.prefixes
        assert prefixes.times is not None
        late = dataclasses.replace(prefixes, times=prefixes.times + days * 86_400_000)
        hits = listed_rank(*bundle.rank(late, 21), dataset.test.targets) <= 20
        assert evaluation.served_late[name].metrics["P@20"] == pytest.approx(100 * hits.mean())
        assert name in str(evaluation)
    prefixes = dataclasses.replace(dataset.test.prefixes, times=None)
    undated = dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, prefixes=prefixes, target_times=None))
    assert evaluate(bundle, undated).served_late == {}


def test_misuse_is_one_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["compare", f"{work}/bundle", f"{work}/bundle", f"{work}/dataset"]
    assert "examples must be at least 0" in failure([*pair, "--examples", "-1"], 2, capsys)
    assert "no slice 'brand'" in failure([*pair, "--slices", "brand"], 2, capsys)
    assert "no slice 'brand'" in failure(["evaluate", *pair[2:], "--slices", "brand"], 2, capsys)
