"""The gamma curve: from records of the right kind alone to a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.quality import gamma_curve
from bench.quality.records import KIND, SCHEMA


def write(folder: Path, gamma: float, p20: float, seed: int = 0, **changes: Any) -> None:
    record = {
        "kind": KIND, "schema": SCHEMA, "dataset": {"name": "retailrocket"}, "preset": "paper", "split": "validation",
        "changed": {"gamma": gamma}, "config": {"gamma": gamma}, "metrics": {"P@20": p20, "MRR@20": p20 / 2}, **changes,
    }  # fmt: skip
    (folder / f"{gamma}-{seed}-{'-'.join(changes)}.json").write_text(json.dumps(record))


def test_the_points_are_means_of_the_records_that_differ_in_gamma_alone(tmp_path: Path) -> None:
    for gamma, value in ((0, 50.0), (2, 52.0), (4, 53.0)):
        write(tmp_path, gamma, value)
    write(tmp_path, 2, 54.0, seed=1)
    write(tmp_path, 6, 99.0, split="test")
    write(tmp_path, 6, 99.0, preset="full")
    write(tmp_path, 6, 99.0, dataset={"name": "tmall"})
    write(tmp_path, 6, 99.0, changed={"gamma": 6, "d": 64})
    points = gamma_curve.points_of(tmp_path, "retailrocket")
    assert {gamma: point["P@20"] for gamma, point in points.items()} == {0: 50.0, 2: 53.0, 4: 53.0}
    arguments = ["--results", f"{tmp_path}", "--out", f"{tmp_path}/gamma.png"]
    assert gamma_curve.main(arguments) == 0
    assert (tmp_path / "gamma.png").read_bytes()[:4] == b"\x89PNG"


def test_one_value_is_no_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 2, 52.0)
    assert gamma_curve.main(["--results", f"{tmp_path}", "--out", f"{tmp_path}/gamma.png"]) == 2
    assert "holds 1 values of gamma" in capsys.readouterr().err
    assert not (tmp_path / "gamma.png").exists()
