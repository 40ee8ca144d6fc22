"""The suite: its list, its file, repeated benches, one that fails or cannot run, and two real benches."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.__main__ import main
from bench.harness.machine import machine_class
from bench.suite import running
from bench.suite.catalog import BENCHES, Bench
from bench.suite.results import ROOT, read_run
from bench.suite.running import merged
from tests.support.bench.rows import MACHINE, row
from tests.support.bench.schema import check_report


def test_every_bench_and_every_command_of_the_folder_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {bench.name} " in printed and bench.line in printed for bench in BENCHES)
    folder = ROOT / "bench"
    names = {path.parent.name for path in folder.glob("*/__main__.py")} | {
        path.stem for path in folder.glob("[a-z]*.py")
    }
    assert [name for name in names if f"  {name} " not in printed] == []


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({}, "amd-f26-m2-avx512bf16-2c"),
        ({"cpu": "Intel(R) Xeon(R) 8488C", "cpu_family": "6", "cpu_model": "143"}, "intel-f6-m143-avx512bf16-2c"),
        ({"flags": ["avx2"], "gpus": ["NVIDIA H100 80GB HBM3"]}, "amd-f26-m2-avx2-2c-1xnvidiah10080gbhbm3"),
        ({"arch": "aarch64", "cpu_family": None, "cpu_model": None, "flags": ["asimd"]}, "arm-aarch64-2c"),
    ],
)
def test_the_class_of_a_machine_names_a_kind_and_no_machine(changed: dict[str, object], name: str) -> None:
    assert machine_class(MACHINE | changed) == name


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Replaces the benches by `one` and `two`; `fails` are the turns that fail. Returns the turns."""

    def replace(*fails: int) -> list[str]:
        turns: list[str] = []

        def call(words: list[str], cwd: Path) -> int:
            turns.append(words[2].removeprefix("bench."))
            if len(turns) in fails:
                return 3
            Path(words[-1]).write_text(json.dumps({"results": [row(2.0 + 0.1 * len(turns), 0.01)]}))
            return 0

        monkeypatch.setattr(running.subprocess, "call", call)
        absent = Bench("three", "needs what is nowhere", needs=("a_package_that_is_nowhere",))
        monkeypatch.setattr(command, "BENCHES", (Bench("one", "1"), absent, Bench("two", "2")))
        return turns

    return replace


def test_every_bench_has_its_turn_before_any_has_a_second(
    tmp_path: Path, waits: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A bench that fails once keeps that outcome, and its other processes count; one that cannot run is skipped."""
    turns = waits(4)
    assert main(["all", "--quick", "--repeat", "3", "--results", str(tmp_path)]) == 1
    assert turns == ["one", "two"] * 3
    (path,) = tmp_path.glob("*/*-quick.json")
    written = json.loads(path.read_text())
    assert written["suite"]["repeat"] == 3
    outcomes = {bench["name"]: bench["outcome"] for bench in written["suite"]["benches"]}
    assert (outcomes["one"], outcomes["two"]) == ("done", "failed: exit 3, see its message above")
    assert outcomes["three"].startswith("skipped: needs the package 'a_package_that_is_nowhere'")
    assert [line["runs"] for line in written["results"]] == [3, 2]
    assert f"wrote {path}" in capsys.readouterr().out


def test_two_quick_benches_for_real(tmp_path: Path) -> None:
    """Through the command, into one file that `compare` reads."""
    start = [sys.executable, "-m", "bench"]
    options = ["--quick", "--only", "experiment,rules", "--results", str(tmp_path)]
    run = subprocess.run([*start, "all", *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    (path,) = tmp_path.glob("*/*-quick.json")
    written = json.loads(path.read_text())
    outcomes = {bench["name"]: bench["outcome"] for bench in written.pop("suite")["benches"]}
    assert outcomes == {"experiment": "done", "rules": "done"}
    rows = read_run(path).rows
    check_report(written | {"results": [line for line in rows if "threads" in line["params"]]})
    assert any("ratio_low" in line for line in rows)
    same = subprocess.run([*start, "compare", path, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert same.returncode == 0, same.stderr


def test_three_processes_become_one_row() -> None:
    """Ratios 1, 2 and 4: the geometric mean is 2, log 2 the standard deviation, 4.303 Student's t for two."""
    runs = [[row(ratio, 0.01) | {"p50": p50, "n": 10, "errors": 1}] for ratio, p50 in ((1, 5.0), (2, 9.0), (4, 6.0))]
    (result,) = merged(runs)
    assert (result["p50"], result["n"], result["errors"], result["runs"]) == (6.0, 30, 3, 3)
    half = 4.303 * math.log(2) / math.sqrt(3)
    ratios = [result[name] for name in ("ratio_low", "ratio", "ratio_high")]
    assert ratios == pytest.approx([2 * math.exp(-half), 2, 2 * math.exp(half)], rel=1e-4)


def test_what_is_merged_without_intervals_peers_or_partners() -> None:
    (result,) = merged([[row(2.0, None)], [row(2.2, None)], [row(2.1, None)]])
    assert result["ratio_low"] < 2.1 < result["ratio_high"]
    (result,) = merged([[row(None)], [row(None)]])
    assert (result["ratio"], result.get("ratio_low")) == (None, None)
    record = {"bench": "quality", "metrics": {}}
    assert merged([[row(), record]]) == [row(), record]
    rows = merged([[row(), row(case="other"), record], [row(), record]])
    assert [line.get("case") for line in rows] == [row()["case"], None, None]
