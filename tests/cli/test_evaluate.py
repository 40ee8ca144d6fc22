"""`mtaw-fast evaluate`: the rows of its table, and equal metrics of every encoder and index."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from mtaw_fast import evaluate
from mtaw_fast.cli import main
from mtaw_fast.evaluation.measuring import COLUMNS, MORE
from mtaw_fast.evaluation.metrics import METRICS


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
    assert names == 2 * [  # metrics with intervals, then the others
        "model", "popularity", "own items, recent first", "own items, frequent first", "co-occurrence + repeats",
    ]  # fmt: skip
