"""The scaling bench: points are kept and not measured again, missing ones are reported, every curve runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.scaling import __main__ as command
from bench.scaling import curves
from bench.scaling.curves import CURVES, Curve
from bench.scaling.point import Effort, Measured, Setting, measure, timed
from bench.suite.results import read_run
from mtaw_fast.errors import MtawError

SCAN = "catalog-scan"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that are measured, in order; the cost of N is N / 100 us."""
    sizes: list[int] = []

    def fake(_: str, __: Any, setting: Setting, ___: Effort) -> Measured:
        if setting.size == 7:
            raise MtawError("measuring 7: its process ended")
        sizes.append(setting.size)
        return Measured([1e-8 * setting.size] * 3, 1e-8 * setting.size, 10**8, 0.5, {"kind": "planted"})

    monkeypatch.setattr(command, "measure", fake)
    return sizes


def results(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["results"]


def test_a_run_goes_on_where_one_ended(tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    run = ["--only", SCAN, "--json", str(path)]
    assert command.main([*run, "--quick"]) == 0
    assert (asked, read_run(path).quick) == ([10_000, 30_000], True)
    assert command.main([*run, "--sizes", "1e4,30000,1e5"]) == 0
    assert asked == [10_000, 30_000, 100_000]
    assert "latency_us: catalog^1.00 [" in capsys.readouterr().out
    rows = [row for row in results(path) if row["metric"] == "latency_us"]
    assert [(row["params"]["catalog"], row["p50"], row["along"]) for row in rows] == [
        (10_000, 100.0, "catalog"), (30_000, 300.0, "catalog"), (100_000, 1000.0, "catalog")
    ]  # fmt: skip
    assert {row["metric"] for row in results(path)} == {"latency_us", "processor_us", "peak_mb"}
    assert rows[0]["facts"] == {"kind": "planted"}
    assert not read_run(path).quick  # one whole run makes it no quick file
    assert command.main([*run, "--quick"]) == 0
    assert not read_run(path).quick
    assert len(asked) == 3


def test_what_cannot_be_measured_is_told_and_the_rest_goes_on(
    tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.json"
    run = ["--only", SCAN, "--json", str(path), "--sizes", "7,100,1e7"]
    assert command.main([*run, "--memory", "1"]) == 1
    assert asked == [100]
    printed = capsys.readouterr()
    assert "refused: measuring 7: its process ended" in printed.err
    assert "catalog-scan at 10,000,000: left out, it takes some 5.8 GB, --memory allows 1" in printed.out
    assert [row["params"]["catalog"] for row in results(path) if "left_out" in row] == [10_000_000]
    assert command.main([*run, "--memory", "8"]) == 1
    assert asked == [100, 10_000_000]
    assert not [row for row in results(path) if "left_out" in row]
    monkeypatch.setattr(command, "usable_cores", lambda: 1)
    assert command.main(["--only", "threads-score", "--json", str(path)]) == 0
    assert "this machine has 1 cores" in [row.get("left_out") for row in results(path)]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_every_curve_runs(curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = {"ITEMS": 600, "SHOP_SESSIONS": 2000, "STEP_ITEMS": 500, "LOG_CLICKS": 20_000, "BLOCK_ROWS": 64, "D": 16}
    for name, value in toy.items():
        monkeypatch.setattr(curves, name, value)
    size = {"catalog": 1000, "log": 20_000, "clicks": 3, "batch": 9, "threads": 1}[curve.axis]
    found = timed(curve.make(Setting(size, 1, tmp_path, 10**9)), Effort(2, 0.0))
    assert len(found.seconds) == 2
    assert min(*found.seconds, found.processor) > 0
    assert found.peak > 1 << 20


def test_a_point_in_a_process_of_its_own(tmp_path: Path) -> None:
    train_step = next(curve for curve in CURVES if curve.name == "batch-train-step").make
    measured = measure("batch-train-step", train_step, Setting(2, 1, tmp_path, 10**9), Effort(2, 0.0))
    assert len(measured.seconds) == 2
    assert 1 << 24 < measured.peak < 1 << 31
    with pytest.raises(MtawError, match="measuring batch-train-step at -1: "):
        measure("batch-train-step", train_step, Setting(-1, 1, tmp_path, 10**9), Effort(2, 0.0))
