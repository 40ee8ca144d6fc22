"""Points of curves: kept as lines, asked for by numbers; and the curve of the sampled loss on a small log."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.harness.report import whole_numbers
from bench.quality import page_curve, ranker_curve, sampled_curve
from bench.quality.records import read_points, write_points
from mtaw_fast.config import Config
from mtaw_fast.data.synthetic import generate
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts


@pytest.mark.parametrize("text", ["", "1,", "a,2", "-1", "0", "1.5"])
def test_what_is_no_count_is_told(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert whole_numbers("--counts", "0,20,1e3", minimum=0) == [0, 20, 1000]
    for bench in (ranker_curve, sampled_curve):
        assert bench.main(["--data", "nowhere", f"--counts={text}"]) == 2
        assert f"--counts {text}: give whole numbers from 1 on" in capsys.readouterr().err


def test_other_sets_keep_their_points_and_neighbors_bring_the_sum_nearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, out = generate(3000, 3000), tmp_path / "lines.jsonl"
    write_points(out, [{"dataset": "other", "drawn": 1}, {"dataset": "small", "drawn": 1}])
    monkeypatch.setattr(sampled_curve, "prepared", lambda *_: dataset)
    small = Config.of(embedding_dim=16, init="structured", batch_prefixes=128, compute_dtype="float32")
    monkeypatch.setattr(sampled_curve, "preset", lambda _: small)
    options = ["--dataset", "small", "--counts", "50,3000", "--neighbors", "0,4", "--batches", "2", "--draws", "4"]
    assert sampled_curve.main(["--data", "-", *options, "--work", str(tmp_path), "--out", str(out)]) == 0
    other, *points = read_points(out)
    assert other == {"dataset": "other", "drawn": 1}
    by_counts = {(point["neighbours"], point["drawn"]): point for point in points}  # prose: ignore
    assert set(by_counts) == {(0, 50), (0, 3000), (4, 50), (4, 3000)}
    for near in (0, 4):  # all are drawn
        assert by_counts[near, 3000]["loss_error_percent"] == 0
        assert by_counts[near, 3000]["gradient_cosine"] == 1
    assert by_counts[4, 50]["sure"] > by_counts[0, 50]["sure"]
    assert by_counts[4, 50]["gradient_cosine"] > by_counts[0, 50]["gradient_cosine"]


def test_bundles_for_a_page_are_measured_next_to_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_parts(tmp_path / "bundle", **bundle_parts(60), **memory_parts(60))
    out = tmp_path / "lines.jsonl"
    write_points(out, [{"dataset": "other"}, {"dataset": "random"}])
    monkeypatch.setattr(page_curve, "_quality", lambda *_: {"P@20": 50.0, "MRR@20": 20.0})
    options = ["--megabytes", "20", "--neighbors", "16", "--out", str(out)]
    assert page_curve.main([str(tmp_path / "bundle"), "-", *options]) == 0
    other, whole, page, fewer = read_points(out)
    assert other == {"dataset": "other"}
    assert (whole["form"], whole["neighbors"]) == ("whole", None)
    assert page["bytes"] == fewer["bytes"] < whole["bytes"]
    assert page["sessions"] == whole["sessions"]
    assert [record["neighbors"] for record in (page, fewer)] == [128, 16]
