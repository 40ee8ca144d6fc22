"""The bench of the memory tables: its figures have the bench JSON schema, and a wrong table gets none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.harness.comparison import Plan
from bench.harness.peak_memory import PeakMemory
from bench.prepare import memory_build
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import generate
from mtaw_fast.memory import MemoryTables
from tests.support.bench.schema import rows_of


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, cheap_timing: None) -> None:
    monkeypatch.setattr(memory_build, "_CHECKED_SESSIONS", 10)
    for name in ("_PLAN", "_QUICK_PLAN", "_CUT_PLAN"):
        monkeypatch.setattr(memory_build, name, Plan(rounds=3, burst=1, settle=0, warmup=0))
    monkeypatch.setattr(memory_build, "peak_of_prepared", peak_here)


def peak_here(prepare, *arguments) -> PeakMemory:
    prepare(*arguments)()
    return PeakMemory(1_000_000, 3_000_000)


@pytest.mark.usefixtures("toy")
def test_builds_updates_sizes_and_peaks_of_both_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    arguments = ["--clicks", "10000", "--threads", "2", "--json", str(out)]
    assert memory_build.main(arguments) == 0
    rows = rows_of(out)
    for data in ("clusters", "random"):
        by_metric = {(row["case"], row["metric"]): row for row in rows if row["params"]["data"] == data}
        assert set(by_metric) == {
            ("build", "build_s"), ("update", "update_s"), ("build", "tables_mb"), ("build", "peak_mb"),
            ("build", "added_mb"),
        }  # fmt: skip
        built, updated = by_metric["build", "build_s"], by_metric["update", "update_s"]
        assert (built["baseline"], updated["baseline"]) == ("one-thread", "rebuild")
        assert 8_000 < built["params"]["clicks"] < 13_000
        assert built["params"]["pairs"] > 0
        assert built["floor"] > 0
        assert updated["params"]["appended"] == updated["params"]["expired"] > 0
        assert (by_metric["build", "peak_mb"]["p50"], by_metric["build", "added_mb"]["p50"]) == (3.0, 2.0)
    monkeypatch.setattr(memory_build, "_LIMIT_BYTES", 2_000_000)
    monkeypatch.setattr(memory_build, "_CATALOGS", {"clusters": memory_build._CATALOGS["clusters"]})
    assert memory_build.main(arguments) == 1
    assert "over 60 s or" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_a_wrong_table_gets_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = MemoryTables.update

    def wrong(self: MemoryTables, new: Sessions, expire: int = 0, *, threads: int = 1) -> MemoryTables:
        tables = right(self, new, expire, threads=threads)
        return replace(tables, totals=tables.totals + 1)

    monkeypatch.setattr(MemoryTables, "update", wrong)
    monkeypatch.setattr(memory_build, "_CATALOGS", {"clusters": memory_build._CATALOGS["clusters"]})
    out = tmp_path / "out.json"
    assert memory_build.main(["--clicks", "10000", "--threads", "1", "--json", str(out)]) == 1
    assert "update" not in {row["case"] for row in rows_of(out)}
    assert "update: ours: the tables differ in 'totals'; no speed is reported" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_the_cuts_of_a_data_set(tmp_path: Path) -> None:
    generate(100, 200, seed=1).save(tmp_path / "data")
    out = tmp_path / "out.json"
    assert memory_build.main(["--data", str(tmp_path / "data"), "--json", str(out)]) == 0
    rows = rows_of(out)
    kept = "max_neighbours"  # prose: ignore
    assert {row["params"][kept] for row in rows} == {0, 128, 256, 512}
    sizes = {row["params"][kept]: row["p50"] for row in rows if row["metric"] == "tables_mb"}
    assert sizes[128] <= sizes[256] <= sizes[512] <= sizes[0]
    assert {row["metric"] for row in rows} == {"build_s", "tables_mb"}


def test_misuse_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory_build.main(["--clicks", "10"]) == 2
    assert memory_build.main(["--threads", "0"]) == 2
    assert "--clicks must be at least 10000" in capsys.readouterr().err


def test_the_peak_is_of_a_process_of_its_own() -> None:
    memory = memory_build.peak_of_prepared(memory_build.prepare_build, "random", 50_000, 2)
    assert 0 < memory.added < memory.peak < 1_000_000_000
