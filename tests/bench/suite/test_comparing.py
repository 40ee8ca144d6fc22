"""Comparing two runs: what counts as slower, what is never judged, and what cannot be compared."""

from __future__ import annotations

import json
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


def saved(path: Path, *rows: dict[str, Any], machine: dict[str, Any] | None = None) -> str:
    value = {"schema": 1, "machine": machine or MACHINE, "commit": "0" * 40, "results": list(rows)}
    path.write_text(json.dumps(value))
    return str(path)


@pytest.fixture
def compared(tmp_path, capsys):
    """Compares two lists of rows; the exit code, what was printed, and the JSON."""

    def run(old: list[dict], new: list[dict], *options: str) -> tuple[int, str, dict]:
        paths = saved(tmp_path / "old.json", *old), saved(tmp_path / "new.json", *new)
        code = main(["compare", *paths, "--json", str(tmp_path / "out.json"), *options])
        return code, capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())

    return run


def test_equal_runs_pass(compared):
    rows = [row(), row(2.0, case="ladder"), row(None, case="apart")]
    code, printed, report = compared(rows, rows)
    assert code == 0
    assert [change["change"] for change in report["changes"]] == [1.0, 1.0]
    assert "2 ratios judged: 0 slower, 0 faster, 0 changed within 15%, 2 the same within their intervals" in printed


def test_rows_with_former_names_of_indexes_match_those_with_the_present_ones(compared):
    pairs = [("index", "scan", "native"), ("index", "ladder (ivfpq)", "ann (ivfpq)"), ("encoder", "eager", "torch")]
    old, new = (
        [row(params={"threads": 1, pair[0]: pair[end]}) for pair in pairs] + [row(baseline=f"exact-{pairs[0][end]}")]
        for end in (1, 2)
    )
    code, _, report = compared(old, new)
    assert (code, len(report["changes"]), report["gone"], report["new"]) == (0, 4, 0, 0)
    assert [change["params"].get("index") for change in report["changes"][:2]] == ["native", "ann (ivfpq)"]


def test_a_slowdown_by_30_percent_fails_and_is_named(compared):
    code, printed, report = compared([row(), row(2.0, case="ladder")], [row(4 / 1.3), row(2.0, case="ladder")])
    assert code == 1
    assert [change["slower"] for change in report["changes"]] == [True, False]
    assert "SLOWER by more than 15% compared with the peer:\n  retrieval exact (catalog=1000 threads=1)" in printed
    assert "ratio 4.00 [3.80, 4.20] -> 3.08 [2.92, 3.23], 0.77 times [" in printed


def test_times_never_count(compared):
    slow = {"p50": 500.0, "p95": 600.0, "p99": 700.0}
    code, printed, _ = compared([row(), row(None, case="alone")], [row(**slow), row(None, case="alone", **slow)])
    assert code == 0
    assert (
        "not judged, without a peer in their process:\n  retrieval alone (catalog=1000 threads=1) latency_us: 50 -> 500"
        in printed
    )


def test_what_may_be_chance_does_not_count(compared):
    assert compared([row(spread=0.3)], [row(4 / 1.3, spread=0.3)])[0] == 0


def test_the_interval_is_that_of_two_independent_ratios(compared):
    rng = np.random.default_rng(0)
    old, new = np.exp(rng.normal(0, 0.04, 200_000)) * 4, np.exp(rng.normal(0, 0.03, 200_000)) * 3
    rows = [
        row(float(np.median(drawn)), None)
        | dict(zip(("ratio_low", "ratio_high"), np.quantile(drawn, (0.025, 0.975)).tolist(), strict=True))
        for drawn in (old, new)
    ]
    (change,) = compared(rows[:1], rows[1:])[2]["changes"]
    assert (change["low"], change["high"]) == pytest.approx(np.quantile(new / old, (0.025, 0.975)).tolist(), rel=2e-3)


def test_the_threshold_is_the_callers(compared):
    pair = [row(spread=0.01)], [row(3.6, spread=0.01)]
    assert compared(*pair)[0] == 0
    assert "changed, within the threshold:" in compared(*pair)[1]
    assert compared(*pair, "--threshold", "0.05")[0] == 1


def test_a_gain_is_told_and_passes(compared):
    code, printed, _ = compared([row()], [row(8.0)])
    assert code == 0
    assert "faster by more than 15%:" in printed


def test_a_ratio_without_an_interval_is_listed_and_not_judged(compared):
    code, printed, report = compared([row(), row(case="loads", spread=None)], [row(), row(1.0, None, case="loads")])
    assert code == 0
    assert not report["changes"][1]["judged"]
    assert "not judged: no interval:\n  retrieval loads" in printed


def test_rows_of_one_run_alone_and_other_versions_are_told(compared, tmp_path, capsys):
    _, printed, _ = compared([row(), row(case="old")], [row(), row(case="new")])
    assert "only in OLD:\n  retrieval old" in printed
    assert "only in NEW:\n  retrieval new" in printed
    newer = MACHINE | {"packages": {"numpy": "2.5.0", "mtaw-fast": "0.2.0"}}
    paths = saved(tmp_path / "a", row()), saved(tmp_path / "b", row(), machine=newer)
    assert main(["compare", *paths]) == 0
    assert "other versions, which may change the peers: numpy 2.4.0 -> 2.5.0\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["backend", "compute_dtype", "nprobe", "pairs", "recall"])
def test_a_row_whose_code_took_another_way_is_still_judged(compared, name):
    params = row()["params"]
    old, new = row(params=params | {name: "native"}), row(0.8, params=params | {name: "reference"})
    code, printed, _ = compared([old], [new])
    assert code == 1
    assert "only in" not in printed
    way = "compared, although our code took another way:\n  retrieval"
    assert (way in printed and f": {name} native -> reference" in printed) == (name != "recall")


def test_equal_rows_of_a_file_are_matched_in_order(compared):
    assert compared([row(4.0), row(2.0)], [row(4.0), row(2.0)])[0] == 0
    assert compared([row(4.0), row(2.0)], [row(4.0), row(1.0)])[0] == 1


def test_records_of_a_benchs_own_form_are_passed_over(compared):
    assert compared([row(), {"bench": "quality", "metrics": {}}], [row()])[0] == 0


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"p50": -1.0}, "result 0 (retrieval): 'p50' is no number over 0"),
        ({"ratio": "4"}, "result 0 (retrieval): 'ratio' is no number over 0"),
        ({"params": None}, "result 0 (retrieval): 'params' is no object"),
        ({"ratio_low": None}, "'ratio_low' and 'ratio_high' must both be there, or neither"),
        ({"baseline": None}, "'baseline' and 'ratio' must both be there, or neither"),
        ({"bench": 3}, "result 0 names no bench"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, capsys, change, shown):
    paths = saved(tmp_path / "old.json", row() | change), saved(tmp_path / "new.json", row())
    assert main(["compare", *paths]) == 1
    message = capsys.readouterr().err
    assert shown in message
    assert message.startswith(f"error: {paths[0]}: ")
    assert message.count("\n") == 1


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    here = saved(tmp_path / "here", row())
    other = saved(tmp_path / "other", row(), machine=MACHINE | {"cores": 16})
    assert main(["compare", here, other]) == 2
    assert "amd-f26-m2-avx512bf16-2c" in capsys.readouterr().err
    assert main(["compare", here, other, "--any-machine"]) == 0
    assert main(["compare", here, saved(tmp_path / "apart", row(None))]) == 2
    assert "nothing to judge" in capsys.readouterr().err
    assert main(["compare", here, str(tmp_path / "none")]) == 1
    assert "there is no such result file" in capsys.readouterr().err
    (tmp_path / "text").write_text("{")
    assert main(["compare", here, str(tmp_path / "text")]) == 1
    (tmp_path / "bare").write_text('{"schema": 1, "results": []}')
    assert main(["compare", here, str(tmp_path / "bare")]) == 1
    assert "it does not say which machine" in capsys.readouterr().err
    (tmp_path / "list").write_text("[]")
    assert main(["compare", here, str(tmp_path / "list")]) == 1
    for threshold in ("0", "1", "nan"):
        assert main(["compare", here, here, "--threshold", threshold]) == 2


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The harness's clock; contenders advance it."""
    fake_time = SimpleNamespace(now=0.0)
    fake_time.perf_counter = lambda: fake_time.now
    fake_time.perf_counter_ns = lambda: round(fake_time.now * 1e9)
    monkeypatch.setattr(comparison, "time", fake_time)
    return fake_time


def test_a_slow_contender_is_caught_through_the_harness(tmp_path, clock, capsys):
    def measured(name: str, ours_us: float, machine_us: float, seed: int) -> str:
        """A bench with noise, on a machine on which everything takes `machine_us` times as long."""
        noise = np.random.default_rng(seed)

        def contender(own: str, us: float) -> Contender:
            def run(_: int) -> None:
                clock.now += us * machine_us * 1e-6 * float(noise.lognormal(0, 0.1))

            return Contender(own, run)

        report = Report("retrieval", quick=False)
        report.run(
            Case(
                "exact", {"catalog": 1000, "threads": 1}, "latency_us", contender("scan", ours_us),
                [contender("faiss-flat", 400.0)], lambda _: None, Plan(),
            )
        )  # fmt: skip
        path = tmp_path / name
        assert report.finish(path) == 0
        check_report(json.loads(path.read_text()))
        return str(path)

    old = measured("old", 100.0, 1.0, 0)
    busy = measured("busy", 100.0, 3.0, 1)
    slow = measured("slow", 130.0, 1.0, 2)
    capsys.readouterr()
    assert main(["compare", old, old]) == 0
    assert main(["compare", old, busy]) == 0  # the machine, and not the code
    assert main(["compare", old, slow]) == 1
    assert main(["compare", slow, old]) == 0
    assert "SLOWER" in capsys.readouterr().out
