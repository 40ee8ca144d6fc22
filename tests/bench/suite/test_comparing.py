"""Comparing two runs: what counts as slower, what is never judged, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.harness import comparison
from bench.harness.comparison import Case, Contender, Plan
from bench.harness.report import Report
from bench.suite.command import main
from tests.support.bench.rows import MACHINE, row
from tests.support.bench.schema import check_report

Compared = Callable[..., tuple[int, str, dict[str, Any]]]


def saved(path: Path, *rows: dict[str, Any], machine: dict[str, Any] | None = None) -> str:
    path.write_text(json.dumps({"schema": 1, "machine": machine or MACHINE, "commit": None, "results": list(rows)}))
    return str(path)


@pytest.fixture
def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compared:
    """Compares two lists of rows; the exit code, what was printed, and the JSON."""

    def run(old: list[dict[str, Any]], new: list[dict[str, Any]], *options: str) -> tuple[int, str, dict[str, Any]]:
        paths = saved(tmp_path / "old.json", *old), saved(tmp_path / "new.json", *new)
        code = main(["compare", *paths, "--json", str(tmp_path / "out.json"), *options])
        return code, capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())

    return run


def test_equal_runs_pass(compared: Compared) -> None:
    rows = [row(), row(2.0, case="ladder"), row(2.0, case="ladder"), row(None, case="apart"), {"bench": "quality"}]
    code, printed, report = compared(rows, rows)
    assert code == 0
    assert [change["change"] for change in report["changes"]] == [1.0, 1.0, 1.0]
    assert "3 ratios judged: 0 slower, 0 faster, 0 changed within 15%, 3 the same within their intervals" in printed


def test_a_slowdown_by_30_percent_fails_and_is_named(compared: Compared) -> None:
    """Rows that are equal but for their figures are matched in their order."""
    code, printed, report = compared([row(), row(2.0)], [row(4 / 1.3), row(2.0)])
    assert code == 1
    assert [change["slower"] for change in report["changes"]] == [True, False]
    assert "SLOWER by more than 15% compared with the peer:\n  retrieval exact (catalog=1000 threads=1)" in printed
    assert "ratio 4.00 [3.80, 4.20] -> 3.08 [2.92, 3.23], 0.77 times [" in printed


def test_what_does_not_fail(compared: Compared) -> None:
    """Times, chance, gains, ratios without an interval, and rows of one run alone."""
    slow = {"p50": 500.0, "p95": 600.0, "p99": 700.0}
    code, printed, _ = compared([row(), row(None, case="alone")], [row(**slow), row(None, case="alone", **slow)])
    assert code == 0
    alone = "  retrieval alone (catalog=1000 threads=1) latency_us: 50 -> 500"
    assert f"not judged, without a peer in their process:\n{alone}" in printed
    assert compared([row(spread=0.3)], [row(4 / 1.3, spread=0.3)])[0] == 0
    code, printed, report = compared([row(), row(case="old")], [row(8.0), row(case="new")])
    assert (code, report["gone"], report["new"]) == (0, 1, 1)
    assert "faster by more than 15%:" in printed
    assert "only in OLD:\n  retrieval old" in printed
    assert "only in NEW:\n  retrieval new" in printed
    code, printed, report = compared([row(spread=None)], [row(1.0, None)])
    assert (code, report["changes"][0]["judged"]) == (0, False)
    assert "not judged: no interval:\n  retrieval exact" in printed


def test_the_interval_is_that_of_two_independent_ratios(compared: Compared) -> None:
    rng = np.random.default_rng(0)
    old, new = np.exp(rng.normal(0, 0.04, 200_000)) * 4, np.exp(rng.normal(0, 0.03, 200_000)) * 3
    rows = [
        row(float(np.median(drawn)), None)
        | dict(zip(("ratio_low", "ratio_high"), np.quantile(drawn, (0.025, 0.975)).tolist(), strict=True))
        for drawn in (old, new)
    ]
    (change,) = compared(rows[:1], rows[1:])[2]["changes"]
    assert (change["low"], change["high"]) == pytest.approx(np.quantile(new / old, (0.025, 0.975)).tolist(), rel=2e-3)


def test_the_threshold_is_the_callers(compared: Compared) -> None:
    pair = [row(spread=0.01)], [row(3.6, spread=0.01)]
    assert compared(*pair)[0] == 0
    assert "changed, within the threshold:" in compared(*pair)[1]
    assert compared(*pair, "--threshold", "0.05")[0] == 1


@pytest.mark.parametrize("name", ["backend", "nprobe", "recall"])
def test_a_row_whose_code_took_another_way_is_still_judged(compared: Compared, name: str) -> None:
    params = row()["params"]
    code, printed, _ = compared([row(params=params | {name: 1})], [row(0.8, params=params | {name: 2})])
    assert code == 1
    assert "only in" not in printed
    assert ("compared, although our code took another way:\n  retrieval" in printed) == (name != "recall")
    assert (f": {name} 1 -> 2" in printed) == (name != "recall")


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"p50": -1.0}, "result 0 (retrieval): 'p50' is no number over 0"),
        ({"ratio": "4"}, "result 0 (retrieval): 'ratio' is no number over 0"),
        ({"case": None}, "result 0 (retrieval): 'case' is no text"),
        ({"params": None}, "result 0 (retrieval): 'params' is no object"),
        ({"ratio_low": None}, "'ratio_low' and 'ratio_high' must both be there, or neither"),
        ({"bench": 3}, "result 0 names no bench"),
    ],
)
def test_a_damaged_row_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], shown: str
) -> None:
    paths = saved(tmp_path / "old.json", row() | change), saved(tmp_path / "new.json", row())
    assert main(["compare", *paths]) == 1
    message = capsys.readouterr().err
    assert shown in message
    assert message.startswith(f"error: {paths[0]}: ")
    assert message.count("\n") == 1


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = saved(tmp_path / "here", row())
    newer = {"packages": {"numpy": "2.5.0", "mtaw-fast": "0.2.0"}}
    other = saved(tmp_path / "other", row(), machine=MACHINE | {"cores": 16} | newer)
    assert main(["compare", here, other, "--any-machine"]) == 0
    assert "other versions, which may change the peers: numpy 2.4.0 -> 2.5.0\n" in capsys.readouterr().out
    (tmp_path / "text").write_text("{")
    (tmp_path / "list").write_text("[]")
    (tmp_path / "bare").write_text('{"schema": 1, "results": []}')
    for options, code, message in (
        ([other], 2, "amd-f26-m2-avx512bf16-2c"),
        ([saved(tmp_path / "apart", row(None))], 2, "nothing to judge"),
        ([str(tmp_path / "none")], 1, "there is no such result file"),
        ([str(tmp_path / "text")], 1, "text"),
        ([str(tmp_path / "list")], 1, "no result file of schema 1"),
        ([str(tmp_path / "bare")], 1, "it does not say which machine"),
        ([here, "--threshold", "nan"], 2, "give a share between 0 and 1"),
        ([here, "--json", str(tmp_path / "no" / "out.json")], 2, "its folder does not exist"),
    ):
        assert main(["compare", here, *options]) == code
        assert message in capsys.readouterr().err


def test_a_slow_contender_is_caught_through_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock: Any = SimpleNamespace(now=0.0)
    clock.perf_counter, clock.perf_counter_ns = lambda: clock.now, lambda: round(clock.now * 1e9)
    monkeypatch.setattr(comparison, "time", clock)

    def measured(name: str, ours_us: float, machine_us: float, seed: int) -> str:
        """A bench with noise, on a machine on which everything takes `machine_us` times as long."""
        noise = np.random.default_rng(seed)

        def contender(own: str, us: float) -> Contender:
            def run(_: int) -> None:
                clock.now += us * machine_us * 1e-6 * float(noise.lognormal(0, 0.1))

            return Contender(own, run)

        report = Report("retrieval", quick=False)
        peers = [contender("faiss-flat", 400.0)]
        params = {"catalog": 1000, "threads": 1}
        report.run(Case("exact", params, "latency_us", contender("native", ours_us), peers, lambda _: None, Plan()))
        path = tmp_path / name
        assert report.finish(path) == 0
        check_report(json.loads(path.read_text()))
        return str(path)

    old = measured("old", 100.0, 1.0, 0)
    busy = measured("busy", 100.0, 3.0, 1)
    slow = measured("slow", 130.0, 1.0, 2)
    capsys.readouterr()
    assert main(["compare", old, busy]) == 0  # the machine, and not the code
    assert main(["compare", old, slow]) == 1
    assert main(["compare", slow, old]) == 0
    assert "SLOWER" in capsys.readouterr().out
