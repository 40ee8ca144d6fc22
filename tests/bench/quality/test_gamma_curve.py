"""The gamma curve: from records of the right kind alone to a picture and tables with what a mean is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.quality import gamma_curve
from bench.quality.records import HELD_OUT, KIND, PUBLISHED, SCHEMA, records_in
from bench.quality.table import LEAK_MARK


def write(folder: Path, gamma: float, p20: float, seed: int = 0, **changes: Any) -> None:
    record = {
        "kind": KIND, "schema": SCHEMA, "dataset": {"name": "retailrocket"}, "preset": "paper", "split": "validation",
        "changed": {"gamma": gamma}, "config": {"gamma": gamma, "epochs": 50}, "seed": seed,
        "metrics": {"P@20": p20, "MRR@20": p20 / 2}, "epochs": {"run": 5},
        "training": {"best_epoch": 2, "history": 4 * [{"phase": "search"}]},
        "intervals": {"P@20": [p20 - 3, p20 + 1], "MRR@20": [p20 / 2 - 1, p20 / 2 + 1]}, **changes,
    }  # fmt: skip
    name = "-".join(map(str, (gamma, seed, *changes, changes.get("protocol", ""), changes.get("dataset", ""))))
    records_in(folder).entry(name).write(record)


def test_the_points_are_means_of_the_records_that_differ_in_gamma_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for gamma, value in ((0, 50.0), (2, 52.0), (4, 53.0)):
        write(tmp_path, gamma, value)
    write(tmp_path, 2, 54.0, seed=1)
    write(tmp_path, 6, 99.0, split="test")
    write(tmp_path, 6, 99.0, preset="full")
    write(tmp_path, 6, 99.0, dataset={"name": "tmall"})
    write(tmp_path, 6, 99.0, changed={"gamma": 6, "d": 64})
    curves = gamma_curve.curves_of(tmp_path, "retailrocket", "paper", "validation")
    assert curves.keys() == {HELD_OUT}
    curve = curves[HELD_OUT]
    assert {gamma: point.values["P@20"] for gamma, point in curve.items()} == {0: [50.0], 2: [52.0, 54.0], 4: [53.0]}
    assert curve[2].intervals["P@20"] == (50.0, 54.0)
    sd = 2**0.5
    assert curve[2].band("P@20", over_seeds=True) == pytest.approx((53.0, 53.0 - sd, 53.0 + sd))
    assert curve[4].band("P@20", over_seeds=False) == (53.0, 50.0, 54.0)
    arguments = ["--dataset", "retailrocket", "--results", f"{tmp_path}", "--out", f"{tmp_path}/gamma.png"]
    assert gamma_curve.main(arguments) == 0
    assert (tmp_path / "gamma.png").read_bytes()[:4] == b"\x89PNG"
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("| 2 ")]
    assert (
        " ".join(rows[0])
        == "| 2 | 2 | 2 of 50, 4 searched | 53.00 ± 1.41 [50.00, 54.00] | 26.50 ± 0.71 [25.50, 27.50] |"
    )
    assert gamma_curve.main([*arguments, "--seed", "0"]) == 0
    assert "| 2     | 1     | 2 of 50, 4 searched | 52.00 [49.00, 53.00] |" in capsys.readouterr().out
    assert gamma_curve.main([*arguments, "--seed", "1"]) == 2
    assert "holds 1 values of gamma of seed 1 for" in capsys.readouterr().err


def test_both_sets_and_both_protocols_are_drawn_and_the_leak_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tmall", "retailrocket"):
        fields: dict[str, Any] = {"dataset": {"name": name}, "preset": "paper-literal", "split": "test"}
        for gamma, value in ((0, 50.0), (2, 52.0)):
            write(tmp_path, gamma, value, **fields)
            write(tmp_path, gamma, value + 1, **fields, protocol=PUBLISHED)
    labels: list[str] = []
    draw = gamma_curve._draw_curve
    monkeypatch.setattr(gamma_curve, "_draw_curve", lambda *values: labels.append(values[3]) or draw(*values))
    arguments = ["--preset", "paper-literal", "--split", "test", "--results", f"{tmp_path}", "--out"]
    assert gamma_curve.main([*arguments, f"{tmp_path}/gamma.png"]) == 0
    assert labels == 4 * ["test, epoch by validation", f"test {LEAK_MARK}"]  # two sets, two metrics
    parts = capsys.readouterr().out.split("preset paper-literal, ")
    assert len(parts) == 5
    for part in parts[1:]:
        leak = LEAK_MARK in part
        assert ("53.00 [50.00, 54.00]" in part) == leak
        assert ("52.00 [49.00, 53.00]" in part) != leak
        assert ("5 of 50 run" in part) == leak


def test_records_of_other_batches_have_a_curve_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for gamma in (0, 2):
        write(tmp_path, gamma, 52.0)
        write(tmp_path, gamma, 61.0, changed={"gamma": gamma, "batches": "prefixes"})
    arguments = ["--dataset", "retailrocket", "--results", f"{tmp_path}", "--out", f"{tmp_path}/gamma.png"]
    assert gamma_curve.main([*arguments, "--batches", "prefixes"]) == 0
    assert gamma_curve.main(arguments) == 0
    first, second = capsys.readouterr().out.split("wrote")[:2]
    assert "61.00 [" in first
    assert "52.00 [" not in first
    assert "52.00 [" in second
    assert "61.00 [" not in second


def test_one_value_is_no_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 2, 52.0)
    arguments = ["--dataset", "retailrocket", "--results", f"{tmp_path}", "--out", f"{tmp_path}/gamma.png"]
    assert gamma_curve.main(arguments) == 2
    assert "holds 1 values of gamma for retailrocket" in capsys.readouterr().err
    assert not (tmp_path / "gamma.png").exists()
