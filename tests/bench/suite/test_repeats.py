"""Rows of several processes made one: against scipy-free numbers worked out by hand, and by drawing many."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bench.suite import command, running
from bench.suite.catalog import Bench
from bench.suite.command import main
from bench.suite.repeats import merged
from tests.support.bench.rows import row


def test_a_single_run_stays_as_it_was():
    rows = [row(), {"bench": "quality", "metrics": {}}]
    assert merged([rows]) == rows
    assert merged([]) == []


def test_three_processes_become_one_row():
    """Ratios 1, 2 and 4: the geometric mean is 2, log 2 the standard deviation, 4.303 Student's t for two."""
    rows = merged([
        [row(ratio, 0.01) | {"p50": p50, "p90": 2 * p50, "n": 10}] for ratio, p50 in ((1, 5.0), (2, 9.0), (4, 6.0))
    ])  # fmt: skip
    assert len(rows) == 1
    assert (rows[0]["p50"], rows[0]["p90"]) == (6.0, 12.0)
    assert rows[0]["n"] == 30
    assert rows[0]["runs"] == 3
    half = 4.303 * math.log(2) / math.sqrt(3)
    ratios = [rows[0][name] for name in ("ratio_low", "ratio", "ratio_high")]
    assert ratios == pytest.approx([2 * math.exp(-half), 2, 2 * math.exp(half)], rel=1e-4)


def test_counts_add_up_and_other_numbers_are_medians():
    runs = [
        [row(None) | {"n": 10, "errors": errors, "recall_low": low, "load": 1.0}]
        for errors, low in ((0, 0.5), (0, 0.9), (7, 0.8))
    ]
    result = merged(runs)[0]
    assert (result["n"], result["errors"], result["recall_low"], result["load"]) == (30, 7, 0.8, 1.0)
    assert result["ratio"] is None


def test_equal_processes_keep_the_interval_within_them():
    """Three equal ratios have no spread; the mean of three independent ones has a root of three less than each."""
    result = merged([[row(4.0, 0.05)]] * 3)[0]
    single = math.log(row(4.0, 0.05)["ratio_high"] / row(4.0, 0.05)["ratio_low"]) / 2
    assert math.log(result["ratio_high"] / result["ratio"]) == pytest.approx(single / math.sqrt(3), rel=1e-3)


def test_a_ratio_without_an_interval_gets_one():
    result = merged([[row(2.0, None)], [row(2.2, None)], [row(2.1, None)]])[0]
    assert result["ratio_low"] < 2.1 < result["ratio_high"]


def test_rows_that_one_run_lacks_are_left_out_and_records_stay():
    record = {"bench": "quality", "metrics": {}}
    rows = merged([[row(), row(case="other"), record], [row(), record]])
    assert [line.get("case") for line in rows] == [row()["case"], None, None]


def test_rows_without_a_peer_are_merged_without_a_ratio():
    result = merged([[row(None)], [row(None)]])[0]
    assert result["ratio"] is None
    assert "ratio_low" not in result or result["ratio_low"] is None


@pytest.mark.parametrize("processes", [2, 3, 5, 12])
def test_the_interval_holds_the_truth_in_95_of_100(processes):
    """Ratios that scatter by 10% from process to process, whatever each believes of itself."""
    draws = np.random.default_rng(processes).normal(math.log(3.0), 0.1, (1500, processes))
    held = 0
    for logs in draws:
        result = merged([[row(float(math.exp(value)), 0.001)] for value in logs])[0]
        held += result["ratio_low"] <= 3.0 <= result["ratio_high"]
    assert abs(held / len(draws) - 0.95) < 0.02


def test_every_bench_has_its_turn_before_any_has_a_second(tmp_path, monkeypatch):
    """A bench that fails once keeps that outcome; its other processes count."""
    turns: list[str] = []

    def wait(words):
        name, out = words[2].removeprefix("bench."), words[-1]
        turns.append(name)
        ratio = 2.0 + 0.1 * len(turns)
        if (name, len(turns)) == ("prepare", 4):
            return 3
        Path(out).write_text(json.dumps({"results": [row(ratio, 0.01)]}))
        return 0

    monkeypatch.setattr(running, "_wait", wait)
    monkeypatch.setattr(command, "BENCHES", (Bench("encoder", "one", ()), Bench("prepare", "two", ())))
    assert main(["all", "--quick", "--repeat", "3", "--results", str(tmp_path)]) == 1
    assert turns == ["encoder", "prepare"] * 3
    (path,) = tmp_path.glob("*/*.json")
    written = json.loads(path.read_text())
    assert written["suite"]["repeat"] == 3
    outcomes = {bench["name"]: bench["outcome"] for bench in written["suite"]["benches"]}
    assert outcomes == {"encoder": "done", "prepare": "failed: exit 3, see its message above"}
    assert [line["runs"] for line in written["results"]] == [3, 2]


def test_no_repetition_at_all_is_refused(tmp_path, capsys):
    assert main(["all", "--repeat", "0", "--results", str(tmp_path)]) == 2
    assert "--repeat 0: give the number of processes" in capsys.readouterr().err
