"""`mtaw-fast info` on data sets and bundles, and its chart of clicks by day."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.cli import main
from mtaw_fast.cli.info import day_bars
from mtaw_fast.data.dataset import Dataset


def test_info(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["info", f"{work}/dataset", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    dataset = Dataset.load(work / "dataset")
    assert facts["train samples"] == dataset.train.n_clicks - len(dataset.train)
    assert facts["test samples"] == len(dataset.test)
    assert facts["items"] == 40
    train_times, test_times = dataset.train.times, dataset.test.target_times
    assert train_times is not None
    assert test_times is not None
    first, last = np.array([train_times.min(), test_times.max()], dtype="datetime64[ms]").astype("datetime64[s]")
    assert facts["times"] == {"from": f"{first}Z", "to": f"{last}Z", "of": "train and test"}
    assert facts["types"] is None
    assert facts["reader"]["format"] == "clicks"
    assert main(["info", f"{work}/bundle", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    # E, P and the five linear layers' and LayerNorm's weights, and what the recent clicks count
    assert facts["parameters"] == 40 * 16 + 512 * 16 + 4 * (16 * 16 + 16) + 2 * 16 + 2
    assert facts["session memory"]["sessions"] == len(dataset.train)
    assert facts["session memory"]["clicks"] == dataset.train.n_clicks
    assert main(["info", f"{work}/bundle"]) == 0
    said = capsys.readouterr()
    assert "parameters" in said.out
    assert said.err.startswith("warning: the learned clicks end ")
    assert f"{facts['metrics']['served_later']['a week or more']:.2f} served a week or more later" in said.err


def test_info_on_types_and_on_a_set_without_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column --type without --types: all rows count, and every one keeps its type."""
    rows = [f"s{k // 4},i{k % 3},{1_700_000_000 + 9000 * k},{'buy' if k % 4 == 3 else 'view'}\n" for k in range(80)]
    (tmp_path / "log.csv").write_text("session_id,item_id,timestamp,kind\n" + "".join(rows))
    command = ["prepare", "clicks", f"{tmp_path}/log.csv", f"{tmp_path}/set", "--test-days", "1", "--type", "kind"]
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["types"] == {"buy": facts["train sessions"], "view": 3 * facts["train sessions"]}
    assert facts["times"]["from"] == "2023-11-14T22:13:20Z"
    arrays: dict[str, Any] = {"items": np.array([1, 2], np.int32), "offsets": np.array([0, 2])}
    np.savez(tmp_path / "train.npz", **arrays, n_items=np.int32(2), min_prefix=np.int32(1))
    np.savez(tmp_path / "test.npz", **arrays, labels=np.array([2], np.int32), session=np.array([0], np.int32))
    assert main(["prepare", "npz", f"{tmp_path}", f"{tmp_path}/plain"]) == 0
    capsys.readouterr()
    assert main(["info", f"{tmp_path}/plain"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["times"], lines["types"]) == ("none", "none")


@pytest.mark.parametrize(("days", "gap"), [(1, 0), (28, 0), (29, 0), (400, 0), (60, 5000)])
def test_the_chart_of_days_holds_every_click(days: int, gap: int) -> None:
    names = np.datetime_as_string(
        np.array([np.datetime64("2024-01-01") + k + (gap if k > days // 2 else 0) for k in range(days)])
    )
    counts = {str(name): 1 + (7 * k) % 13 for k, name in enumerate(names)}
    lines = list(day_bars(counts))
    rows = [line.split() for line in lines if not line.startswith("  ..")]
    assert len(rows) <= 30
    assert len(lines) - len(rows) == (1 if gap else 0)
    if days <= 28:
        assert [(row[0], int(row[-1])) for row in rows] == list(counts.items())
    assert max(len(row[1]) for row in rows) == 40
    step = -(-days // 28)
    means = [float(row[-1].replace(",", "")) for row in rows]
    assert abs(sum(means) * step - sum(counts.values())) <= step * len(rows) + 13 * step


@pytest.mark.parametrize(
    ("name", "train_samples", "test_samples", "items", "average"),
    [("tmall", 351_268, 25_898, 40_727, 6.69), ("retailrocket", 433_648, 15_132, 36_968, 5.43)],
)
def test_info_on_the_public_sets(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    train_samples: int,
    test_samples: int,
    items: int,
    average: float,
) -> None:
    if "MTAW_DATA" not in os.environ:
        pytest.skip("MTAW_DATA (a folder with tmall/ and retailrocket/) is not set")
    assert main(["prepare", "npz", f"{os.environ['MTAW_DATA']}/{name}", f"{tmp_path}/{name}"]) == 0
    capsys.readouterr()
    assert main(["info", f"{tmp_path}/{name}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["train samples"] == train_samples
    assert facts["test samples"] == test_samples
    assert facts["items"] == items
    assert facts["average session length"] == pytest.approx(average, abs=0.01)
