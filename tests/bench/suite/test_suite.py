"""The suite: its list, its file, the outcome of a bench that fails or cannot run, and two real benches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.harness.machine import Checkout, machine_class
from bench.suite import command, running
from bench.suite.catalog import BENCHES, Bench
from bench.suite.command import main
from bench.suite.results import new_path, read_run
from tests.support.bench.rows import MACHINE
from tests.support.bench.schema import check_report

ROOT = Path(__file__).resolve().parents[3]


def test_every_bench_is_listed_with_a_line(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for bench in BENCHES:
        assert any(line.split()[0] == bench.name and bench.line in line for line in lines if line.strip())


def test_no_command_of_the_folder_is_left_out(capsys):
    main([])
    printed = capsys.readouterr().out
    commands = {path.stem for path in (ROOT / "bench").glob("*.py")} | {
        path.parent.name for path in (ROOT / "bench").glob("*/__main__.py")
    }
    for name in commands - {"__init__", "__main__"}:
        assert f"  {name} " in printed, f"bench.{name} is not listed"


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (MACHINE, "amd-f26-m2-avx512bf16-2c"),
        (
            MACHINE | {"cpu": "Intel(R) Xeon(R) 8488C", "cpu_family": "6", "cpu_model": "143"},
            "intel-f6-m143-avx512bf16-2c",
        ),
        (MACHINE | {"flags": ["avx2"], "gpus": ["NVIDIA H100 80GB HBM3"]}, "amd-f26-m2-avx2-2c-1xnvidiah10080gbhbm3"),
        (
            MACHINE | {"cpu": "aarch64", "arch": "aarch64", "cpu_family": None, "cpu_model": None, "flags": ["asimd"]},
            "arm-aarch64-2c",
        ),
    ],
)
def test_the_class_of_a_machine_names_a_kind_and_no_machine(machine, name):
    assert machine_class(machine) == name


def test_no_run_takes_the_place_of_another(tmp_path):
    checkout = Checkout("a" * 40, dirty=False)
    first = new_path(tmp_path, MACHINE, checkout, "2026-11-26", quick=False)
    assert first == tmp_path / machine_class(MACHINE) / "2026-11-26-aaaaaaaaaaaa.json"
    first.parent.mkdir()
    first.touch()
    assert new_path(tmp_path, MACHINE, checkout, "2026-11-26", quick=False).name == "2026-11-26-aaaaaaaaaaaa-2.json"
    dirty = new_path(tmp_path, MACHINE, Checkout("a" * 40, dirty=True), "2026-11-26", quick=True)
    assert dirty.name == "2026-11-26-aaaaaaaaaaaa-dirty-quick.json"
    assert new_path(tmp_path, MACHINE, Checkout(None, dirty=False), "2026-11-26", quick=False).name.endswith(
        "-no-commit.json"
    )


def test_a_bench_that_cannot_run_is_skipped_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    absent = Bench("encoder", "needs what is nowhere", (), needs=("a_package_that_is_nowhere",))
    fails = Bench("prepare", "misused", ("--rows", "5"))
    broken = Bench("scoring", "its bundle cannot be made", ("{bundle}",))
    monkeypatch.setattr(command, "BENCHES", (absent, fails, broken))
    monkeypatch.setattr(running, "_SETTINGS", ("--set", "embedding_dim=-1"))
    monkeypatch.setattr(running, "_LOG", ("--items", "50", "--sessions", "200"))
    assert main(["all", "--quick", "--results", str(tmp_path)]) == 1
    (path,) = tmp_path.glob("*/*.json")
    written = json.loads(path.read_text())
    assert [bench["name"] for bench in written["suite"]["benches"]] == ["encoder", "prepare", "scoring"]
    skipped, misused, unmade = (bench["outcome"] for bench in written["suite"]["benches"])
    assert skipped.startswith("skipped: needs the package 'a_package_that_is_nowhere'")
    assert misused == "failed: exit 2, see its message above"
    assert unmade.startswith("failed: the small bundle could not be made: mtaw_fast ")
    assert written["results"] == []
    assert f"wrote {path}" in capsys.readouterr().out


def test_an_unknown_bench_is_refused(tmp_path, capsys):
    assert main(["all", "--only", "throughput,encodr", "--results", str(tmp_path)]) == 2
    assert "there is no bench 'encodr'; the benches are experiment, gpu, " in capsys.readouterr().err
    assert main(["all", "--only", ",", "--results", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())


def test_two_quick_benches_for_real(tmp_path):
    """Through the command, into one file that `compare` reads."""
    pytest.importorskip("polars", reason="the prepare bench needs the extra 'train'")
    start = [sys.executable, "-m", "bench"]
    options = ["--quick", "--only", "prepare,rules", "--results", str(tmp_path)]
    process = subprocess.run(
        [*start, "all", *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr
    (path,) = tmp_path.glob("*/*-quick.json")
    written = json.loads(path.read_text())
    suite = written.pop("suite")
    assert written["quick"]
    assert {bench["name"]: bench["outcome"] for bench in suite["benches"]} == {
        "prepare": "done",
        "rules": "done",
    }
    run = read_run(path)
    assert {row["bench"] for row in run.rows} == {"prepare", "rules"}
    check_report(written | {"results": [row for row in run.rows if "threads" in row["params"]]})
    assert any("ratio_low" in row for row in run.rows)
    same = subprocess.run([*start, "compare", path, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert same.returncode == 0, same.stderr
