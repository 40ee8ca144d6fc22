"""The scaling bench: points are kept and not measured again, missing ones are reported, every curve runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.harness.report import Report
from bench.scaling import command, request_curves
from bench.scaling.curves import CURVES, Curve
from bench.scaling.kept import Kept
from bench.scaling.point import Effort, Measured, Setting, measure, timed
from bench.suite.charts import scaling_charts
from bench.suite.results import read_run
from mtaw_fast.errors import DataError, MtawError

SCAN, LOG = "catalog-scan", "log-prepare"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that are measured, in order; the cost of N is N / 100 us."""
    sizes: list[int] = []

    def fake(_: Any, setting: Setting, __: Effort) -> Measured:
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
    run = ["--only", SCAN, "--d", "100", "--json", str(path)]
    assert command.main([*run, "--sizes", "100,1e3"]) == 0
    assert asked == [100, 1000]
    assert command.main([*run, "--sizes", "100,1000,10000,100000"]) == 0
    assert asked == [100, 1000, 10_000, 100_000]
    assert "catalog^1.00" in capsys.readouterr().out
    rows = [row for row in results(path) if "p50" in row]
    assert {row["metric"] for row in rows} == {"latency_us", "processor_us", "peak_mb"}
    assert [row["params"]["catalog"] for row in rows if row["metric"] == "latency_us"] == [100, 1000, 10_000, 100_000]
    assert rows[0]["facts"] == {"kind": "planted"}
    powers = {row["metric"]: row["power"] for row in results(path) if "power" in row}
    assert powers["latency_us"]["exponent"] == pytest.approx(1)
    assert powers["peak_mb"]["exponent"] == pytest.approx(0)
    assert command.main([*run, "--sizes", "100,1000,10000,100000"]) == 0
    assert len(asked) == 4
    # The other curve of that name has points of its own.
    assert command.main(["--only", SCAN, "--d", "32", "--json", str(path), "--sizes", "100"]) == 0
    assert asked[4:] == [100]
    charts = {chart.slug: chart for chart in scaling_charts([row for row in results(path) if "p50" in row])}
    time, memory = charts["scaling-catalog"].panels
    (line,) = time.series  # of one point there is none
    assert line.name.startswith("scan, d 100: 1.00 [")
    assert line.values == pytest.approx([1e-3, 1e-2, 0.1, 1.0])
    assert memory.series[0].values == [100.0] * 4
    assert not charts["scaling-log"].panels


def test_what_cannot_be_measured_is_told_and_the_rest_goes_on(
    tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.json"
    run = ["--only", SCAN, "--d", "100", "--json", str(path), "--sizes", "7,100,1e7"]
    assert command.main([*run, "--memory", "1"]) == 1
    assert asked == [100]
    printed = capsys.readouterr()
    assert "refused: measuring 7: its process ended" in printed.err
    assert "catalog-scan at 10,000,000: left out, it takes some 5.8 GB, --memory allows 1" in printed.out
    assert [row["params"]["catalog"] for row in results(path) if "left_out" in row] == [10_000_000]
    assert command.main([*run, "--memory", "8"]) == 1
    assert asked == [100, 10_000_000]
    assert not [row for row in results(path) if "left_out" in row]


def test_cases_that_run_at_once_share_a_file(tmp_path: Path) -> None:
    path, report = tmp_path / "out.json", Report("scaling", quick=False)
    first, second = Kept(path, report), Kept(path, report)
    for kept, curve in ((first, by_name(SCAN)), (second, by_name(LOG)), (first, by_name(SCAN))):
        measured = Measured([1.0], 1.0, 1 << 20, 0.0, {})
        params = {**curve.fixed, curve.axis: 5}
        kept.add([row.as_json() for row in command.rows_of(curve, params, measured)])
    assert sorted(row["case"] for row in results(path)) == [SCAN] * 3 + [LOG] * 3


def test_a_file_says_when_it_was_made_and_whether_it_is_quick(tmp_path: Path, asked: list[int]) -> None:
    path = tmp_path / "out.json"
    run = ["--only", SCAN, "--d", "100", "--json", str(path)]
    for options, quick in ((["--quick"], True), (["--sizes", "100"], False), (["--quick"], False)):
        assert command.main([*run, *options]) == 0
        assert (read_run(path).quick, read_run(path).at is None) == (quick, False)
    assert asked == [10_000, 30_000, 100]


def test_a_file_of_something_else_is_refused(tmp_path: Path, asked: list[int]) -> None:
    path, report = tmp_path / "out.json", Report("scaling", quick=False)
    path.write_text(json.dumps({"schema": 1, "machine": report.machine, "results": [{"bench": "retrieval"}]}))
    assert command.main(["--only", SCAN, "--json", str(path)]) == 1
    made = {"schema": 1, "machine": report.machine, "commit": report.checkout.as_json(), "results": []}
    elsewhere = {"machine": {**report.machine, "cpu": "another"}}
    for other, what in ((elsewhere, "another machine"), ({"commit": "0"}, "commit 0,")):
        path.write_text(json.dumps({**made, **other}))
        with pytest.raises(DataError, match=f"its points are of {what}"):
            Kept(path, report)
    assert asked == []


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (["--only", "catalog"], "there is no case 'catalog'"),
        (["--sizes", "many"], "give whole numbers"),
        (["--sizes", "0"], "from 1 on"),
        (["--memory", "0"], "give gigabytes above 0"),
        (["--folder", "/none"], "does not exist"),
        (["--only", LOG, "--d", "5"], "leave no case"),
    ],
)
def test_misuse_is_one_line(wrong: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(wrong) == 2
    error = capsys.readouterr().err
    assert what in error
    assert error.count("\n") == 1


def by_name(name: str) -> Curve:
    return next(curve for curve in CURVES if curve.name == name)


@pytest.mark.parametrize(
    "curve", [curve for curve in CURVES if curve.fixed.get("d") != 32], ids=lambda curve: curve.name
)
def test_every_curve_runs(curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_curves, "ITEMS", 600)
    monkeypatch.setattr(request_curves, "SHOP_SESSIONS", 2000)
    monkeypatch.setattr(request_curves, "STEP_ITEMS", 500)
    monkeypatch.setattr(request_curves, "LOG_CLICKS", 20_000)
    monkeypatch.setattr(request_curves, "_BLOCK_ROWS", 64)
    size = {"catalog": 1000, "log": 20_000, "clicks": 3, "batch": 9, "threads": 1}[curve.axis]
    work = curve.make(Setting(size, 1, tmp_path, 10**9, 16))
    seconds, processor, peak, _ = timed(work, Effort(2, 0.0))
    assert len(seconds) == 2
    assert min(*seconds, processor) > 0
    assert peak > 1 << 20


def test_a_point_in_a_process_of_its_own(tmp_path: Path) -> None:
    measured = measure(by_name("session-encode").make, Setting(2, 1, tmp_path, 10**9, 16), Effort(2, 0.0))
    assert len(measured.seconds) == 2
    assert 1 << 24 < measured.peak < 1 << 31
    with pytest.raises(MtawError, match="measuring scan at 1,000: "):
        measure(by_name(SCAN).make, Setting(1000, 1, tmp_path, 10**9, -1), Effort(2, 0.0))
