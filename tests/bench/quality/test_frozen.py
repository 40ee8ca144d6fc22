"""The bench of a ranker's times by the age of its tables, end to end on a toy log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="bench.quality needs the extra 'train'")
pytest.importorskip("rich", reason="bench.quality needs the extra 'train'")

from bench.quality import frozen
from bench.quality.paired import difference_of
from mtaw_fast.data.synthetic_log import write_click_log


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("frozen")
    log, out = folder / "clicks.csv", folder / "out.jsonl"
    write_click_log(log, 60, 900, 0, days=12.0)
    arguments = ["--seeds", "2", "--samples", "80", "--set", "ranker_epochs=1", "--name", "toy", "--day", "2"]
    assert frozen.main([str(log), "--out", str(out), *arguments]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_each_ranker_and_moment_is_a_line(lines: list[dict]) -> None:
    pairs = {(line["moment"], line["ranker"]) for line in lines}
    assert len(lines) == len(pairs) == 18
    assert all(line["samples"] == 80 for line in lines if line["moment"] != "first hour")
    for line in lines:
        assert 0 < line["MRR@20"] <= line["P@20"] <= 100
        assert (line["ranker"] == frozen.PLAIN) == ("difference" not in line)
        for mean, low, high in line.get("difference", {}).values():
            assert low <= mean <= high


def test_the_table_has_a_row_for_each_moment(lines: list[dict], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert frozen.main(["--table", "--out", str(tmp_path / "out.jsonl")]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + 6
    assert rows[2].startswith("| toy | first hour | ")


def test_an_interval_is_over_sessions() -> None:
    values = np.repeat(np.array([[10.0, 1.0], [0.0, 1.0]]), 50, axis=0)
    ends = difference_of(values, np.repeat([0, 1], 50))
    assert ends == {"P@20": [5.0, 0.0, 10.0], "MRR@20": [1.0, 1.0, 1.0]}
